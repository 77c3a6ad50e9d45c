"""Operators and host waits of a training step and of decoding, ours against torchvision's.

    python -m benchmarks.host_waits                                   every detector and a ResNet-50, batch 8
    python -m benchmarks.host_waits --only fcos --precision bf16

A host wait is an operator whose result the host must know before it can go on: how many entries are not zero, which
boxes stay, the value of a number, what is copied to the host. A GPU has then nothing to do until the host has queued
its next work. They are counted on a CPU, where ours takes the ways of a GPU (`fixed_shapes`). A training step is
normalization, network, targets, losses, backward, clipping and SGD: ours as `build_optimizer` makes it, torchvision's
as torch does on a GPU (foreach). Decoding leads from a network's outputs to detections. The finite check's reading of
losses that were copied without waiting is not part of it. The operators of the network, which are backbone, heads and
the arrival of gradients at the parameters, are counted apart. "Training" computes nothing a second time, "default" what
a run on a GPU computes again to save memory (`runtime.activation_checkpointing`). Averaged weights are ours alone, and
a part of their own.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import tyro
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.hooks import RemovableHandle
from torchvision.models import resnet50

from benchmarks.compare import append_result
from benchmarks.gpu_speed import PEERS
from benchmarks.gpu_steps import CLASSIFICATION, SCORE_THRESHOLD
from benchmarks.random_batches import NUM_CLASSES, random_batch, torchvision_targets
from public.backbones.catalog import build_backbone
from public.config.data import IMAGENET_MEAN, IMAGENET_STD
from public.config.run import Checkpointing
from public.datasets.batches import DetectionBatch
from public.detectors.catalog import build_detector, list_detectors
from public.detectors.detector import ImageDetector
from public.geometry.fixed_shapes import fixed_shapes
from public.layers.normalize import Normalize
from public.layers.recompute import recomputing
from public.losses.classification import cross_entropy
from public.optim.ema import AveragedWeights
from public.optim.optimizers import build_optimizer
from public.optim.options import SGDOptions
from public.runtime.device import PRECISION_DTYPES, autocast

WAITING = (
    *("nonzero", "nonzero_static", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "bincount"),
    *("_local_scalar_dense", "equal", "is_nonzero", "nms", "repeat_interleave"),
)
"""Operators whose result, or its shape, is known only when they are done; unless they are told the shape."""
TO_HOST = ("tolist", "numpy", "cpu", "__array__")
"""Methods of a tensor that copy it to the host."""
TO_DEVICE = ("new_tensor",)
"""Those that make the host wait until what it has was copied to the device."""
NETWORKS = (
    *("backbone", "head", "rpn.head"),
    *("upsample", "heatmap_head", "offset_head", "wh_head"),
    *(
        f"roi_heads.{part}.{layer}"
        for part in ("box_head", "box_predictor")
        for layer in ("fc6", "fc7", "cls_score", "bbox_pred")
    ),
)
"""What a detector's network consists of, under the names of torchvision and ours."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    only: tuple[str, ...] = (*list_detectors(), CLASSIFICATION)
    """Detectors, or classification."""
    backbone: str = "resnet50"
    """Of ours; torchvision's is a ResNet-50, and is left out where ours is another."""
    batch_size: int = 8
    """Images."""
    canvas: int = 128
    """Height and width in pixels, which change no number."""
    num_objects: int = 7
    """In each image."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of networks."""
    seed: int = 0
    """Of weights, images and boxes."""


class HostWaits(TorchDispatchMode):
    """Counts, as long as it is entered, operators and host waits by name.

    Args:
        network: modules whose operators, forward and backward, are counted apart, too.
    """

    def __init__(self, network: Sequence[nn.Module] = ()) -> None:
        super().__init__()
        self.num_operators = 0
        self.num_of_network = 0
        self.waits: Counter[str] = Counter()
        self._methods = _Methods(self.waits)
        self._network = _Network(network)

    def __enter__(self) -> "HostWaits":
        self._methods.__enter__()
        self._network.watch()
        return super().__enter__()

    def __exit__(self, *args: Any) -> None:
        super().__exit__(*args)
        self._network.leave()
        self._methods.__exit__(*args)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.num_operators += 1
        self.num_of_network += self._network.is_at_work()
        if is_wait(func, args, kwargs):
            self.waits[func.overloadpacket.__name__] += 1
        return func(*args, **kwargs)

    def __str__(self) -> str:
        by_name = ", ".join(f"{count} {name}" for name, count in self.waits.most_common())
        of_network = f" ({self.num_of_network:>4} of the network)" if self.num_of_network else ""
        return f"{self.num_operators:>5} operators{of_network} {sum(self.waits.values()):>4} waits  {by_name}".rstrip()


class _Network:
    """Says of an operator whether it is one of some modules: of their forward pass, or of what that left to do."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._modules = modules
        self._handles: list[RemovableHandle] = []
        self._depth = 0
        self._begin = 0
        self._spans: list[tuple[int, int]] = []

    def watch(self) -> None:
        """From now on."""
        for module in self._modules:
            self._handles += [module.register_forward_pre_hook(self._enter), module.register_forward_hook(self._exit)]

    def leave(self) -> None:
        """No longer."""
        for handle in self._handles:
            handle.remove()

    def is_at_work(self) -> bool:
        """Whether the operator that comes to the dispatcher now is theirs."""
        node = torch._C._current_autograd_node()  # pyright: ignore[reportAttributeAccessIssue]
        if node is None:
            return self._depth > 0
        number = node._sequence_nr()
        is_parameters = "AccumulateGrad" in node.name()
        return (is_parameters and bool(self._modules)) or any(first <= number < end for first, end in self._spans)

    # The nodes that a forward pass leaves to the backward pass are numbered in their order.
    def _enter(self, *_: Any) -> None:
        if self._depth == 0:
            self._begin = torch._C._autograd._get_sequence_nr()  # pyright: ignore[reportAttributeAccessIssue]
        self._depth += 1

    def _exit(self, *_: Any) -> None:
        self._depth -= 1
        if self._depth == 0:
            end = torch._C._autograd._get_sequence_nr()  # pyright: ignore[reportAttributeAccessIssue]
            self._spans.append((self._begin, end))


class _Methods(TorchFunctionMode):
    """Counts what never comes to the dispatcher on a CPU: there a tensor lies on the host already."""

    def __init__(self, waits: Counter[str]) -> None:
        super().__init__()
        self._waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in TO_HOST or name in TO_DEVICE:
            self._waits[name] += 1
        return func(*args, **(kwargs or {}))


def is_wait(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether the host waits for an operator on a GPU, whatever device its arguments are on."""
    name = func.overloadpacket.__name__
    if name == "repeat_interleave":
        return kwargs.get("output_size") is None
    if name in ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"):
        masks = [x for x in args[1] if x is not None and x.dtype in (torch.bool, torch.uint8)]
        # One number is filled in where the mask says so, without a list of the places.
        return bool(masks) and not (name.startswith("index_put") and args[2].numel() == 1)
    if name in ("_to_copy", "copy_"):
        return _is_waited_copy(name, args, kwargs)
    return name in WAITING


def _is_waited_copy(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Any to the host; and any to a GPU that does not say that nobody waits for it."""
    if name == "copy_":
        source, target, waits = args[1], args[0].device, not (args[2:] and args[2])
    else:
        source, target, waits = args[0], kwargs.get("device") or args[0].device, not kwargs.get("non_blocking")
    ways = source.device.type, torch.device(target).type
    return ways == ("cuda", "cpu") or (waits and ways == ("cpu", "cuda"))


def counted(run: Callable[[], Any], network: Sequence[nn.Module] = ()) -> HostWaits:
    """What a function does, once it has run without being counted: what is kept for the next time is made then."""
    run()
    with HostWaits(network) as waits:
        run()
    return waits


def network_of(model: nn.Module) -> list[nn.Module]:
    """The modules of a detector that are its network."""
    modules = dict(model.named_modules())
    return [modules[name] for name in NETWORKS if name in modules]


def training_step(
    network: nn.Module, losses: Callable[[], dict[str, Tensor]], optimizer: torch.optim.Optimizer | None = None
) -> Callable[[], None]:
    """A step with the losses of a network's parameters, and our optimizer or the given one."""
    own = optimizer or build_optimizer(network, SGDOptions(lr=1e-4, weight_decay=1e-4))

    def run() -> None:
        torch.stack(list(losses().values())).sum().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        own.step()
        own.zero_grad(set_to_none=True)

    return run


def foreach_sgd(network: nn.Module) -> torch.optim.Optimizer:
    """As torch makes it where nothing is said, and the parameters lie on a GPU."""
    return torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4, foreach=True)


def of_detector(name: str, options: Options, batch: DetectionBatch) -> dict[str, HostWaits]:
    """Of one of ours."""
    detector = build_detector(name, NUM_CLASSES, backbone=options.backbone, score_threshold=SCORE_THRESHOLD)
    dtype = PRECISION_DTYPES[options.precision]
    model = ImageDetector(detector, mean=IMAGENET_MEAN, std=IMAGENET_STD, dtype=dtype)
    averaged = AveragedWeights(detector, 0.999)
    averaged.update(detector)
    with fixed_shapes():
        found = {
            "training": of_step(model, batch, "off"),
            "default": of_step(model, batch),
            "averaging": counted(lambda: averaged.update(detector)),
        }
        with torch.no_grad():
            outputs = model.eval().outputs(batch.images)
            return found | {"decoding": counted(lambda: detector.decode(outputs, batch.sizes))}


def of_step(model: ImageDetector, batch: DetectionBatch, what: Checkpointing | None = None) -> HostWaits:
    """Of a training step, its network apart; `what` is computed again, by default what the model would on a GPU."""
    detector = model.detector
    what = what or model.computed_again(torch.device("cuda"))

    def losses() -> dict[str, Tensor]:
        targets = detector.targets(batch)
        with autocast(batch.images.device, model.dtype), recomputing(what):
            outputs = detector(model.normalize(batch.images))
        return detector.loss(outputs, targets, detector.normalizer(targets))

    return counted(training_step(detector, losses), network_of(detector))


def of_torchvision(name: str, options: Options, batch: DetectionBatch) -> dict[str, HostWaits]:
    """Of torchvision's detector of that name; decoding is its inference without what the network alone takes."""
    model: Any = PEERS[name](
        weights=None,
        weights_backbone=None,
        num_classes=NUM_CLASSES + 1,
        min_size=options.canvas,
        max_size=options.canvas,
        **{"box_score_thresh" if name == "faster_rcnn" else "score_thresh": SCORE_THRESHOLD},
    )
    images, targets = list(batch.images / 255), torchvision_targets(batch, first_label=1)
    dtype = PRECISION_DTYPES[options.precision]

    def outputs(*arguments: Any) -> Any:
        with autocast(batch.images.device, dtype):
            return model(*arguments)

    step = training_step(model, lambda: outputs(images, targets), foreach_sgd(model))
    training = counted(step, network_of(model))
    model.eval()
    with torch.no_grad():
        whole, network = counted(lambda: outputs(images)), counted(lambda: torchvision_network(model, images))
    whole.num_operators -= network.num_operators
    whole.waits -= network.waits
    return {"training": training, "decoding": whole}


def torchvision_network(model: Any, images: list[Tensor]) -> None:
    """Normalization, backbone and heads, without anchors, proposals and what comes behind."""
    batch, _ = model.transform(images)
    maps = list(model.backbone(batch.tensors).values())
    model.rpn.head(maps) if hasattr(model, "rpn") else model.head(maps)


def of_classification(options: Options, batch: DetectionBatch) -> dict[str, dict[str, HostWaits]]:
    """Of our classification on the backbone, and of torchvision's ResNet-50."""
    labels, dtype = batch.labels[:, 0], PRECISION_DTYPES[options.precision]
    normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)
    found = {}
    for name, network in {"ours": build_backbone(options.backbone), "torchvision": resnet50()}.items():

        def losses(network: nn.Module = network) -> dict[str, Tensor]:
            with autocast(batch.images.device, dtype):
                return {"loss": cross_entropy(network(normalize(batch.images)), labels)}

        optimizer = foreach_sgd(network) if name == "torchvision" else None
        found[name] = {"training": counted(training_step(network, losses, optimizer), [network])}
    return found


def main(options: Options) -> None:
    """Counts, prints and appends to results.jsonl."""
    torch.manual_seed(options.seed)
    device = torch.device("cpu")
    batch = random_batch(options.batch_size, options.num_objects, (options.canvas, options.canvas), device)
    numbers: dict[str, Any] = {}
    for name in options.only:
        if name == CLASSIFICATION:
            found = of_classification(options, batch)
        else:
            found = {"ours": of_detector(name, options, batch)}
            if name in PEERS and options.backbone == "resnet50":
                found["torchvision"] = of_torchvision(name, options, batch)
        for whose, parts in found.items():
            for part, waits in parts.items():
                print(f"{name:<14} {whose:<12} {part:<9} {waits}", flush=True)
                numbers[f"{name} {whose} {part}"] = {
                    "operators": waits.num_operators,
                    "of_network": waits.num_of_network,
                    "waits": dict(waits.waits),
                }
        if "torchvision" in found:
            shares = {
                part: waits.num_operators / found["torchvision"]["training"].num_operators
                for part, waits in found["ours"].items()
                if part in ("training", "default")
            }
            said = ", ".join(f"{share:.3f} ({part})" for part, share in shares.items())
            print(f"{name:<14} a step has of torchvision's operators {said}", flush=True)
    words = f"random objects, batch {options.batch_size}, {options.backbone}, {options.precision}"
    append_result("host_waits", {"counts": numbers}, device, words)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
