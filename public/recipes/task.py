"""What differs between tasks, and what an experiment may bring of its own.

An experiment's own loss or network is a subclass of the recipe's task in a file of the experiment's folder, given to
`main` in train.py; `public/` stays as it is:

    class FocalTask(ClassificationTask):
        def losses(self, logits, *labels):
            ...

    main(CONFIGS, __file__, task=FocalTask)

A checkpoint names the task, and what reads it looks the class up in that folder and nowhere else (`--experiment`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from public.config.data import DataOptions
from public.config.options import Kind
from public.datasets.batches import EvalLoader, TrainLoader
from public.runtime.distributed import DistributedContext

Panels = Sequence[tuple[str, Sequence[str]]]
"""Of curves.png: a title and the columns of metrics.jsonl drawn under it."""


class Data(Protocol):
    """What a task's data sets give a run."""

    @property
    def train(self) -> TrainLoader[Any]:
        """Batches are NamedTuples of tensors, each with the batch as its first dimension."""
        ...

    @property
    def val(self) -> EvalLoader[Any]:
        """Of the validation images."""
        ...

    @property
    def class_names(self) -> list[str]:
        """Of the labels."""
        ...

    @property
    def category_ids(self) -> list[int] | None:
        """Detection: the data set's own number of each class."""
        ...

    @property
    def num_images(self) -> int:
        """Training images of the whole data set."""
        ...

    @property
    def digests(self) -> Mapping[str, str]:
        """By "training" and "validation": what differs where files, labels or objects do; empty: it is not known."""
        ...

    @property
    def settled(self) -> DataOptions | None:
        """The data's options with what was found out when it was opened, which a run keeps; None: nothing was."""
        ...


class Evaluated(NamedTuple):
    """Where and how an evaluation of the present weights takes place."""

    model: nn.Module
    """What `inference` made of the weights that count, on its device."""
    batches: Iterable[Any]
    """The validation images."""
    after_batch: Callable[[int], None]
    """To be called after each batch with the number of its images."""
    context: DistributedContext
    """This process's place."""
    folder: Path
    """Of the run."""
    epoch: int
    """Epochs done, this one included."""


class Task(nn.Module):
    """Network and losses in one module, which is what DDP, nn.DataParallel and torch.compile wrap.

    Args:
        network: the bare network, whose keys are those of `load_weights`.
        config: the row.
        dtype: of matrix products and convolutions.
    """

    kinds: ClassVar[Sequence[Kind]]
    """Options of the command line that choose what kind a section of the config is."""

    measured: Mapping[str, Any] = {}
    """What the evaluation of the present weights found, to stand beside them in a checkpoint; on the main process."""

    def __init__(self, network: nn.Module, config: Any, dtype: torch.dtype) -> None:
        super().__init__()
        self.config = config
        self.model = self.inference(network, config, dtype)

    # ---- before the run --------------------------------------------------------------------------------------------

    @classmethod
    def resolve(cls, config: Any) -> Any:
        """The config with what only the data tells in the place of what it leaves open: this is what is recorded.

        Raises DataError where the data does not tell.
        """
        return config

    @classmethod
    def check(cls, config: Any) -> None:
        """Raises ValueError where a setting names nothing that exists; called before any data is touched."""

    @classmethod
    def open_data(cls, config: Any, context: DistributedContext) -> Data:
        """The loaders. Raises DataError where the data set is missing, damaged or does not fit the config."""
        raise NotImplementedError

    @classmethod
    def build_network(cls, config: Any, num_classes: int) -> nn.Module:
        """The network with new weights. Raises ValueError where the config does not fit it."""
        raise NotImplementedError

    @classmethod
    def load_initial_weights(cls, network: nn.Module, config: Any, class_names: list[str]) -> list[str]:
        """Loads the weights that the config names, for classes of these names; a line about each for the log."""
        raise NotImplementedError

    @classmethod
    def inference(cls, network: nn.Module, config: Any, dtype: torch.dtype) -> nn.Module:
        """The network as it is used: uint8 images in, predictions out."""
        raise NotImplementedError

    @classmethod
    def smallest_size(cls, config: Any, data: Any) -> tuple[int, int]:
        """Height and width of the smallest training images, pixels, as far as they are known before they are read."""
        raise NotImplementedError

    def begin(self, network: Any, data: Any, context: DistributedContext) -> None:
        """Called once the module is wrapped and on its device, before the optimizer is made."""

    # ---- a step ----------------------------------------------------------------------------------------------------

    def agreed(self, batches: Iterable[Any]) -> Iterable[Any]:
        """This process's batches of an epoch, as they are; for what processes have to agree on before a step."""
        return batches

    def prepare(self, parts: list[Any], step: int) -> list[Sequence[Any]]:
        """The arguments of `forward` for each part of a process's batch; every process calls it once a step.

        Args:
            parts: batches on the device, one for each accumulation step.
            step: optimizer steps since the beginning.
        """
        return parts

    def forward(self, *inputs: Any) -> dict[str, Tensor]:
        """What `prepare` gave for one part -> the named losses, each a mean over the global batch."""
        raise NotImplementedError

    # ---- after an epoch --------------------------------------------------------------------------------------------

    def evaluate(self, evaluated: Evaluated) -> dict[str, float]:
        """The metrics of the present weights; every process calls it and has them."""
        raise NotImplementedError

    @property
    def panels(self) -> Panels:
        """Of curves.png."""
        raise NotImplementedError

    def summary(self, network: nn.Module) -> str:
        """The network's name and size, for the log."""
        raise NotImplementedError


def split(batch: Any, num_parts: int, device: torch.device) -> list[Any]:
    """A batch as so many of the same kind, on the device."""
    columns = (field.to(device, non_blocking=True).chunk(num_parts) for field in batch)
    return [type(batch)(*fields) for fields in zip(*columns, strict=True)]
