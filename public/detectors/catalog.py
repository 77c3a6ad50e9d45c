"""Every detector by its name.

    detector = build_detector("retinanet", num_classes=80, backbone="resnet50")
    outputs = detector(images)                        # normalised [B, 3, H, W] -> a NamedTuple of raw tensors
    losses = detector.loss(outputs, batch)            # {name: scalar}
    detections = detector.decode(outputs, sizes)      # boxes in the original images, scores, labels

A detector is imported when it is built: the list costs nothing.
"""

from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any

from public.config.names import nearest_names

if TYPE_CHECKING:
    from public.detectors.detector import Detector

# name -> module and the class in it
_DETECTORS = {
    "retinanet": ("public.detectors.retinanet.network", "RetinaNet"),
    "fcos": ("public.detectors.fcos.network", "FCOS"),
    "centernet": ("public.detectors.centernet.network", "CenterNet"),
    "faster_rcnn": ("public.detectors.faster_rcnn.network", "FasterRCNN"),
    "cascade_rcnn": ("public.detectors.cascade_rcnn.network", "CascadeRCNN"),
}


def list_detectors() -> list[str]:
    """The names of all detectors."""
    return list(_DETECTORS)


def build_detector(name: str, num_classes: int, **options: Any) -> "Detector":
    """Builds a detector with new weights.

    Args:
        name: one of `list_detectors()`.
        num_classes: object classes; background is none of them.
        options: the keyword arguments of the detector's class, above all `backbone`, a name from
            `public.backbones.catalog`.

    Raises:
        ValueError: unknown name or option, a value out of range, or no class at all.
    """
    check_detector_name(name)
    module, class_name = _DETECTORS[name]
    build = getattr(import_module(module), class_name)
    allowed = [p.name for p in signature(build).parameters.values() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in allowed:
            raise ValueError(f"{name} has no option {option!r}; {nearest_names(option, allowed)}.")
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes} asked of {name}; it must be at least 1.")
    return build(num_classes, **options)


def check_detector_name(name: str) -> None:
    """Raises ValueError, naming the nearest, unless there is such a detector; builds and imports nothing."""
    if name not in _DETECTORS:
        raise ValueError(f"there is no detector {name!r}; {nearest_names(name, _DETECTORS)}.")
