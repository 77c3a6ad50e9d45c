"""Cross entropy, over all classes or of each by itself, with smoothed labels and of images mixed from two."""

from torch import Tensor
from torch.nn import functional


def cross_entropy(
    logits: Tensor,
    labels: Tensor,
    others: Tensor | None = None,
    shares: Tensor | None = None,
    *,
    label_smoothing: float = 0.0,
) -> Tensor:
    """The mean cross entropy of a batch.

    Label smoothing as in Szegedy et al. 2015, https://arxiv.org/abs/1512.00567, section 7: a share `label_smoothing`
    of the target is spread evenly over all K classes, the true one included. (ModelZoo spreads it over the K - 1
    others: its 0.1 is our 0.1 * K / (K - 1).)

    An image mixed from two (`public/transforms/mixing.py`) costs its share times the cross entropy of its first label,
    and the rest times that of its second one.

    Args:
        logits: [B, K].
        labels: int64 [B].
        others: int64 [B], the second labels of mixed images; given together with `shares`.
        shares: float32 [B], how much of each image is of its first label.
        label_smoothing: from 0 (none) to below 1.

    Returns:
        A scalar.
    """
    if others is None or shares is None:
        return functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    first = functional.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)  # [B]
    second = functional.cross_entropy(logits, others, reduction="none", label_smoothing=label_smoothing)  # [B]
    return (shares * first + (1 - shares) * second).mean()


def binary_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    others: Tensor | None = None,
    shares: Tensor | None = None,
    *,
    label_smoothing: float = 0.0,
) -> Tensor:
    """The mean over the images and classes of the cross entropy of "it shows this class" against "it does not".

    Wightman et al. 2021, https://arxiv.org/abs/2110.00476, section 3. As in timm's `BinaryCrossEntropy`, to whose
    results those here are equal, it is divided by the number of classes, which a learning rate has to know; and the
    target of a mixed image's two classes is the share of each.

    Args:
        logits: [B, K].
        labels, others, shares, label_smoothing: see `cross_entropy`; the targets are the same.

    Returns:
        A scalar.
    """
    targets = functional.one_hot(labels, logits.shape[1]).to(logits.dtype)  # [B, K]
    if others is not None and shares is not None:
        second = functional.one_hot(others, logits.shape[1]).to(logits.dtype)  # [B, K]
        targets = shares[:, None] * targets + (1 - shares[:, None]) * second
    targets = targets * (1 - label_smoothing) + label_smoothing / logits.shape[1]
    return functional.binary_cross_entropy_with_logits(logits, targets)


LOSSES = {"cross_entropy": cross_entropy, "binary_cross_entropy": binary_cross_entropy}
"""By the names of `public.config.classification.Loss`."""
