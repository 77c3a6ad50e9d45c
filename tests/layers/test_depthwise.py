"""The strided depthwise convolution against torch's own."""

import pytest
import torch
from torch import Tensor, nn

from public.backbones.catalog import build_backbone
from public.layers import depthwise
from public.layers.depthwise import DepthwiseConv2d, has_depthwise


def _gradients(layer: nn.Conv2d, x: Tensor, slopes: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
    x = x.to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        y = layer(x)
    y.backward(slopes.to(dtype))
    assert x.grad is not None
    assert layer.weight.grad is not None
    return y.detach(), x.grad, layer.weight.grad


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("size", [(12, 16), (11, 7), (1, 2), (5, 1)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_torchs(
    dtype: torch.dtype, stride: int, size: tuple[int, int], channels_last: bool
) -> None:
    """The same numbers: bf16 rounds only what comes out."""
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    ours = DepthwiseConv2d(6, stride).to(memory_format=layout)
    torchs = nn.Conv2d(6, 6, 3, stride, padding=1, groups=6, bias=False).to(memory_format=layout)
    torchs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 6, *size).contiguous(memory_format=layout)
    slopes = torch.randn(2, 6, *(-(-n // stride) for n in size)).contiguous(memory_format=layout)
    results = _gradients(ours, x, slopes, dtype)
    for actual, expected in zip(results, _gradients(torchs, x, slopes, dtype), strict=True):
        assert actual.dtype == expected.dtype
        torch.testing.assert_close(actual, expected, rtol=0.01 if dtype == torch.bfloat16 else 1e-5, atol=1e-5)
    assert results[1].is_contiguous(memory_format=layout)


def test_the_gradient_by_another_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    """On any processor, against float64: of the input it is rounded once."""
    monkeypatch.setattr(depthwise, "_HAS_KERNELS", True)
    torch.manual_seed(0)
    layer, x = DepthwiseConv2d(6, 2).bfloat16(), torch.randn(2, 6, 11, 7).bfloat16().requires_grad_()
    out, exact = layer(x), nn.functional.conv2d(x.double(), layer.weight.double(), stride=2, padding=1, groups=6)
    slopes = torch.randn_like(out)
    leaves = x, layer.weight
    found = torch.autograd.grad(out, leaves, slopes)
    right = torch.autograd.grad(exact, leaves, slopes.double())
    assert "_StridedDepthwise" in out.grad_fn.name()  # pyright: ignore[reportOptionalMemberAccess]
    assert (found[0] - right[0]).norm() < 2**-8 * right[0].norm()
    assert (found[1] - right[1]).norm() < 2**-6 * right[1].norm()


def test_frozen_weights_and_inference() -> None:
    """Nothing is computed for what needs no gradient."""
    layer = DepthwiseConv2d(4, 2).bfloat16().requires_grad_(False)
    x = torch.randn(1, 4, 8, 8).bfloat16().requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is None
    with torch.inference_mode():
        assert layer(x).shape == (1, 4, 4, 4)


@pytest.mark.parametrize(
    "name", ["mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "ghostnet_100", "proxylessnas_cpu"]
)
def test_networks_with_them(name: str) -> None:
    """Whatever class and kernel they have."""
    assert has_depthwise(build_backbone(name))


@pytest.mark.parametrize("name", ["resnet18", "regnet_x_400mf", "darknet_tiny"])
def test_networks_without(name: str) -> None:
    """A group of several channels is none."""
    assert not has_depthwise(build_backbone(name))
    assert not has_depthwise(nn.Conv2d(1, 4, 3))
