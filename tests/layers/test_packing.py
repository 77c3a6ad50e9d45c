"""Packed convolutions: the numbers of plain ones at every size, and no activation taken that something else needs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from public.backbones.catalog import build_backbone
from public.layers import packing
from public.layers.depthwise import DepthwiseConv2d
from public.layers.folding import fold_batch_norms, keep_weights_in
from public.layers.packing import KEPT_CANVASES, PackedConv2d, can_pack, pack_convolutions
from public.layers.relu6 import ReLU6
from public.runtime.device import autocast, has_bf16_kernels
from tests.apps.networks import lived
from tests.layers.test_folding import FAMILIES

pytestmark = pytest.mark.skipif(not can_pack(), reason="oneDNN's packed convolutions are for x86 processors")
Forward = Callable[[Any, Tensor], Tensor]


def packed(module: nn.Module) -> list[PackedConv2d]:
    """The packed convolutions."""
    return [layer for layer in module.modules() if isinstance(layer, PackedConv2d)]


class Joined(nn.Module):
    """Two convolutions and an activation, and what a block does with them."""

    def __init__(self, forward: Forward, activation: nn.Module) -> None:
        super().__init__()
        self.conv, self.other = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)
        self.act, self.own = activation, forward

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> the same."""
        return self.own(self, x)


BLOCKS: dict[str, tuple[Forward, list[str]]] = {
    "one after the other": (lambda m, x: m.act(m.conv(x)), ["relu"]),
    "and the result is used twice": (lambda m, x: (y := m.act(m.conv(x)), y + m.other(y))[1], ["relu", "none"]),
    "twice, always the two": (lambda m, x: m.act(m.conv(m.act(m.conv(x)))), ["relu"]),
    "a shortcut of the convolution": (lambda m, x: (y := m.conv(x), m.act(y.clone()) + y)[1], ["none"]),
    "a view of the convolution": (lambda m, x: (y := m.conv(x), v := y[:, :1], m.act(y) + v)[2], ["none"]),
    "behind a sum": (lambda m, x: m.act(m.conv(x) + x), ["none"]),
    "behind a sum in place": (lambda m, x: m.act(m.conv(x).add_(x)), ["none"]),
    "shared by two": (lambda m, x: m.act(m.other(m.act(m.conv(x)))), ["none", "none"]),
    "a convolution elsewhere without it": (lambda m, x: m.conv(m.act(m.conv(x))), ["none"]),
    "a function": (lambda m, x: m.conv(x).relu(), ["none"]),
}


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("name", BLOCKS)
@torch.no_grad()
def test_only_what_belongs_together(name: str, in_place: bool) -> None:
    """The outputs stay but for rounding (PyTorch has own kernels for small ones), of sizes not seen before too."""
    torch.manual_seed(0)
    forward, activations = BLOCKS[name]
    block = Joined(forward, nn.ReLU(inplace=in_place)).eval()
    images = [torch.randn(1, 3, height, width) for height, width in ((8, 8), (5, 7), (16, 9))]
    expected = [block(x.clone()) for x in images]
    pack_convolutions(block, lambda: block(torch.zeros(1, 3, 8, 8)))
    assert [layer.activation[0] for layer in packed(block)] == activations
    for x, y in zip(images, expected, strict=True):
        torch.testing.assert_close(block(x.clone()), y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.ReLU6, ReLU6, nn.SiLU, nn.Hardswish, nn.LeakyReLU])
@torch.no_grad()
def test_activations(activation: Callable[[], nn.Module], dtype: torch.dtype) -> None:
    """Against float64: the smoother ones are rounded once less; what oneDNN is not told of stays behind."""
    torch.manual_seed(0)
    block = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2, padding=2, dilation=2, groups=2), activation()).eval()
    x = 4 * torch.randn(2, 4, 11, 10).to(dtype)
    exact = block.to(dtype).double()(x.double())
    block.to(dtype)
    pack_convolutions(block, lambda: block(x))
    joins = activation is not nn.LeakyReLU and (dtype == torch.float32 or has_bf16_kernels())
    assert isinstance(block[1], nn.Identity) == joins
    atol = 1e-5 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(block(x).double(), exact, rtol=2 * torch.finfo(dtype).eps, atol=atol)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_a_precision_that_the_processor_has_no_layouts_for(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN refuses it; PyTorch computes it all the same."""
    monkeypatch.setattr(packing, "has_bf16_kernels", lambda: False)
    block, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).to(dtype).eval(), torch.randn(1, 3, 8, 8).to(dtype)
    expected = block(x)
    pack_convolutions(block, lambda: block(x))
    assert not packed(block)
    assert torch.equal(block(x), expected)


def test_what_is_left_as_it_is() -> None:
    """Padding of other kinds, a subclass with a forward of its own, what the run does not reach."""

    class Own(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(2 * input)

    layers = [nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), nn.Conv2d(3, 3, 3, padding="same"), Own(3, 3, 1)]
    block = nn.Sequential(*layers, DepthwiseConv2d(3, 2)).eval()
    block.add_module("unreached", nn.Conv2d(3, 3, 1))
    pack_convolutions(block, lambda: block[:4](torch.zeros(1, 3, 8, 8)))
    assert [type(layer) for layer in block] == [nn.Conv2d, nn.Conv2d, Own, PackedConv2d, nn.Conv2d]


@torch.no_grad()
def test_layouts_are_few() -> None:
    """The last sizes' stay; a convolution that takes two maps of each image has two for each size."""
    block = Joined(lambda m, x: m.conv(x)[..., ::2, ::2] + m.conv(x[..., ::2, ::2]), nn.ReLU()).eval()
    pack_convolutions(block, lambda: block(torch.zeros(1, 3, 8, 8)))
    layout: Any = packed(block)[0].layout
    for side in (8, 24, 40, 56, 72, 88, 88):
        block(torch.zeros(1, 3, side, side))
    assert layout.cache_info().currsize == 2 * KEPT_CANVASES
    assert layout.cache_info().hits == 2


@torch.no_grad()
def test_layouts_are_those_of_the_number_of_threads() -> None:
    """oneDNN lays weights out by it; those of another number would be laid out anew in each call."""
    block = nn.Sequential(nn.Conv2d(16, 96, 1)).eval()
    pack_convolutions(block, lambda: block(torch.zeros(1, 16, 8, 8)))
    layout: Any = packed(block)[0].layout
    before = torch.get_num_threads()
    try:
        for num_threads in (1, 2, 1, 2):
            torch.set_num_threads(num_threads)
            block(torch.zeros(1, 16, 8, 8))
    finally:
        torch.set_num_threads(before)
    assert (layout.cache_info().misses, layout.cache_info().hits) == (2, 2)


@torch.no_grad()
def test_under_autocast() -> None:
    """A layer that autocast casts for every batch keeps to it; one whose weights were cast takes float32 as well."""
    torch.manual_seed(0)
    block, x = nn.Sequential(nn.Conv2d(3, 8, 3), DepthwiseConv2d(8, 2)).eval(), torch.randn(1, 3, 9, 9)

    def run() -> Tensor:
        with autocast(x.device, torch.bfloat16):
            return block(x)

    expected = run()
    pack_convolutions(block, run)
    assert not packed(block)
    keep_weights_in(block, torch.bfloat16, run)
    pack_convolutions(block, run)
    assert len(packed(block)) == (2 if has_bf16_kernels() else 0)
    torch.testing.assert_close(run(), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_networks(name: str) -> None:
    """One of most families, as predict makes it: the logits but for rounding, at another size too."""
    torch.manual_seed(0)
    network = lived(build_backbone(name, num_classes=7))
    images = [torch.randn(1, 3, height, width) for height, width in ((48, 40), (64, 64))]
    expected = [network(x) for x in images]
    fold_batch_norms(network, lambda: network(images[0]))
    pack_convolutions(network, lambda: network(images[0]))
    assert packed(network)
    for x, y in zip(images, expected, strict=True):
        torch.testing.assert_close(network(x), y, rtol=0, atol=1e-5 * float(y.abs().max()))
