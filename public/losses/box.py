"""Losses of boxes, one number a box: the caller weighs and sums them."""

import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss


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

    Paper: Rezatofighi et al. 2019, https://arxiv.org/abs/1902.09630. Boxes of no area are no error, and lead to
    finite gradients.

    Args:
        pred_boxes: float [n, 4], x1 y1 x2 y2.
        gt_boxes: float [n, 4].

    Returns:
        float [n].
    """
    return generalized_box_iou_loss(pred_boxes, gt_boxes)
