"""Octave convolution against its equations; the network's parameters and multiply-adds by calculation."""

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from public.backbones import oct_resnet
from public.backbones.oct_resnet import OctaveLayer, OctBottleneck, OctConv, double, halve


@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_is_the_papers(stride: int) -> None:
    """Y_high = f(X_high) + up(f(X_low)), Y_low = f(X_low) + f(pool(X_high)); a stride pools X first."""
    layer = OctConv(8, 16, 3, stride, 0.25, 0.25).eval()
    assert layer.low_to_high is not None
    assert layer.high_to_low is not None
    assert layer.low_to_low is not None
    high, low = torch.randn(2, 6, 8, 12), torch.randn(2, 2, 4, 6)
    pool = nn.AvgPool2d(2)
    x_high, x_low = (high, low) if stride == 1 else (pool(high), pool(low))
    # With a stride the low maps as they come have the size of the high ones that go out.
    from_low = layer.low_to_high(low)
    from_low = functional.interpolate(from_low, scale_factor=2) if stride == 1 else from_low
    y_high, y_low = layer((high, low))
    norm = (1 + 1e-5) ** -0.5  # of new batch norms
    torch.testing.assert_close(y_high, norm * (layer.high_to_high(x_high) + from_low))
    torch.testing.assert_close(y_low, norm * (layer.low_to_low(x_low) + layer.high_to_low(pool(x_high))))
    assert y_high.shape == (2, 12, 8 // stride, 12 // stride)
    assert y_low is not None
    assert y_low.shape == (2, 4, 4 // stride, 6 // stride)


@pytest.mark.parametrize("size", [(8, 12), (9, 7), (1, 1), (2, 3)])
def test_a_pair_survives_the_way_through_one_map(size: tuple[int, int]) -> None:
    layer = OctaveLayer(OctBottleneck(16, 4, 1, 0.25, 0.25), low_in=4)
    high = torch.randn(2, 12, *size)
    low = halve(torch.randn(2, 4, *size))
    split_high, split_low = layer._split(torch.cat((high, double(low, high)), 1))
    assert torch.equal(split_high, high)
    assert split_low is not None
    assert torch.equal(split_low, low)


def test_without_low_channels_it_is_torchvisions_resnet50() -> None:
    """alpha = 0, where a stride is an average before the convolution; without strides the blocks are equal."""
    torch.manual_seed(0)
    block, reference = OctBottleneck(16, 4, 1, 0.0, 0.0), torchvision.models.resnet.Bottleneck(16, 4)
    for ours, theirs in zip((block.conv1, block.conv2, block.conv3), (1, 2, 3), strict=True):
        ours.high_to_high.load_state_dict(getattr(reference, f"conv{theirs}").state_dict())
    x = torch.randn(2, 16, 7, 9)
    high, low = block((x, None))
    assert low is None
    torch.testing.assert_close(high, reference(x))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "alpha", "macs"),
    [("oct_resnet50_alpha0125", 0.125, 3_565_196_288), ("oct_resnet50_alpha0250", 0.25, 3_103_526_912)],
)
def test_parameters_and_macs(name: str, alpha: float, macs: int) -> None:
    """As many weights as ResNet-50, of which only those from high to high are used on all places.

    With shares a of low inputs and b of low outputs, weights (1 - a)(1 - b) work on all places that come out, the b
    into the low part on a quarter, and the a (1 - b) from low to high on a quarter, too: before the enlargement. Only
    with a stride, when the low maps have the size that is needed, do these work on all.
    """

    def conv(n_in: int, n_out: int, area: int, places: int, a: float, b: float, stride: int = 1) -> float:
        part = (1 - a) * (1 - b) + a * (1 - b) * (1 if stride == 2 else 1 / 4) + b / 4
        return part * n_in * n_out * area * places

    expected, channels, before = 3 * 64 * 49 * 112**2 + 2048 * 1000, 64, 0.0
    for index, depth in enumerate((3, 4, 6, 3)):
        width, places, inside = 64 * 2**index, (56 // 2**index) ** 2, 0.0 if index == 3 else alpha
        for position in range(depth):
            stride = 2 if index > 0 and position == 0 else 1
            expected += conv(channels, width, 1, places * stride**2, before, inside)
            expected += conv(width, width, 9, places, inside, inside, stride)
            expected += conv(width, 4 * width, 1, places, inside, inside)
            if position == 0:
                expected += conv(channels, 4 * width, 1, places, before, inside, stride)
            channels, before = 4 * width, inside
    assert expected == macs  # which test_catalog.py holds against the network
    with torch.device("meta"):
        network = getattr(oct_resnet, name)()
    assert sum(p.numel() for p in network.parameters()) == 25_557_032


def test_an_image_skips_both_parts_of_a_block() -> None:
    """In training with rate 0.5 an image's high and low parts are either both shortcuts or neither."""
    torch.manual_seed(0)
    block = OctBottleneck(16, 4, 1, 0.5, 0.5)
    block.drop_path.p = 0.5
    high, low = torch.rand(16, 8, 4, 4), torch.rand(16, 8, 2, 2)
    out_high, out_low = block((high, low))
    assert out_low is not None
    skipped = [(torch.equal(a, b), torch.equal(c, d)) for a, b, c, d in zip(out_high, high, out_low, low, strict=True)]
    assert all(of_high == of_low for of_high, of_low in skipped)
    assert {of_high for of_high, _ in skipped} == {False, True}
