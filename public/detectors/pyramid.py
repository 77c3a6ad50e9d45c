"""The feature pyramid network, the variant of DetNet, and a backbone with one of them on top.

Paper: Lin et al. 2016, https://arxiv.org/abs/1612.03144; P6 and P7: Lin et al. 2017, https://arxiv.org/abs/1708.02002;
DetNet: Li et al. 2018, https://arxiv.org/abs/1804.06215.
Reference: torchvision, whose key names these are (`inner_blocks.0.0`, `layer_blocks.0.0`, `extra_blocks.p6`).
"""

from collections.abc import Mapping
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from public.backbones.catalog import build_backbone
from public.detectors.options import Pyramid, plain_levels
from public.layers.frozen_batch_norm import freeze_batch_norm, set_batch_norm_eps
from public.layers.winograd import run_convolution

ExtraLevels = Literal["c5", "p5"] | None


class _ExtraLevels(nn.Module):
    """P6 from the deepest given map, P7 from P6."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(in_channels, channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, C, H, W] -> P6 [B, channels, H/2, W/2], P7 [B, channels, H/4, W/4]."""
        p6 = run_convolution(self.p6, x)
        return [p6, run_convolution(self.p7, F.relu(p6))]


class FeaturePyramid(nn.Module):
    """{level: [B, C_level, H_level, W_level]} -> a list of [B, channels, H_level, W_level], shallow to deep.

    Args:
        in_channels: channels of each backbone level, shallow to deep, each half the size of the one before.
        channels: of every level that comes out.
        extra: what P6 and P7 are made from: the backbone's deepest map, the pyramid's, or None for neither level.
    """

    def __init__(self, in_channels: Mapping[str, int], channels: int, extra: ExtraLevels) -> None:
        super().__init__()
        # Sequences of one layer carry the "0" of torchvision's names.
        self.inner_blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(c, channels, 1)) for c in in_channels.values())
        self.layer_blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1)) for _ in in_channels
        )
        self.extra = extra
        if extra is not None:
            deepest = list(in_channels.values())[-1] if extra == "c5" else channels
            self.extra_blocks = _ExtraLevels(deepest, channels)

    def forward(self, features: Mapping[str, Tensor]) -> list[Tensor]:
        """The levels of the backbone, then P6 and P7."""
        maps = list(features.values())
        merged = [run_convolution(inner, x) for inner, x in zip(self.inner_blocks, maps, strict=True)]
        for i in range(len(merged) - 2, -1, -1):
            # Nearest, to the exact size of the finer map: odd sizes do not come out of a factor of 2.
            merged[i] = merged[i] + F.interpolate(merged[i + 1], size=merged[i].shape[-2:])
        levels = [run_convolution(layer, x) for layer, x in zip(self.layer_blocks, merged, strict=True)]
        if self.extra is not None:
            levels += self.extra_blocks(maps[-1] if self.extra == "c5" else levels[-1])
        return levels


class DetNetPyramid(nn.Module):
    """{level: [B, C_level, H_level, W_level]} -> a list of [B, channels, H_level, W_level], shallow to deep.

    Levels of one stride are added as they are. A map that is twice as fine as the next is added to that one's bilinear
    enlargement and smoothed by a 3x3 convolution, and it is the smoothed map that is enlarged further.
    Deviation from DetNet_Pytorch of 2018: the enlargement keeps the middles of the corner pixels apart by the true
    stride (align_corners=False), as everything else in a detector does.

    Args:
        in_channels: channels of each backbone level, shallow to deep.
        strides: of each backbone level.
        channels: of every level that comes out.
    """

    def __init__(self, in_channels: Mapping[str, int], strides: Mapping[str, int], channels: int) -> None:
        super().__init__()
        self.inner_blocks = nn.ModuleList(nn.Sequential(nn.Conv2d(c, channels, 1)) for c in in_channels.values())
        num_finer = len(set(strides.values())) - 1  # the first: no backbone strides again once it has stopped
        self.layer_blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1)) for _ in range(num_finer)
        )

    def forward(self, features: Mapping[str, Tensor]) -> list[Tensor]:
        """The levels of the backbone."""
        levels = [run_convolution(inner, x) for inner, x in zip(self.inner_blocks, features.values(), strict=True)]
        for i in range(len(levels) - 2, -1, -1):
            if i < len(self.layer_blocks):
                enlarged = F.interpolate(levels[i + 1], size=levels[i].shape[-2:], mode="bilinear")
                levels[i] = run_convolution(self.layer_blocks[i], levels[i] + enlarged)
            else:
                levels[i] = levels[i] + levels[i + 1]
        return levels


class PyramidBackbone(nn.Module):
    """Images [B, 3, H, W] -> the pyramid's levels, under torchvision's names `body` and `fpn`.

    Args:
        backbone: a name from `public.backbones.catalog`.
        levels: the pyramid's levels, such as ("p3", "p4", "p5", "p6", "p7"): one or more in a row of the
            backbone's, up to p5, then none or both of p6 and p7; with extra="pool" none or p6 alone.
        channels: of each level.
        extra: what P6 and P7 are made from, where `levels` has them: the backbone's deepest map or the pyramid's. Or
            "pool": P6 is a level like the others where the backbone has c6, else every second value of P5.
        pyramid: the standard one, or DetNet's, which knows no P7.
        frozen_stages: levels of the backbone, from the stem on, that do not train.
        frozen_batch_norm: whether the backbone's batch norms keep statistics and weights.
        batch_norm_eps: what they add to a variance, 0 or more; None: as they are.

    Raises:
        ValueError: no such backbone or levels.
    """

    strides: tuple[int, ...]
    """Of each level."""

    def __init__(
        self,
        backbone: str,
        levels: tuple[str, ...],
        *,
        channels: int,
        extra: Literal["c5", "p5", "pool"],
        pyramid: Pyramid = "standard",
        frozen_stages: int = 0,
        frozen_batch_norm: bool = False,
        batch_norm_eps: float | None = None,
    ) -> None:
        super().__init__()
        assert extra == "pool" or pyramid == "standard", (extra, pyramid)
        own = plain_levels(levels, ("p6",) if extra == "pool" else ("p6", "p7"))
        network = build_backbone(backbone)
        if extra == "pool" and "c6" in network.levels:
            own = list(levels)
        self.body = network.to_features([f"c{level[1:]}" for level in own])
        self.pools = extra == "pool" and len(own) < len(levels)
        if pyramid == "detnet":
            self.fpn = DetNetPyramid(self.body.channels, self.body.strides, channels)
        else:
            made = extra if extra != "pool" and "p6" in levels else None
            self.fpn = FeaturePyramid(self.body.channels, channels, made)
        strides = list(self.body.strides.values())
        self.strides = (*strides, *(strides[-1] * 2 ** (i + 1) for i in range(len(levels) - len(own))))
        if frozen_batch_norm:
            freeze_batch_norm(self.body)
        if batch_norm_eps is not None:
            set_batch_norm_eps(self.body, batch_norm_eps)
        self.body.freeze(frozen_stages)

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> a list of [B, channels, ceil(H/stride), ceil(W/stride)]."""
        levels = self.fpn(self.body(images))
        return [*levels, F.max_pool2d(levels[-1], 1, stride=2)] if self.pools else levels
