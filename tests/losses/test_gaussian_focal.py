"""The focal loss of heatmaps: by hand, against the formula, and where formulas break."""

import math

import pytest
import torch
from torch import Tensor

from public.geometry.labels import IGNORED
from public.losses.gaussian_focal import gaussian_focal_loss_sum


def formula(logits: Tensor, targets: Tensor, alpha: float, beta: float) -> Tensor:
    """The paper's two cases, as they are written."""
    p = logits.sigmoid()
    peak = (1 - p) ** alpha * p.log()
    other = (1 - targets).clamp(0, 1) ** beta * p**alpha * (1 - p).log()
    return -torch.where(targets == 1, peak, other).masked_fill(targets == IGNORED, 0).sum()


def heatmap(shape: tuple[int, ...]) -> Tensor:
    """Mostly background, some slopes, a few peaks and places to leave alone."""
    targets = torch.zeros(shape)
    chance = torch.rand(shape)
    targets[chance < 0.3] = torch.rand(shape)[chance < 0.3] * 0.99
    targets[chance < 0.05] = 1
    targets[chance > 0.95] = IGNORED
    return targets


def test_by_hand() -> None:
    """All probabilities 1/2, so (1/2)^2 ln 2 each: 1 at the peak, (1 - 1/2)^4 = 1/16 beside it, 1 in the background."""
    targets = torch.tensor([[1.0, 0.5, 0.0, IGNORED]])
    loss = gaussian_focal_loss_sum(torch.zeros(1, 4), targets)
    assert loss.item() == pytest.approx((1 + 1 / 16 + 1) * math.log(2) / 4)


@pytest.mark.parametrize(("alpha", "beta"), [(2.0, 4.0), (1.5, 3.0)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_loss_and_gradient_are_the_formulas(alpha: float, beta: float, layout: torch.memory_format) -> None:
    """In float64, by autograd."""
    torch.manual_seed(0)
    targets = heatmap((3, 4, 9, 11))
    logits = (torch.randn(3, 4, 9, 11, dtype=torch.float64) * 4).to(memory_format=layout).requires_grad_()
    ours = gaussian_focal_loss_sum(logits, targets, alpha=alpha, beta=beta)
    theirs = formula(logits, targets.double(), alpha, beta)
    gradients = [torch.autograd.grad(3 * loss, logits)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*gradients)


def test_in_pieces_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """One image at a time; 64 logits an image."""
    torch.manual_seed(0)
    targets, logits = heatmap((5, 64)), torch.randn(5, 64, requires_grad=True)
    whole = gaussian_focal_loss_sum(logits, targets)
    (expected,) = torch.autograd.grad(whole, logits)
    monkeypatch.setattr("public.losses.gaussian_focal._CPU_PIECE", 100)
    pieces = gaussian_focal_loss_sum(logits, targets)
    torch.testing.assert_close(pieces, whole)
    assert torch.equal(torch.autograd.grad(pieces, logits)[0], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_certainty_leaves_loss_and_gradient_finite(dtype: torch.dtype) -> None:
    """Wrong by 1000: the loss is 1000, the slope 1; right by 1000: both are nothing."""
    logits = torch.tensor([[1000.0, -1000.0, 1000.0, -1000.0]], dtype=dtype, requires_grad=True)
    loss = gaussian_focal_loss_sum(logits, torch.tensor([[0.0, 1.0, 1.0, 0.0]]))
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == 2000
    assert logits.grad is not None
    assert logits.grad.dtype == dtype
    assert logits.grad.tolist() == [[1.0, -1.0, 0.0, 0.0]]


def test_without_gradient_and_without_entries() -> None:
    assert gaussian_focal_loss_sum(torch.zeros(1, 2), torch.zeros(1, 2)).item() == pytest.approx(math.log(2) / 2)
    logits = torch.zeros(0, 3, requires_grad=True)
    loss = gaussian_focal_loss_sum(logits, torch.zeros(0, 3))
    loss.backward()
    assert loss.item() == 0
