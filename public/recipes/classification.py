"""Training an image classifier: what differs from other tasks. The start is `start.py`, the loop `train_loop.py`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from public.backbones.build import build_from_options
from public.backbones.catalog import NETWORK_KIND, check_backbone_name
from public.backbones.classifier import ImageClassifier
from public.backbones.features import Backbone
from public.config.classification import ClassificationConfig
from public.datasets.batches import ClassificationBatch, check_batch
from public.datasets.classification import TrainData, build_train_data
from public.datasets.image_formats import DATA_KIND
from public.evaluation.classification import evaluate
from public.evaluation.classification_report import write_report
from public.evaluation.complexity import count
from public.losses.classification import LOSSES
from public.optim.options import OPTIMIZER_KIND, SCHEDULE_KIND
from public.recipes import start
from public.recipes.preparation import preparation
from public.recipes.task import Evaluated, Panels, Task
from public.runtime.distributed import DistributedContext
from public.weights.class_rows import ClassLayers, ClassRows
from public.weights.loading import load_weights
from public.weights.published import note_on_input


class ClassificationTask(Task):
    """Network and loss of an image classifier."""

    kinds = (NETWORK_KIND, DATA_KIND, OPTIMIZER_KIND, SCHEDULE_KIND)
    config: ClassificationConfig

    @classmethod
    def check(cls, config: ClassificationConfig) -> None:
        """Raises ValueError unless there is such a network."""
        check_backbone_name(config.network)

    @classmethod
    def open_data(cls, config: ClassificationConfig, context: DistributedContext) -> TrainData:
        """Both loaders."""
        return build_train_data(config, context)

    @classmethod
    def build_network(cls, config: ClassificationConfig, num_classes: int) -> nn.Module:
        """The network, images [B, 3, H, W] -> logits [B, num_classes], with new weights."""
        network = build_from_options(config.network, num_classes, config.network_options)
        for size in sorted({config.train_size(epoch) for epoch in range(config.epochs)}):
            network.check_size(size)
        return network

    @classmethod
    def load_initial_weights(
        cls, network: nn.Module, config: ClassificationConfig, class_names: list[str]
    ) -> list[str]:
        """All weights but a classifier for another number of classes, or one that the file has not; one of ours by the
        names of its classes."""
        if config.initial_weights is None:
            return []
        allowed = getattr(network, "classifier_prefix", ())  # a network of the experiment's own may have none
        prefixes = (allowed,) if isinstance(allowed, str) else allowed
        report = load_weights(
            network,
            config.initial_weights,
            allow_missing=allowed,
            allow_mismatched=allowed,
            classes=ClassLayers(class_names, dict.fromkeys(prefixes, ClassRows())),
        )
        return [
            f"initial weights {config.initial_weights}: {report}",
            *note_on_input(config.initial_weights, config.data),
        ]

    @classmethod
    def inference(cls, network: nn.Module, config: ClassificationConfig, dtype: torch.dtype) -> ImageClassifier:
        """The network with the data's normalization and the config's layout around it."""
        mean, std = config.data.mean, config.data.std
        return ImageClassifier(
            network,
            mean=mean,
            std=std,
            dtype=dtype,
            channels_last=config.channels_last,
            activation_checkpointing=config.runtime.activation_checkpointing,
        )

    @classmethod
    def smallest_size(cls, config: ClassificationConfig, data: TrainData) -> tuple[int, int]:
        """That of the first epoch."""
        return config.train_size(0), config.train_size(0)

    def begin(self, network: Backbone, data: TrainData, context: DistributedContext) -> None:
        """Puts DropBlock into the network where the row has it."""
        self._data = data
        self._prepare = preparation(self.config, network, data.train.steps_per_epoch)

    def agreed(self, batches: Iterable[ClassificationBatch]) -> Iterator[ClassificationBatch]:
        """The batches as they are, each once it was checked."""
        for batch in batches:
            if isinstance(batch, ClassificationBatch):  # an experiment's own loader may give others
                check_batch(batch, len(self._data.class_names))
            yield batch

    def prepare(self, parts: list[ClassificationBatch], step: int) -> list[Sequence[torch.Tensor]]:
        """Shrinks and mixes the images, as the step asks: images and int64 labels [B], or three tensors of mixtures."""
        return list(self._prepare(parts, step))

    def forward(self, images: torch.Tensor, *labels: torch.Tensor) -> dict[str, torch.Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Images [B, 3, H, W], 0..255, and what `prepare` gave beside them -> the named losses, batch means."""
        return self.losses(self.model(images), *labels)

    def losses(self, logits: torch.Tensor, *labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Float32 logits [B, num_classes] and labels -> the named losses, batch means; what they are called is free."""
        smoothing = self.config.label_smoothing or 0.0
        return {self.config.loss: LOSSES[self.config.loss](logits, *labels, label_smoothing=smoothing)}

    def evaluate(self, evaluated: Evaluated) -> dict[str, float]:
        """top1, top5 (fractions) and loss; writes the report."""
        model, batches, after_batch, context, folder, epoch = evaluated
        result = evaluate(model, batches, context, after_batch=after_batch)
        if context.is_main:
            title = f"{self.config.name}, epoch {epoch}"
            write_report(folder / "report", result, self._data.class_names, self._data.val, title=title)
        return {name: value for name, value in result.metrics.items() if name != "num_images"}

    @property
    def panels(self) -> Panels:
        """Losses, learning rate and accuracy."""
        return (("loss", ("train_loss", "loss")), ("learning rate", ("lr",)), ("accuracy", ("top1", "top5")))

    def summary(self, network: nn.Module) -> str:
        """The network with its size at the data's."""
        size = self.config.data.input_size
        return f"{self.config.network}, {count(network, size)} at {size}x{size}"


def main(
    configs: Mapping[str, ClassificationConfig],
    script: str,
    argv: Sequence[str] | None = None,
    task: type[ClassificationTask] = ClassificationTask,
) -> None:
    """Runs an experiment from its command line: see `start.run_experiment`."""
    start.run_experiment(configs, script, task, argv)


def train(config: ClassificationConfig, path: Path, context: DistributedContext, *, fresh: bool = False) -> int:
    """Trains one row in a run folder; gives the exit code. See `start.train`."""
    return start.train(config, path, context, ClassificationTask, fresh)
