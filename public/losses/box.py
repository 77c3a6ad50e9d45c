"""Losses of boxes, one number a box: the caller weighs and sums them."""

import torch
import torch.nn.functional as F
from torch import Tensor

_TINY = 1e-7
"""Added to areas that are divided by, square pixels."""


def smooth_l1_loss(pred: Tensor, target: Tensor, *, beta: float) -> Tensor:
    """The sum over a box's coordinates of d^2 / (2 beta) where d = |pred - target| < beta, and d - beta / 2 beyond.

    Paper: Girshick 2015, https://arxiv.org/abs/1504.08083, where beta is 1.

    Args:
        pred: float [n, 4].
        target: float [n, 4].
        beta: 0 or more; 0 is the L1 loss.

    Returns:
        float [n].
    """
    return F.smooth_l1_loss(pred, target, reduction="none", beta=beta).sum(1)


def l1_loss(pred: Tensor, target: Tensor) -> Tensor:
    """The sum of the absolute differences: float [n, 4], float [n, 4] -> [n]."""
    return F.l1_loss(pred, target, reduction="none").sum(1)


def giou_loss(pred_boxes: Tensor, gt_boxes: Tensor) -> Tensor:
    """1 minus the generalized overlap: 0 for equal boxes, up to 2 for distant ones.

    Paper: Rezatofighi et al. 2019, https://arxiv.org/abs/1902.09630. Reference: torchvision's
    `generalized_box_iou_loss`, whose numbers these are, and which lists the boxes that meet: their number is a value
    that a GPU's host would wait for. Boxes of no area are no error, and lead to finite gradients.

    Args:
        pred_boxes: float32 [n, 4], x1 y1 x2 y2.
        gt_boxes: float32 [n, 4].

    Returns:
        float32 [n].
    """
    (lower, upper), (gt_lower, gt_upper) = pred_boxes.split(2, dim=1), gt_boxes.split(2, dim=1)  # [n, 2] each, x y
    common = torch.minimum(upper, gt_upper) - torch.maximum(lower, gt_lower)
    hull = torch.maximum(upper, gt_upper) - torch.minimum(lower, gt_lower)
    # The derivative of `prod` asks whether there are zeros.
    widths, heights = torch.stack([common, upper - lower, gt_upper - gt_lower, hull]).unbind(-1)  # [4, n] each
    meeting, sides, gt_sides, hulls = (widths * heights).unbind()  # [n] each
    intersections = meeting.masked_fill((common <= 0).any(dim=1), 0)
    unions = sides + gt_sides - intersections
    overlaps = intersections / (unions + _TINY)
    return 1 - (overlaps - (hulls - unions) / (hulls + _TINY))
