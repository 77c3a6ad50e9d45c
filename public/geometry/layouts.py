"""Where the points and anchors of a map's cells lie: a name that options can use without importing torch."""

from typing import Literal

Layout = Literal["centered", "torchvision"]
"""centered: around the middles of the cells, (i + 0.5) * stride; torchvision: where torchvision's lie."""
