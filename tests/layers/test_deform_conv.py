"""Deformable convolution against loops, against torchvision's operator, and by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from public.layers.deform_conv import DeformConv


def layer(in_channels: int, out_channels: int, kernel_size: int = 3, spread: float = 0.0) -> DeformConv:
    """With offsets of about `spread` pixels, and a bias."""
    torch.manual_seed(0)
    made = DeformConv(in_channels, out_channels, kernel_size)
    nn.init.normal_(made.bias)
    nn.init.normal_(made.conv_offset_mask.weight, std=spread / math.sqrt(in_channels * kernel_size**2))
    return made


def reference(made: DeformConv, x: Tensor) -> Tensor:
    """torchvision's operator with the layer's weights; 27 channels: 18 offsets, then 9 masks."""
    num_taps = made.kernel_size**2
    raw = F.conv2d(x, made.conv_offset_mask.weight, made.conv_offset_mask.bias, padding=made.kernel_size // 2)
    first, second, mask = raw.chunk(3, dim=1)  # as CharlesShang's DCN takes them apart
    offsets = torch.cat([first, second], dim=1)
    assert mask.shape[1] == num_taps
    padding = (made.kernel_size // 2, made.kernel_size // 2)
    return deform_conv2d(x, offsets, made.weight, made.bias, padding=padding, mask=mask.sigmoid())


def bilinear(plane: list[list[float]], y: float, x: float) -> float:
    """The value between pixels, zero outside of them."""
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < len(plane) and 0 <= column < len(plane[0]):
                total += plane[row][column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def in_loops(made: DeformConv, x: Tensor) -> Tensor:
    """The definition, one number at a time."""
    raw = made.conv_offset_mask(x)
    _, channels, height, width = x.shape
    out = torch.empty(len(x), len(made.weight), height, width)
    for image in range(len(x)):
        for row in range(height):
            for column in range(width):
                total = made.bias.detach().clone()
                for tap in range(9):
                    dy, dx = (float(raw[image, 2 * tap + i, row, column]) for i in (0, 1))
                    factor = 1 / (1 + math.exp(-float(raw[image, 18 + tap, row, column])))
                    y, at = row + tap // 3 - 1 + dy, column + tap % 3 - 1 + dx
                    for channel in range(channels):
                        read = factor * bilinear(x[image, channel].tolist(), y, at)
                        total += read * made.weight.detach()[:, channel, tap // 3, tap % 3]
                out[image, :, row, column] = total
    return out


@pytest.mark.parametrize("spread", [0.7, 4.0])
def test_equals_loops(spread: float) -> None:
    """Some taps between pixels, some on the border, some far outside."""
    made = layer(2, 3, spread=spread)
    x = torch.randn(2, 2, 4, 5)
    with torch.no_grad():
        torch.testing.assert_close(made(x), in_loops(made, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("size", [(1, 1), (3, 8), (17, 13)])
def test_equals_torchvision_with_all_gradients(kernel_size: int, size: tuple[int, int]) -> None:
    """In float64, the output and the gradients of input, weights, bias, and the weights behind offsets and mask."""
    made = layer(6, 4, kernel_size, spread=2.0).double()
    x = torch.randn(2, 6, *size, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(2, 4, *size, dtype=torch.float64)
    inputs = [x, *made.parameters()]
    outputs = [made(x), reference(made, x)]
    ours, theirs = (torch.autograd.grad(out, inputs, upstream) for out in outputs)
    torch.testing.assert_close(outputs[0], outputs[1])
    torch.testing.assert_close(ours, theirs)
    assert len(ours) == 5
    assert all(gradient.abs().max() > 0 for gradient in ours)


def test_the_way_on_cuda_gives_the_same() -> None:
    """torchvision's operator has no bf16: it must not see autocast's."""
    made = layer(6, 4, spread=2.0)
    x, offsets, mask = torch.randn(2, 6, 5, 7), torch.randn(2, 18, 5, 7) * 2, torch.rand(2, 9, 5, 7)
    expected = made._by_rows(x, offsets, mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = made._by_torchvision(x, offsets, mask)
    torch.testing.assert_close(out, expected)
    if torch.cuda.is_available():
        with torch.autocast("cuda", dtype=torch.bfloat16):
            assert made.cuda()(x.cuda().bfloat16()).dtype == torch.bfloat16


def test_a_new_layer_is_half_a_convolution() -> None:
    """No offsets, and every mask sigmoid(0) = 1/2."""
    made = DeformConv(3, 5)
    x = torch.randn(2, 3, 6, 7)
    torch.testing.assert_close(made(x), F.conv2d(x, made.weight, padding=1) / 2)
    assert not made.bias.any()


def test_whole_offsets_move_the_map() -> None:
    """All taps 2 down and 1 to the right, masks of 1, an identity kernel: pixel (y, x) shows (y + 2, x + 1)."""
    made = DeformConv(1, 1)
    with torch.no_grad():
        made.weight.zero_()[0, 0, 1, 1] = 1
        assert made.conv_offset_mask.bias is not None
        made.conv_offset_mask.bias.copy_(torch.tensor([2.0, 1.0] * 9 + [100.0] * 9))
    x = torch.arange(12.0).view(1, 1, 4, 3)
    expected = torch.tensor([[7.0, 8, 0], [10, 11, 0], [0, 0, 0], [0, 0, 0]])
    torch.testing.assert_close(made(x)[0, 0], expected)


def test_keys_are_those_of_dcn_v2() -> None:
    shapes = {key: tuple(value.shape) for key, value in DeformConv(16, 8).state_dict().items()}
    assert shapes == {
        "weight": (8, 16, 3, 3),
        "bias": (8,),
        "conv_offset_mask.weight": (27, 16, 3, 3),
        "conv_offset_mask.bias": (27,),
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype: torch.dtype) -> None:
    """Near the float32 result, also where a map is too large for half precision to count its pixels."""
    made = layer(4, 4, spread=1.0)
    x = torch.randn(1, 4, 3, 600)
    with torch.autocast("cpu", dtype=dtype):
        made(x).float().sum().backward()
        out = made(x)
    assert out.dtype == dtype
    difference = (out.float() - reference(made, x)).abs()
    assert difference.max() < 0.15  # of values around 2, of offsets and products in bf16
    assert abs(difference[..., :300].mean() / difference[..., 300:].mean() - 1) < 0.3
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30, -1e30])
def test_offsets_that_diverged_do_not_crash(value: float) -> None:
    """Far outside there is nothing to read; what is not a number stays so, for the training loop to see."""
    made = layer(2, 3, spread=1.0)
    with torch.no_grad():
        assert made.conv_offset_mask.bias is not None
        made.conv_offset_mask.bias[0] = value
    out = made(torch.randn(1, 2, 5, 5))
    out.sum().backward()
    assert bool(out.isfinite().all()) == (abs(value) == 1e30)


def test_layouts_give_the_same() -> None:
    made = layer(8, 8, spread=2.0)
    x = torch.randn(2, 8, 9, 7)
    torch.testing.assert_close(made(x.to(memory_format=torch.channels_last)), made(x))
