"""What our own steps of autograd owe to those who ask for more than a gradient: torch's operators are the referee."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from public.backbones.catalog import build_backbone
from public.detectors.fcos.network import ClassificationHead
from public.layers.autograd_state import differentiable_once, is_one_step
from public.layers.conv_norm_act import ConvNormAct
from public.layers.depthwise import DepthwiseConv2d
from public.layers.recompute import recomputing
from public.layers.relu6 import ReLU6
from public.losses.focal import sigmoid_focal_loss_sum
from public.losses.gaussian_focal import gaussian_focal_loss_sum


class Doubled(torch.autograd.Function):
    """With a gradient that is too complicated to have one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """[...] -> [...]."""
        return 2 * x

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """Of x."""
        return 2 * grads[0]


def recomputed(x: Tensor) -> Tensor:
    """A convolution whose input is made again."""
    with recomputing("norms"):
        return nn.Conv2d(4, 4, 1)(nn.BatchNorm2d(4)(x))


FIRST_ALONE: dict[str, Callable[[Tensor], Tensor]] = {
    "test_autograd_state.Doubled": Doubled.apply,  # pyright: ignore[reportAssignmentType]
    "towers._Tower": lambda x: ClassificationHead(4, 2, 3)([x])[0],
    "recompute._Convolution": recomputed,
    "focal._SigmoidFocalLossSums": lambda x: sigmoid_focal_loss_sum(
        x, torch.zeros(2, 4, 6, dtype=torch.int64), alpha=0.25, gamma=2.0
    ),
    "gaussian_focal._GaussianFocalLossSum": lambda x: gaussian_focal_loss_sum(x, torch.rand(2, 4, 6, 6)),
}


@pytest.mark.parametrize("name", FIRST_ALONE)
def test_a_second_derivative_that_is_not_there_is_refused_and_not_left_out(name: str) -> None:
    x = torch.randn(2, 4, 6, 6, requires_grad=True)
    out = FIRST_ALONE[name](x)
    assert torch.autograd.grad(out.sum(), x, retain_graph=True)[0].shape == x.shape
    with pytest.raises(RuntimeError, match=rf"create_graph=True asks for second derivatives, and \S*{name} has first"):
        torch.autograd.grad(out.sum(), x, create_graph=True)


def penalized(layers: nn.Module, x: Tensor) -> list[Tensor]:
    """Gradients of a loss with the norm of a gradient in it."""
    x = x.detach().requires_grad_()
    out = layers(x.sin())  # no leaf, for what works in place
    (slope,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
    return list(torch.autograd.grad(out.sum() + slope.square().sum(), [x, *layers.parameters()]))


def test_second_derivatives_are_torchs_where_ours_stands_for_one_operator() -> None:
    torch.manual_seed(0)
    x = 3 * torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(
        penalized(nn.Sequential(nn.Identity(), ReLU6()), x), penalized(nn.Sequential(nn.Identity(), nn.ReLU6()), x)
    )
    ours, theirs = DepthwiseConv2d(4, 2).bfloat16(), nn.Conv2d(4, 4, 3, 2, 1, groups=4, bias=False).bfloat16()
    theirs.load_state_dict(ours.state_dict())
    found, expected = penalized(ours, x.bfloat16()), penalized(theirs, x.bfloat16())
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.2)


def test_a_second_derivative_through_a_relu_that_is_made_again() -> None:
    torch.manual_seed(0)
    norm, x = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(inplace=True)), torch.randn(2, 4, 6, 6)
    expected = penalized(norm, x)
    with recomputing("norms"):
        torch.testing.assert_close(penalized(norm, x), expected)


FOLLOWED: dict[str, Callable[[nn.Module, Tensor], Any]] = {
    "torch.jit": lambda network, x: torch.jit.trace(network, x)(x),  # pyright: ignore[reportCallIssue]
    "torch.fx": lambda network, x: torch.fx.symbolic_trace(network)(x),
}


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize("name", FOLLOWED)
@pytest.mark.parametrize("network", ["resnet18", "mobilenet_v2"])
def test_what_follows_a_network_finds_torchs_operators(network: str, name: str) -> None:
    """On maps that are wide enough for ours."""
    torch.manual_seed(0)
    built = build_backbone(network).eval().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    x = torch.randn(2, 3, 256, 256).contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(FOLLOWED[name](built, x), built(x), rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_forward_derivative_is_torchs() -> None:
    layers, x = ConvNormAct(4, 4, 3, activation=ReLU6).eval(), torch.randn(2, 4, 6, 6)
    expected = torch.func.jvp(layers, (x,), (x,))[1]
    with torch.autograd.forward_ad.dual_level():
        out = layers(torch.autograd.forward_ad.make_dual(x, x))
        assert not is_one_step(x, layers)
        found = torch.autograd.forward_ad.unpack_dual(out).tangent
    torch.testing.assert_close(found, expected)


def test_whoever_looks_on_sees_the_modules() -> None:
    layers, x = nn.Sequential(nn.Conv2d(4, 4, 3)), torch.randn(2, 4, 6, 6)
    assert is_one_step(x, layers)
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert not is_one_step(x, layers)
    handle.remove()
    layers[0].forward = lambda input: input
    assert not is_one_step(x, layers)
