"""Cross entropy by hand: probabilities 1/8, 2/8, 4/8, 1/8, whose logarithms are -3, -2, -1 and -3 times ln 2."""

from math import log

import pytest
import torch

from public.losses.classification import binary_cross_entropy, cross_entropy

LOGITS = torch.tensor([[1.0, 2.0, 4.0, 1.0]]).log()


def loss(label: int, label_smoothing: float = 0.0) -> float:
    """In units of ln 2."""
    return cross_entropy(LOGITS, torch.tensor([label]), label_smoothing=label_smoothing).item() / log(2)


def mixed(label: int, other: int, share: float, label_smoothing: float = 0.0) -> float:
    """In units of ln 2."""
    labels, others, shares = torch.tensor([label]), torch.tensor([other]), torch.tensor([share])
    return cross_entropy(LOGITS, labels, others, shares, label_smoothing=label_smoothing).item() / log(2)


def test_plain() -> None:
    """Minus the logarithm of the label's probability."""
    assert [loss(label) for label in range(4)] == pytest.approx([3, 2, 1, 3], rel=1e-6)


def test_smoothed() -> None:
    """0.9 x 1 + 0.1 x (3 + 2 + 1 + 3) / 4 = 1.125."""
    assert loss(2, label_smoothing=0.1) == pytest.approx(1.125, rel=1e-6)


def test_modelzoos_smoothing_is_ours_with_another_number() -> None:
    """0.1 over the three others: 0.9 x 1 + 0.1 x (3 + 2 + 3) / 3; our 0.1 x 4 / 3."""
    assert loss(2, label_smoothing=0.1 * 4 / 3) == pytest.approx(0.9 + 0.8 / 3, rel=1e-6)


def test_two_labels() -> None:
    """0.75 x 1 + 0.25 x 3 = 1.5; with smoothing 0.9 x 1.5 + 0.1 x 9 / 4 = 1.575."""
    assert mixed(2, 0, 0.75) == pytest.approx(1.5, rel=1e-6)
    assert mixed(2, 0, 0.75, label_smoothing=0.1) == pytest.approx(1.575, rel=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_one_or_equal_labels_are_the_plain_loss(share: float) -> None:
    """And a share of nothing is the other label's."""
    assert mixed(1, 3, 1.0) == pytest.approx(loss(1))
    assert mixed(1, 3, 0.0) == pytest.approx(loss(3))
    assert mixed(1, 1, share, label_smoothing=0.2) == pytest.approx(loss(1, label_smoothing=0.2))


def test_shares_belong_to_their_images() -> None:
    """The mean over two images, 0.5 x 3 + 0.5 x 1 = 2 and 1 x 2 + 0 = 2, is 2; and the target form of torch agrees."""
    labels, others, shares = torch.tensor([0, 1]), torch.tensor([2, 3]), torch.tensor([0.5, 1.0])
    logits = LOGITS.repeat(2, 1)
    ours = cross_entropy(logits, labels, others, shares)
    assert ours.item() / log(2) == pytest.approx(2.0, rel=1e-6)
    targets = torch.tensor([[0.5, 0.0, 0.5, 0.0], [0.0, 1.0, 0.0, 0.0]])
    for smoothing in (0.0, 0.1):
        ours = cross_entropy(logits, labels, others, shares, label_smoothing=smoothing)
        torch.testing.assert_close(ours, torch.nn.functional.cross_entropy(logits, targets, label_smoothing=smoothing))


def test_each_class_by_itself() -> None:
    """Logits 0 and ln 3, probabilities 1/2 and 3/4; the second is the label.

    -ln(1/2) - ln(3/4) = ln(8/3), halved. Smoothed by 0.2 the targets are 0.1 and 0.9: of the first still ln 2, of the
    second 0.9 ln(4/3) + 0.1 ln 4. Of a mixture, three quarters of it the second: 0.25 and 0.75, which leaves ln 2 and
    0.75 ln(4/3) + 0.25 ln 4.
    """
    logits, first, second = torch.tensor([[0.0, log(3)]]), torch.tensor([0]), torch.tensor([1])
    assert binary_cross_entropy(logits, second).item() == pytest.approx(log(8 / 3) / 2)
    smoothed = binary_cross_entropy(logits, second, label_smoothing=0.2)
    assert smoothed.item() == pytest.approx((log(2) + 0.9 * log(4 / 3) + 0.1 * log(4)) / 2)
    mixed = binary_cross_entropy(logits, second, first, torch.tensor([0.75]))
    assert mixed.item() == pytest.approx((log(2) + 0.75 * log(4 / 3) + 0.25 * log(4)) / 2)


@pytest.mark.slow
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_binary_losses_are_timms(smoothing: float) -> None:
    """Of labels, and of its own mixup's targets."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 5, generator=generator)
    labels = torch.tensor([0, 1, 2, 4])
    reference = pytest.importorskip("timm.loss").BinaryCrossEntropy(smoothing=smoothing)
    ours = binary_cross_entropy(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(ours, reference(logits, labels))
    target = pytest.importorskip("timm.data.mixup").mixup_target
    mixed = target(labels, 5, lam=0.3, smoothing=smoothing)  # the first image with the last, the second with the third
    ours = binary_cross_entropy(logits, labels, labels.flip(0), torch.full((4,), 0.3), label_smoothing=smoothing)
    torch.testing.assert_close(ours, reference(logits, mixed))
