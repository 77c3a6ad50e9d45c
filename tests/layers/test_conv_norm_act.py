"""The convolution unit: which convolution it takes, and that it is torch's own in keys, values and gradients."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from public.layers.conv_norm_act import ConvNormAct
from public.layers.depthwise import DepthwiseConv2d


@pytest.mark.parametrize(
    ("in_channels", "out_channels", "kernel_size", "groups", "depthwise"),
    [
        (6, 6, 3, 6, True),
        (6, 6, 3, 1, False),
        (6, 6, 3, 3, False),
        (6, 12, 3, 6, False),
        (6, 6, 5, 6, False),
        (6, 6, 1, 6, False),
        (1, 1, 3, 1, True),
    ],
)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_is_torchs_convolution_norm_and_activation(
    in_channels: int, out_channels: int, kernel_size: int, groups: int, depthwise: bool, stride: int, dtype: torch.dtype
) -> None:
    """The reference is made of torch's own layers and takes our state dict as it is: outputs and every gradient."""
    torch.manual_seed(0)
    ours = ConvNormAct(in_channels, out_channels, kernel_size, stride, groups)
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
    reference = nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())
    assert isinstance(ours[0], DepthwiseConv2d) == depthwise
    assert list(ours.state_dict()) == list(reference.state_dict())
    reference.load_state_dict(ours.state_dict())
    x = torch.randn(2, in_channels, 9, 12)
    tolerance = 0.03 if dtype == torch.bfloat16 else 1e-5
    results = [_run(module, x, dtype) for module in (ours, reference)]
    assert results[0][0].shape == (2, out_channels, -(-9 // stride), -(-12 // stride))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def _run(module: nn.Module, images: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Output, gradient of the input, of each parameter, and the batch statistics that were noted."""
    x = images.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        y = module(x)
    (y.float() * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
    assert x.grad is not None
    grads = [p.grad for p in module.parameters()]
    assert all(grad is not None for grad in grads)
    return [y.detach().float(), x.grad, *(g for g in grads if g is not None), *(b.float() for b in module.buffers())]


def test_the_activation_is_built_for_each_unit() -> None:
    """A class or a partial of one; `nn.Identity` for a linear unit."""
    units = [ConvNormAct(3, 4, 1, activation=partial(nn.ReLU6, inplace=True)) for _ in range(2)]
    assert units[0][2] is not units[1][2]
    assert all(isinstance(unit[2], nn.ReLU6) and unit[2].inplace for unit in units)
    linear = ConvNormAct(3, 4, 1, activation=nn.Identity)
    assert (linear(torch.randn(2, 3, 5, 5)) < 0).any()
