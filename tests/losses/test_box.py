"""Box losses against numbers worked out by hand."""

import pytest
import torch
from torchvision.ops import generalized_box_iou_loss

from public.losses.box import giou_loss, l1_loss, smooth_l1_loss


def test_smooth_l1_by_hand() -> None:
    """beta 0.5: 0.25^2 / 1 below it, d - 0.25 above; at beta itself both give 0.25."""
    pred = torch.tensor([[0.25, -0.5, 3.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    losses = smooth_l1_loss(pred, torch.tensor([[0.0] * 4, [1.0] * 4]), beta=0.5)
    assert losses.tolist() == [0.0625 + 0.25 + 2.75, 0]
    assert smooth_l1_loss(pred, torch.zeros(2, 4), beta=0.0).tolist() == l1_loss(pred, torch.zeros(2, 4)).tolist()


def test_l1_by_hand() -> None:
    assert l1_loss(torch.tensor([[1.0, -2.0, 0.5, 4.0]]), torch.ones(1, 4)).tolist() == [0 + 3 + 0.5 + 3]


@pytest.mark.parametrize(
    ("pred", "gt", "loss"),
    [
        ((0, 0, 4, 4), (0, 0, 4, 4), 0),
        ((0, 0, 4, 4), (2, 0, 6, 4), 1 - 8 / 24),  # the hull is the union
        ((0, 0, 2, 2), (2, 2, 4, 4), 1 + 8 / 16),  # touching at a corner
        ((0, 0, 1, 1), (9, 0, 10, 1), 1 + 8 / 10),  # apart
        ((0, 0, 1, 1), (0, 0, 2, 2), 1 - 1 / 4),  # 1 pixel in 4: no stray 1
    ],
)
def test_giou_by_hand(pred: tuple[float, ...], gt: tuple[float, ...], loss: float) -> None:
    pred_boxes, gt_boxes = torch.tensor([pred]).float(), torch.tensor([gt]).float()
    assert giou_loss(pred_boxes, gt_boxes).tolist() == pytest.approx([loss], abs=1e-6)
    assert giou_loss(gt_boxes, pred_boxes).tolist() == pytest.approx([loss], abs=1e-6)


def test_giou_is_torchvisions_to_the_last_bit() -> None:
    """Values and gradients: boxes that meet, that lie apart, inside one another, of no area, and the same."""
    generator = torch.Generator().manual_seed(0)
    gt = torch.rand(1000, 2, 2, generator=generator).mul(30).sort(dim=1).values.flatten(1)
    start = torch.rand(1000, 2, 2, generator=generator).mul(30).sort(dim=1).values.flatten(1)
    start[:50], start[50:60, 2] = gt[:50], start[50:60, 0]
    start[60:500] = gt[60:500] + start[60:500] / 10
    found = []
    for function in (giou_loss, generalized_box_iou_loss):
        pred = start.clone().requires_grad_()
        losses = function(pred, gt)
        (losses * torch.arange(1000.0)).sum().backward()
        found.append((losses, pred.grad))
    (losses, grads), (same_losses, same_grads) = found
    assert torch.equal(losses, same_losses)
    assert torch.equal(grads, same_grads)


def test_boxes_without_area_lead_to_finite_gradients() -> None:
    pred = torch.tensor([[1.0, 1, 1, 1], [2, 2, 2, 5], [0, 0, 4, 4]], requires_grad=True)
    losses = giou_loss(pred, torch.tensor([[1.0, 1, 1, 1], [2, 2, 3, 5], [0, 0, 4, 4]]))
    losses.sum().backward()
    assert losses.isfinite().all()
    assert pred.grad is not None
    assert pred.grad.isfinite().all()


def test_no_boxes() -> None:
    none = torch.zeros(0, 4)
    for losses in (giou_loss(none, none), l1_loss(none, none), smooth_l1_loss(none, none, beta=1.0)):
        assert losses.shape == (0,)
