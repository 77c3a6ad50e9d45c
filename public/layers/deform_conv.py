"""Deformable convolution: each tap looks where the image tells it to, and counts as much as the image tells it to.

Paper: Zhu et al. 2018, https://arxiv.org/abs/1811.11168 (version 2, with a mask beside the offsets).
Reference: torchvision.ops.deform_conv2d. Key names are those of CharlesShang's DCNv2, whose `DCN` weights load as they
are.

torchvision's operator is made for CUDA, where its gradients are added in any order; on a CPU it is one thread and many
scattered additions, and other devices lack it. There, and where a GPU has to add in a fixed order, the taps are read by
`embedding_bag`, which adds up weighted rows of a table, with the map's pixels as the rows; a matrix product does the
rest. On a CPU forward and backward together take about a seventh of the time.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from public.runtime.device import must_add_in_order
from public.runtime.tracing import is_exporting


class DeformConv(nn.Module):
    """[B, in_channels, H, W] -> [B, out_channels, H, W].

    Sampling computes in float32 also under autocast: bf16 has no fractions of a pixel beyond the 128th.

    Args:
        in_channels: of the map.
        out_channels: of the result.
        kernel_size: odd; the map is padded with zeros by half of it.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        assert kernel_size % 2 == 1, kernel_size
        self.kernel_size = kernel_size
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # as torch draws those of a plain convolution
        # For each tap, row by row, y and x of its offset; then for each tap its mask. At first all offsets are zero,
        # and all masks a half.
        self.conv_offset_mask = nn.Conv2d(in_channels, 3 * kernel_size**2, kernel_size, padding=kernel_size // 2)
        nn.init.zeros_(self.conv_offset_mask.weight)
        assert self.conv_offset_mask.bias is not None
        nn.init.zeros_(self.conv_offset_mask.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in_channels, H, W] -> [B, out_channels, H, W]."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        num_taps = self.kernel_size**2
        offsets, mask = self.conv_offset_mask(x).to(dtype).split([2 * num_taps, num_taps], dim=1)
        mask = mask.sigmoid()  # [B, taps, H, W]
        if is_exporting() or (x.device.type == "cuda" and not must_add_in_order(x.device)):
            return self._by_torchvision(x.to(dtype), offsets, mask).to(x.dtype)
        return self._by_rows(x.to(dtype), offsets, mask)

    def _by_torchvision(self, x: Tensor, offsets: Tensor, mask: Tensor) -> Tensor:
        padding = (self.kernel_size // 2, self.kernel_size // 2)
        with torch.autocast(x.device.type, enabled=False):
            weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
            return deform_conv2d(x, offsets, weight, bias, padding=padding, mask=mask)

    def _by_rows(self, x: Tensor, offsets: Tensor, mask: Tensor) -> Tensor:
        taps = _sample(x, offsets, mask, self.kernel_size)  # [B, H, W, taps * in_channels]
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)  # [out_channels, taps * in_channels]
        # In the precision of autocast.
        return F.linear(taps.to(weight.dtype), weight, self.bias).permute(0, 3, 1, 2)


def _sample(x: Tensor, offsets: Tensor, mask: Tensor, kernel_size: int) -> Tensor:
    """Reads a map bilinearly at each tap of each place, zero outside of it.

    Args:
        x: float32 [B, C, H, W].
        offsets: float32 [B, 2 * taps, H, W], y and x of each tap in pixels.
        mask: float32 [B, taps, H, W], factors of what is read.
        kernel_size: taps lie on a square of so many by so many pixels around the place.

    Returns:
        float32 [B, H, W, taps * C].
    """
    batch_size, channels, height, width = x.shape
    num_taps = kernel_size**2
    offsets = offsets.view(batch_size, num_taps, 2, height, width)
    tap_y, tap_x = _tap_positions(kernel_size, x.device)  # [taps, 1, 1]
    row, below = _split(offsets[:, :, 0] + tap_y + torch.arange(height, device=x.device)[:, None], height)
    column, right = _split(offsets[:, :, 1] + tap_x + torch.arange(width, device=x.device), width)

    # Two pixels of zeros all around: whatever lies outside reads them.
    table = F.pad(x.permute(0, 2, 3, 1), (0, 0, 2, 2, 2, 2)).reshape(-1, channels)  # [pixels, C]
    pitch = width + 4
    image = torch.arange(batch_size, device=x.device).view(-1, 1, 1, 1)
    first = (image * (height + 4) + row + 2) * pitch + column + 2  # [B, taps, H, W]
    corners = torch.stack([first, first + 1, first + pitch, first + pitch + 1], dim=-1)
    above, left = (1 - below) * mask, 1 - right
    below = below * mask
    weights = torch.stack([above * left, above * right, below * left, below * right], dim=-1)
    corners, weights = corners.permute(0, 2, 3, 1, 4), weights.permute(0, 2, 3, 1, 4)  # [B, H, W, taps, 4]
    rows = F.embedding_bag(
        corners.reshape(-1, 4), table, per_sample_weights=weights.reshape(-1, 4), mode="sum"
    )  # [B * H * W * taps, C]
    return rows.view(batch_size, height, width, num_taps * channels)


def _split(position: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Positions in pixels -> the whole pixel before, at -2 or `size` where both neighbors lie outside; the rest."""
    whole = position.detach().floor()
    # A NaN, of training that diverged, is no index; it goes on in the rest.
    return whole.nan_to_num().clamp(-2, size).long(), position - whole


def _tap_positions(kernel_size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """y and x of the taps against the middle one, row by row: each [taps, 1, 1]."""
    steps = torch.arange(kernel_size, device=device) - kernel_size // 2
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    return y.reshape(-1, 1, 1), x.reshape(-1, 1, 1)
