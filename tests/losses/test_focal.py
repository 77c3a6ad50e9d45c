"""The focal loss against torchvision's, numbers worked out by hand, and itself in float64."""

import math
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from public.geometry.fixed_shapes import fixed_shapes
from public.geometry.labels import BACKGROUND, IGNORED
from public.losses import focal
from public.losses.focal import sigmoid_focal_loss_sum, sigmoid_focal_loss_sums, sigmoid_focal_loss_sums_of_levels


def reference(logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    """torchvision's loss, summed over all but the first dimension."""
    one_hot = torch.nn.functional.one_hot(targets.clamp(min=0), logits.shape[-1]).to(logits.dtype)
    one_hot = one_hot * (targets >= 0)[..., None]
    losses = sigmoid_focal_loss(logits, one_hot, alpha=alpha, gamma=gamma) * (targets != IGNORED)[..., None]
    return losses.flatten(1).sum(1)


def random_targets(shape: tuple[int, ...], num_classes: int) -> Tensor:
    """A tenth positives, a tenth ignored, the rest background."""
    kinds, classes = torch.rand(shape), torch.randint(0, num_classes, shape)
    return torch.where(kinds < 0.1, classes, torch.where(kinds < 0.2, IGNORED, BACKGROUND))


def value_and_slope(logits: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> tuple[Tensor, Tensor]:
    leaf = logits.detach().requires_grad_()
    loss = sigmoid_focal_loss_sum(leaf, targets, alpha=alpha, gamma=gamma)
    loss.backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


def test_by_hand() -> None:
    """Probabilities 1/2 and 1/4. Background: 3/4 p^2 -log(1 - p); the positive: 1/4 (1 - p)^2 -log p."""
    third = math.log(1 / 3)
    logits = torch.tensor([[0.0, third], [third, 0.0], [5.0, 5.0]])
    background_half, background_quarter = 0.75 / 4 * math.log(2), 0.75 / 16 * math.log(4 / 3)
    positive_quarter = 0.25 * 9 / 16 * math.log(4)
    sums = sigmoid_focal_loss_sums(logits, torch.tensor([BACKGROUND, 0, IGNORED]), alpha=0.25, gamma=2.0)
    assert sums.tolist() == pytest.approx(
        [background_half + background_quarter, positive_quarter + background_half, 0], abs=1e-7
    )


@pytest.mark.parametrize("gamma", [2.0, 1.5, 1.3, 3.0, 0.0])
@pytest.mark.parametrize("alpha", [0.25, 0.6, 0.0, 1.0])
def test_value_and_gradient_are_torchvisions(alpha: float, gamma: float) -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(3, 50, 7) * 3 - 2, random_targets((3, 50), 7)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    weights = torch.tensor([0.5, 2.0, -1.0])
    sums = sigmoid_focal_loss_sums(ours, targets, alpha=alpha, gamma=gamma)
    expected = reference(theirs, targets, alpha, gamma)
    torch.testing.assert_close(sums, expected, rtol=1e-5, atol=1e-4)
    (sums * weights).sum().backward()
    (expected * weights).sum().backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)
    assert (ours.grad[targets == IGNORED] == 0).all()
    total = sigmoid_focal_loss_sum(logits, targets, alpha=alpha, gamma=gamma)
    torch.testing.assert_close(total, expected.detach().sum(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("gamma", [2.0, 1.5, 1.3])
def test_the_derivative_is_that_of_the_value(gamma: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 6, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[0, 3, BACKGROUND, IGNORED, 1, BACKGROUND]]).expand(2, 6)

    def loss(x: Tensor) -> Tensor:
        return sigmoid_focal_loss_sums(x, targets, alpha=0.25, gamma=gamma)

    assert torch.autograd.gradcheck(loss, (logits,))


@pytest.mark.parametrize("gamma", [2.0, 1.5, 1.3])
def test_far_logits(gamma: float) -> None:
    """From -100 to 100 in float32 as in float64, each entry alone: nothing is clamped, nothing overflows."""
    x = torch.linspace(-100, 100, 401)
    for target in (BACKGROUND, 0):
        logits, targets = x[:, None], torch.full((401,), target)
        leaves = [logits.clone().requires_grad_(), logits.double().requires_grad_()]
        sums = [sigmoid_focal_loss_sums(leaf, targets, alpha=0.25, gamma=gamma) for leaf in leaves]
        torch.testing.assert_close(sums[0], sums[1].float(), rtol=1e-5, atol=1e-30)
        for total in sums:
            total.sum().backward()
        assert leaves[0].grad is not None
        assert leaves[1].grad is not None
        torch.testing.assert_close(leaves[0].grad, leaves[1].grad.float(), rtol=1e-5, atol=1e-30)
        wrong = -x if target == 0 else x
        assert sums[0][wrong == 100].item() == pytest.approx((0.25 if target == 0 else 0.75) * 100)


@pytest.mark.parametrize("gpu_piece", [1, 2**26])
def test_levels_together_are_levels_alone(gpu_piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In shapes that depend on no value, in pieces of one image and all at once: those of a CPU, gradients too."""
    monkeypatch.setattr(focal, "_GPU_PIECE", gpu_piece)
    torch.manual_seed(0)
    maps = [torch.randn(3, 2 * 5, size, size + 1) * 3 - 2 for size in (4, 2, 1)]
    targets, weights = random_targets((3, 2 * (20 + 6 + 2)), 5), torch.tensor([0.5, 2.0, -1.0])
    found = []
    for context in (nullcontext(), fixed_shapes()):
        leaves = [one.clone().requires_grad_() for one in maps]
        levels = [leaf.unflatten(1, (2, 5)).permute(0, 3, 4, 1, 2) for leaf in leaves]  # [B, H, W, A, C]
        with context:
            sums = sigmoid_focal_loss_sums_of_levels(levels, targets, alpha=0.25, gamma=2.0).sum(0)
            (sums * weights).sum().backward()
        found.append((sums.detach(), *(leaf.grad for leaf in leaves)))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-7)
    joined = torch.cat([one.unflatten(1, (2, 5)).permute(0, 3, 4, 1, 2).flatten(1, 3) for one in maps], dim=1)
    torch.testing.assert_close(found[1][0], reference(joined, targets, 0.25, 2.0), rtol=1e-5, atol=1e-4)


LAYOUTS = {
    "contiguous": lambda x: x.contiguous(),
    "a convolution's output": lambda x: x.permute(0, 3, 4, 1, 2).contiguous().permute(0, 3, 4, 1, 2),
    "batch innermost": lambda x: x.permute(1, 2, 3, 4, 0).contiguous().permute(4, 0, 1, 2, 3),
    "with gaps": lambda x: torch.nn.functional.pad(x, (1, 2, 1, 1))[..., 1:-1, 1:-2],
    "expanded": lambda x: x[:1].expand_as(x),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("piece", [1, 7, 100, 2**16])
def test_any_layout_in_any_pieces(layout: str, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logits [B, H, W, A, C] however they lie in memory; pieces that are parts of an image, or several images."""
    monkeypatch.setattr(focal, "_CPU_PIECE", piece)
    torch.manual_seed(0)
    logits = LAYOUTS[layout](torch.randn(3, 4, 5, 2, 3))
    assert logits.shape == (3, 4, 5, 2, 3)
    targets = random_targets((3, 4, 5, 2), 3)
    value, slope = value_and_slope(logits, targets)
    expected_value, expected_slope = value_and_slope(logits.double().contiguous(), targets)
    torch.testing.assert_close(value, expected_value.float())
    torch.testing.assert_close(slope, expected_slope.float())


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_lies_as_the_convolutions_output_does(memory_format: torch.memory_format) -> None:
    maps = torch.randn(2, 6, 4, 5).contiguous(memory_format=memory_format).requires_grad_()
    view = maps.unflatten(1, (2, 3)).permute(0, 3, 4, 1, 2)  # [2, 4, 5, 2, 3]
    sigmoid_focal_loss_sum(view, random_targets((2, 4, 5, 2), 3), alpha=0.25, gamma=2.0).backward()
    assert maps.grad is not None
    assert maps.grad.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    logits, targets = (torch.randn(2, 40, 5) * 3 - 3).to(dtype), random_targets((2, 40), 5)
    value, slope = value_and_slope(logits, targets)
    expected_value, expected_slope = value_and_slope(logits.float(), targets)
    assert value.dtype == torch.float32
    assert slope.dtype == dtype
    torch.testing.assert_close(value, expected_value)
    assert torch.equal(slope, expected_slope.to(dtype))


def test_small_losses_are_not_lost_beside_what_is_put_right() -> None:
    """A hundred positives and ignored rows, all certain: as background they would cost 15 000; they cost nothing."""
    logits = torch.full((1, 1000, 2), -6.0)
    targets = torch.full((1, 1000), BACKGROUND)
    targets[0, :100], targets[0, 100:200] = 0, IGNORED
    logits[0, :100, 0] = logits[0, 100:200] = 100.0
    p = 1 / (1 + math.exp(6))
    expected = 0.75 * p**2 * -math.log1p(-p) * (100 + 1600)
    loss = sigmoid_focal_loss_sum(logits, targets, alpha=0.25, gamma=2.0)
    assert loss.item() == pytest.approx(expected, abs=1e-6, rel=1e-3)


@pytest.mark.parametrize("shape", [(0, 5, 3), (2, 0, 3), (2, 5, 0)])
def test_nothing_at_all(shape: tuple[int, ...]) -> None:
    value, slope = value_and_slope(torch.zeros(shape), torch.full(shape[:-1], BACKGROUND))
    assert value == 0
    assert slope.shape == shape


def test_what_needs_no_gradient_gets_none() -> None:
    loss = sigmoid_focal_loss_sum(torch.zeros(2, 3), torch.tensor([0, BACKGROUND]), alpha=0.25, gamma=2.0)
    assert not loss.requires_grad
