"""A head's tower over all levels gives the bits that its modules give one by one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from public.detectors.fcos.network import ClassificationHead, RegressionHead
from public.detectors.retinanet import network as retinanet
from public.detectors.towers import over_levels
from public.layers.recompute import recomputing
from tests.layers.test_recompute import Kept

LAYOUTS = (torch.contiguous_format, torch.channels_last)


class TwoOutputs(nn.Module):
    """A tower with two layers behind it, as a region proposal network's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(inplace=True))
        self.first, self.second = nn.Conv2d(8, 3, 1), nn.Conv2d(8, 2, 3, padding=1)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """[B, 8, H, W] of each level -> of each layer those of each level."""
        return [one for own in over_levels(maps, self.conv, self.first, self.second) for one in own]


HEADS: dict[str, Callable[[], nn.Module]] = {
    "fcos classes": lambda: ClassificationHead(8, 2, 3),
    "fcos boxes": lambda: RegressionHead(8, 2),
    "retinanet": lambda: retinanet.RegressionHead(8, 2),
    "no tower": lambda: ClassificationHead(8, 0, 3),
    "two outputs": TwoOutputs,
}


def maps(layout: torch.memory_format = torch.contiguous_format) -> list[Tensor]:
    """Of three levels."""
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(2, 8, *size, generator=generator) for size in ((9, 16), (5, 8), (1, 1))]
    return [one.contiguous(memory_format=layout).requires_grad_() for one in made]


def is_one_step(out: Tensor) -> bool:
    """Whether a result is that of a tower, or a view of it."""
    node: Any = out.grad_fn
    while "Permute" in node.name() or "View" in node.name():
        ((node, _),) = node.next_functions
    return "_Tower" in node.name()


def trained(head: nn.Module, own: list[Tensor], dtype: torch.dtype, what: Any, *, is_seen: bool) -> list[Tensor]:
    """Outputs, and gradients of the maps and the parameters; `is_seen`: by a hook, so that the modules run."""
    head.zero_grad()
    handles = [one.register_forward_hook(lambda *_: None) for one in head.modules() if is_seen]
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32), recomputing(what):
        outputs = head([one.relu() for one in own])
    assert is_one_step(outputs[0]) == (not is_seen)
    weights = [torch.arange(one.numel()).view(one.shape).cos() for one in outputs]
    loss = torch.stack([(one.float() * by).sum() for one, by in zip(outputs, weights, strict=True)]).sum()
    asked = [*own, *(one for one in head.parameters() if one.requires_grad)]
    for handle in handles:
        handle.remove()
    return [*outputs, *torch.autograd.grad(loss, asked)]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", HEADS)
def test_all_gradients_have_the_bits_of_the_modules(name: str, layout: torch.memory_format, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    head = HEADS[name]().to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.3)
    expected = trained(head, maps(layout), dtype, "off", is_seen=True)
    for what in ("off", "norms"):
        found = trained(head, maps(layout), dtype, what, is_seen=False)
        assert [torch.equal(a, b) for a, b in zip(found, expected, strict=True)] == [True] * len(expected)
        assert [one.stride() for one in found] == [one.stride() for one in expected]


def test_what_is_frozen_has_no_gradient() -> None:
    head = ClassificationHead(8, 2, 3)
    head.conv[0].requires_grad_(False)
    head.conv[4].bias.requires_grad_(False)  # pyright: ignore[reportCallIssue, reportOptionalMemberAccess]
    expected, found = (trained(head, maps(), torch.float32, "off", is_seen=seen) for seen in (True, False))
    assert all(map(torch.equal, found, expected))


def kept_maps(what: Any) -> tuple[int, int]:
    """Maps [2, 8, 16, 16] that a tower with norms leaves for the backward pass beside its result, and those after."""
    head, x = ClassificationHead(8, 3, 1), torch.randn(2, 8, 16, 16)
    with Kept() as kept:
        with recomputing(what):
            out = head([x])[0].sum()
        forward = kept.num_maps()
        out.backward()
        return forward, kept.num_maps()


def test_of_each_layer_one_map_is_kept_and_none_after_the_backward_pass() -> None:
    assert kept_maps("off") == (6, 0)
    assert kept_maps("norms") == (3, 0)


def test_on_the_finest_level_what_an_activation_gave_is_gone_when_gradients_are_there() -> None:
    head, x = TwoOutputs(), torch.randn(2, 8, 16, 16, requires_grad=True)
    with Kept() as kept:
        (out,) = over_levels([x], head.conv, head.first)
        kept.most_maps = 0
        out[0].sum().backward()
    # Two of these: the gradient behind the activation; a map that only has a shape; the gradient of the input.
    assert kept.most_maps == 2


def test_a_retained_graph_gives_the_same_gradients_again() -> None:
    head = ClassificationHead(8, 2, 3)
    with recomputing("norms"):
        loss = torch.stack([one.square().sum() for one in head(maps())]).sum()
    first = torch.autograd.grad(loss, list(head.parameters()), retain_graph=True)
    again = torch.autograd.grad(loss, list(head.parameters()))
    assert all(map(torch.equal, first, again))
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(loss, list(head.parameters()))
