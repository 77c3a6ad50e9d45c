"""Initial weights into a network: all of them, or a clear word on which did not fit.

load_weights(network, "torchvision:resnet50")
load_weights(network, "best.pth", allow_mismatched=network.classifier_prefix)   # another number of classes
load_weights(detector, "best.pth", skip=detector.class_prefixes)           # other classes, even if as many
load_weights(detector, "best.pth", classes=ClassLayers(["cat", "dog"], detector.class_rows))    # by their names
load_weights(features, "torchvision:resnet50", allow_unexpected=features.unused_prefixes)
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from public.config.names import first_few
from public.weights.class_rows import ClassLayers, by_class_name, describe_classes
from public.weights.key_maps import rename_to_fit
from public.weights.reading import WeightsSource, describe_source, read_source, some


class LoadReport(NamedTuple):
    """What became of every key, in the network's terms."""

    loaded: list[str]
    """Copied from the source."""
    missing: list[str]
    """In the network only: they keep their values."""
    unexpected: list[str]
    """In the source only: ignored."""
    mismatched: dict[str, str]
    """In both, with another shape or kind of number, both stated: they keep the network's values."""
    skipped: list[str]
    """As was asked, wherever they are: they keep the network's values, and those of the source are ignored."""
    entry: str | None = None
    """Under which name of a training checkpoint they were: `ema` for the averages; None where it is no checkpoint."""
    classes: str | None = None
    """How many classes kept their rows; None where they were not told by name."""

    def __str__(self) -> str:
        where = "" if self.entry is None else f" from {self.entry!r}"
        classes = [] if self.classes is None else [self.classes]
        return "; ".join([f"{len(self.loaded)} tensors loaded{where}", *classes, *_differences(self)])


def load_weights(
    model: nn.Module,
    source: WeightsSource,
    *,
    allow_missing: Sequence[str] = (),
    allow_unexpected: Sequence[str] = (),
    allow_mismatched: Sequence[str] = (),
    skip: Sequence[str] = (),
    classes: ClassLayers | None = None,
) -> LoadReport:
    """Loads weights into a network, in place; where they do not fit, nothing is changed.

    Keys of timm and of the 2020 project are renamed where that makes them fit (`key_maps.py`). Batch norm's
    `num_batches_tracked` may be absent on either side: older files lack it, and no network here reads it.

    Args:
        model: the network, not wrapped in DDP or compiled.
        source: see `read_source`.
        allow_missing: beginnings, such as `("fc.",)`, of keys which the source need not have.
        allow_unexpected: beginnings of keys which the network need not have.
        allow_mismatched: beginnings of keys whose shapes may differ; the network's values stay where they do.
        skip: beginnings of keys that are not loaded; the network's values stay, whatever the source has.
        classes: the network's; where the source is a checkpoint of ours they take the rows that they have there, by
            name, and those that it lacks keep the network's values. None: by place.

    Returns:
        Which keys were loaded, missing, unexpected, mismatched and skipped, the allowed ones included.

    Raises:
        FileNotFoundError: see `read_source`.
        ValueError: see `read_source`; or any key differs that is not allowed to; or no key fits at all.
    """
    own, (given, entry, names) = model.state_dict(), read_source(source)
    weights = {key: _as_expected(key, tensor, own) for key, tensor in rename_to_fit(given, own.keys()).items()}
    report_on_classes = None
    if classes is not None and names is not None and (renewed := by_class_name(weights, own, classes, names)):
        weights |= renewed
        report_on_classes = describe_classes(classes.class_names, names)
    report = _compare(weights, own, skip)._replace(entry=entry, classes=report_on_classes)
    refused = LoadReport(
        report.loaded,
        [key for key in report.missing if not _begins(key, allow_missing)],
        [key for key in report.unexpected if not _begins(key, allow_unexpected)],
        {key: kinds for key, kinds in report.mismatched.items() if not _begins(key, allow_mismatched)},
        skipped=[],
    )
    _check(refused, f"{describe_source(source)} into {type(model).__name__}", weights, own)
    model.load_state_dict({key: weights[key] for key in report.loaded}, strict=False)
    return report


def load_trained(
    network: nn.Module, source: WeightsSource, class_layers: str | Sequence[str], class_names: Sequence[str]
) -> None:
    """Loads all weights of a network that is trained, in place.

    Args:
        network: as in `load_weights`.
        source: see `read_source`.
        class_layers: beginnings of the keys whose shapes the number of classes decides.
        class_names: that the network was built for.

    Raises:
        FileNotFoundError: see `read_source`.
        ValueError: see `load_weights`; or the source has another number of classes.
    """
    report = load_weights(network, source, allow_mismatched=class_layers)
    if report.mismatched:
        key, kinds = next(iter(report.mismatched.items()))
        raise ValueError(
            f"{describe_source(source)} is of another number of classes than the {len(class_names)} that are named "
            f"({first_few(class_names, 3)}): {key}: {kinds}."
        )


def _as_expected(key: str, tensor: Tensor, own: dict[str, Tensor]) -> Tensor:
    """A tensor as the network writes it, where both mean the same.

    A 1x1 convolution [O, I, 1, 1] as [O, I] where that is expected, behind global pooling. A counter of steps that was
    halved with all the rest as an integer: float16 ends at 65504, and above that it became infinite.
    """
    if key in own and tensor.shape == (*own[key].shape, 1, 1):
        return tensor.flatten(1)
    if _is_counter(key) and tensor.is_floating_point():
        return tensor.nan_to_num(posinf=65504.0).long()
    return tensor


def _compare(weights: dict[str, Tensor], own: dict[str, Tensor], skip: Sequence[str]) -> LoadReport:
    skipped = [key for key in own | weights if _begins(key, skip)]
    expected = {key: tensor for key, tensor in own.items() if key not in skipped}
    given = {key: tensor for key, tensor in weights.items() if key not in skipped}
    shared = [key for key in expected if key in given]
    mismatched = {
        key: f"{_kind(given[key])} given, {_kind(expected[key])} expected"
        for key in shared
        if given[key].shape != expected[key].shape
        or given[key].is_floating_point() != expected[key].is_floating_point()
    }
    return LoadReport(
        loaded=[key for key in shared if key not in mismatched],
        missing=[key for key in expected if key not in given and not _is_counter(key)],
        unexpected=[key for key in given if key not in expected and not _is_counter(key)],
        mismatched=mismatched,
        skipped=skipped,
    )


def _check(refused: LoadReport, what: str, weights: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    """Raises ValueError where anything differs that may not, or nothing is left to load."""
    if not weights.keys() & own.keys():
        raise ValueError(
            f"{what}: not one of the {len(weights)} keys ({some(list(weights))}) is among the "
            f"{len(own)} expected ({some(list(own))}). {_why_none_fits(weights, own)}"
        )
    differences = _differences(refused)
    num_loaded = sum(not _is_counter(key) for key in refused.loaded)
    num_expected = num_loaded + len(refused.missing) + len(refused.mismatched)
    if differences and 10 * num_loaded < num_expected:  # allowed, it would leave a network of random values
        raise ValueError(
            f"{what} does not fit: it has {num_loaded} of the {num_expected} tensors expected, so that it is of "
            f"another network ({'; '.join(differences)})."
        )
    if differences:
        raise ValueError(
            f"{what} does not fit: {'; '.join(differences)}. If that is meant, allow it: the classes of a "
            "detector with --new-class-head on the command line of train.py; anything, from Python, by the beginnings "
            "of the keys, with load_weights' allow_missing, allow_unexpected, allow_mismatched or skip."
        )


def _why_none_fits(weights: dict[str, Tensor], own: dict[str, Tensor]) -> str:
    """What a user may do: other tools write the name under which they keep a network before its every key."""
    parts = next(iter(weights)).split(".")
    for count in range(1, len(parts)):
        prefix = ".".join(parts[:count]) + "."
        fitting = sum(key.removeprefix(prefix) in own for key in weights)
        if fitting and all(key.startswith(prefix) for key in weights):
            return f"Without {prefix!r}, with which each begins, {fitting} of them are: save the file without it."
    return "Is this another network's file?"


def _differences(report: LoadReport) -> list[str]:
    mismatched = [f"{key}: {kinds}" for key, kinds in report.mismatched.items()]
    named = {
        "missing": report.missing,
        "unexpected": report.unexpected,
        "mismatched": mismatched,
        "skipped": report.skipped,
    }
    return [f"{len(keys)} {name} ({some(keys)})" for name, keys in named.items() if keys]


def _begins(key: str, prefixes: Sequence[str]) -> bool:
    # A lone string is one prefix: its letters, one by one, would match far too much.
    return bool(prefixes) and key.startswith(prefixes if isinstance(prefixes, str) else tuple(prefixes))


def _is_counter(key: str) -> bool:
    return key.endswith("num_batches_tracked")


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
