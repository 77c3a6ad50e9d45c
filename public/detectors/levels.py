"""The maps of a pyramid's levels as one list of anchors or of points."""

from collections.abc import Sequence

import torch
from torch import Tensor


def join_anchors(maps: Sequence[Tensor]) -> Tensor:
    """[B, H, W, A, K] of each level -> [B, N, K], in the order of `pyramid_anchors`."""
    return torch.cat([x.flatten(1, 3) for x in maps], dim=1)


def join_points(maps: Sequence[Tensor]) -> Tensor:
    """[B, K, H, W] of each level -> [B, P, K], in the order of `PointGrid`."""
    return torch.cat([x.movedim(1, 3).flatten(1, 2) for x in maps], dim=1)
