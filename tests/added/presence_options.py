"""The settings of a detector as somebody would add it; what `tests/test_contributing.py` copies."""

from dataclasses import dataclass
from typing import ClassVar

from public.config.checks import require_share
from public.config.options import DetectorOptions


@dataclass(frozen=True, kw_only=True)
class PresenceOptions(DetectorOptions):
    """How a Presence is built."""

    kind: ClassVar[str] = "presence"
    level: str = "c5"
    """Of the backbone, whose mean is looked at."""
    margin: float = 0.1
    """Share of the image's sides that its one box leaves out all around."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_share("detector.margin", self.margin)
