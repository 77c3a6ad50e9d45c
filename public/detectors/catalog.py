"""Every detector by its name.

    detector = build_detector("retinanet", num_classes=80, backbone="resnet50")
    outputs = detector(images)                        # normalized [B, 3, H, W] -> a NamedTuple of raw tensors
    losses = detector.loss(outputs, detector.targets(batch))  # {name: scalar}
    detections = detector.decode(outputs, sizes)      # boxes in the original images, scores, labels

A detector is imported when it is built: the list and the options cost nothing.
"""

from dataclasses import fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from public.config.checks import require
from public.config.names import nearest_names
from public.config.options import DetectorOptions, Kind
from public.detectors.cascade_rcnn.options import CascadeRCNNOptions
from public.detectors.centernet.options import CenterNetOptions
from public.detectors.faster_rcnn.options import FasterRCNNOptions
from public.detectors.fcos.options import FCOSOptions
from public.detectors.retinanet.options import RetinaNetOptions

if TYPE_CHECKING:
    from public.detectors.detector import Detector


class Entry(NamedTuple):
    """A detector: its options, and the module and the class in it that takes them."""

    options: type[DetectorOptions]
    module: str
    class_name: str


DETECTORS: dict[str, Entry] = {
    entry.options.kind: entry
    for entry in (
        Entry(RetinaNetOptions, "public.detectors.retinanet.network", "RetinaNet"),
        Entry(FCOSOptions, "public.detectors.fcos.network", "FCOS"),
        Entry(CenterNetOptions, "public.detectors.centernet.network", "CenterNet"),
        Entry(FasterRCNNOptions, "public.detectors.faster_rcnn.network", "FasterRCNN"),
        Entry(CascadeRCNNOptions, "public.detectors.cascade_rcnn.network", "CascadeRCNN"),
    )
}


def list_detectors() -> list[str]:
    """The names of all detectors."""
    return list(DETECTORS)


def check_detector_name(name: str) -> None:
    """Raises ValueError, naming the nearest, unless there is such a detector; builds and imports nothing."""
    require(name in DETECTORS, f"there is no detector {name!r}; {nearest_names(name, DETECTORS)}.")


def options_type(name: str) -> type[DetectorOptions]:
    """The class of a detector's options; raises ValueError, naming the nearest, where there is no such detector."""
    check_detector_name(name)
    return DETECTORS[name].options


DETECTOR_KIND = Kind("network", "detector", tuple(DETECTORS), options_type)


def build_from_options(num_classes: int, options: DetectorOptions) -> "Detector":
    """Builds the detector whose options these are, with new weights.

    Args:
        num_classes: object classes; background is none of them.
        options: of one of the detectors of this catalog.

    Raises:
        ValueError: no class at all, no such backbone, or one that does not fit the options.
    """
    require(num_classes >= 1, f"num_classes={num_classes} asked of {options.kind}; it must be at least 1.")
    _, module, class_name = DETECTORS[options.kind]
    return getattr(import_module(module), class_name)(num_classes, options)


def build_detector(name: str, num_classes: int, **options: Any) -> "Detector":
    """As `build_from_options`, with the options by keyword.

    Args:
        name: one of `list_detectors()`.
        num_classes: object classes; background is none of them.
        options: fields of the detector's options, above all `backbone`, a name from `public.backbones.catalog`.

    Raises:
        ValueError: unknown name or option, a value out of range, or no class at all.
    """
    kind = options_type(name)
    allowed = [f.name for f in fields(kind)]
    for option in options:
        require(option in allowed, f"{name} has no option {option!r}; {nearest_names(option, allowed)}.")
    return build_from_options(num_classes, kind(**options))
