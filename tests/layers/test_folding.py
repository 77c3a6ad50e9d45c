"""Batch norms in the weights of convolutions: the same numbers, and nothing folded that something else needs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from public.backbones.catalog import build_backbone
from public.layers.conv_norm_act import ConvNormAct
from public.layers.folding import fold_batch_norms, keep_weights_in
from public.runtime.device import autocast
from tests.apps.networks import lived


def num_norms(module: nn.Module) -> int:
    """How many batch norms there are."""
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())


@torch.no_grad()
def test_by_hand() -> None:
    """Weight 2 with mean 1, variance 4 - eps, weight 3, bias 5: 3 (2x - 1) / 2 + 5 = 3x + 3.5."""
    block = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1)).eval()
    conv: Any = block[0]
    norm: Any = block[1]
    values = {conv.weight: 2, norm.running_mean: 1, norm.running_var: 4 - norm.eps, norm.weight: 3, norm.bias: 5}
    for tensor, value in values.items():
        tensor.fill_(value)
    fold_batch_norms(block, lambda: block(torch.zeros(1, 1, 2, 2)))
    assert conv.weight.item() == pytest.approx(3)
    assert conv.bias.item() == pytest.approx(3.5)
    assert num_norms(block) == 0
    assert block(torch.full((1, 1, 2, 2), 2.0)).flatten().tolist() == pytest.approx([9.5] * 4)


class Joined(nn.Module):
    """A convolution and a batch norm, and what a block does with them."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.other = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)
        self.up = nn.ConvTranspose2d(3, 3, 2, stride=2, bias=False)
        self.own = forward

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> the same or twice as large."""
        return self.own(self, x)


BLOCKS: dict[str, tuple[Callable[[Any, Tensor], Tensor], int]] = {
    "one after the other": (lambda m, x: m.norm(m.conv(x)).relu(), 0),
    "its shape is read": (lambda m, x: (y := m.conv(x), m.norm(y) if y.shape[2] > 1 else y)[1], 0),
    "transposed": (lambda m, x: m.norm(m.up(x)), 0),
    "twice, always the two": (lambda m, x: m.norm(m.conv(m.norm(m.conv(x)).relu())), 0),
    "a shortcut of the convolution": (lambda m, x: (y := m.conv(x), m.norm(y) + y)[1], 1),
    "an activation between": (lambda m, x: m.norm(m.conv(x).relu()), 1),
    "an activation in place between": (lambda m, x: m.norm(m.conv(x).relu_()), 1),
    "the norm takes a sum": (lambda m, x: m.norm(m.conv(x) + m.other(x)), 1),
    "the norm before": (lambda m, x: m.conv(m.norm(x)), 1),
    "one norm of two convolutions": (lambda m, x: m.norm(m.conv(x)) + m.norm(m.other(x)), 1),
    "a convolution elsewhere without it": (lambda m, x: m.conv(m.norm(m.conv(x))), 1),
    "a list of parts": (lambda m, x: torch.cat([y := m.conv(x), m.norm(y)], dim=1), 1),
}


@pytest.mark.parametrize("name", BLOCKS)
@torch.no_grad()
def test_only_what_belongs_together(name: str) -> None:
    """The outputs stay; a norm whose convolution serves something else, too."""
    torch.manual_seed(0)
    forward, left = BLOCKS[name]
    block = lived(Joined(forward))
    x = torch.randn(2, 3, 6, 6)
    expected = block(x)
    fold_batch_norms(block, lambda: block(torch.zeros(1, 3, 4, 4)))
    assert num_norms(block) == left
    torch.testing.assert_close(block(x), expected)


LEFT = {"resnet18_v2": 9, "oct_resnet50_alpha0250": 82}
"""Behind sums, and before convolutions."""
FAMILIES = ("resnet18", "resnet18_v2", "resnest50", "mobilenet_v2", "regnet_y_200mf", "efficientnet_b0", "darknet_tiny")
FAMILIES += ("vovnet19_slim_dw_se", "mobilenet_v3_small", "ghostnet_100", "oct_resnet50_alpha0250", "detnet59")


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_networks(name: str) -> None:
    """One of most families: the logits but for rounding."""
    torch.manual_seed(0)
    network = lived(build_backbone(name, num_classes=7))
    x = torch.randn(2, 3, 48, 40)
    expected = network(x)
    fold_batch_norms(network, lambda: network(torch.zeros(1, 3, 32, 32)))
    assert num_norms(network) == LEFT.get(name, 0)
    scale = float(expected.abs().max())
    torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-5 * scale)


@torch.no_grad()
def test_a_strided_depthwise_convolution_in_bf16() -> None:
    """Has kernels of its own there, which know no bias."""
    torch.manual_seed(0)
    block = lived(ConvNormAct(4, 4, 3, stride=2, groups=4))
    x = torch.randn(1, 4, 8, 8)
    expected = block(x)
    fold_batch_norms(block, lambda: block(x))
    with autocast(x.device, torch.bfloat16):
        found = block(x.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.05)


class Head(nn.Module):
    """A layer under autocast, and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, 4]."""
        with autocast(x.device, torch.bfloat16):
            x = self.conv(x)
        return self.linear(x.float().mean(dim=(2, 3)))


@torch.no_grad()
def test_weights_that_are_cast_once() -> None:
    """The same bits; what autocast leaves alone stays float32."""
    torch.manual_seed(0)
    head, x = Head().eval(), torch.randn(2, 3, 9, 9)
    expected = head(x)
    keep_weights_in(head, torch.float32, lambda: head(x))
    assert head.conv.weight.dtype == torch.float32
    keep_weights_in(head, torch.bfloat16, lambda: head(x))
    assert (head.conv.weight.dtype, head.linear.weight.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(head(x), expected)
