"""The settings of Cascade R-CNN."""

from dataclasses import dataclass
from typing import ClassVar

from public.detectors.faster_rcnn.options import TwoStageOptions


@dataclass(frozen=True, kw_only=True)
class CascadeRCNNOptions(TwoStageOptions):
    """How a Cascade R-CNN is built: as a Faster R-CNN, but a region always has one box for all classes."""

    kind: ClassVar[str] = "cascade_rcnn"
