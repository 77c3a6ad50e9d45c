"""Local importance pooling by hand and in loops; the network's parameters and multiply-adds by calculation."""

import math

import pytest
import torch
from torch import nn

from public.backbones.lip_resnet import Importance, PoolingBottleneck, lip_resnet50, local_importance_pooling


def test_pooling_by_hand() -> None:
    """One 2x2 map, all of it seen by the one place that comes out; beyond the border nothing has weight.

    Values 1 2 3 4 with logits 0, 0, 0 and log 3 have weights 1, 1, 1 and 3: (1 + 2 + 3 + 12) / 6 = 3.
    """
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 1, 2, 2)
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]]).view(1, 1, 2, 2)
    torch.testing.assert_close(local_importance_pooling(x, logits).flatten(), torch.tensor([3.0]))


def test_pooling_in_loops() -> None:
    x, logits = torch.randn(2, 3, 7, 6), torch.randn(2, 3, 7, 6) * 3
    pooled = local_importance_pooling(x, logits)
    assert pooled.shape == (2, 3, 4, 3)
    for row in range(4):
        for column in range(3):
            window = (..., slice(max(2 * row - 1, 0), 2 * row + 2), slice(max(2 * column - 1, 0), 2 * column + 2))
            shares = logits[window].flatten(2).softmax(2)
            torch.testing.assert_close(pooled[:, :, row, column], (shares * x[window].flatten(2)).sum(2))


def test_logits_range_over_twelve() -> None:
    """12 sigmoid(normalized) as in the paper, less 6, which cancels out: largest where the norm's output is large."""
    importance = Importance(2, 2, 3)
    nn.init.constant_(importance.bn.weight, 100.0)
    logits = importance(torch.randn(1, 2, 9, 9))
    assert logits.min().item() == pytest.approx(-6, abs=0.01)
    assert logits.max().item() == pytest.approx(6, abs=0.01)


@pytest.mark.slow
def test_pooling_starts_as_a_plain_average() -> None:
    """nn.AvgPool2d without its padding in the count."""
    network = lip_resnet50()
    x = torch.randn(2, 64, 9, 8)
    expected = nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)(x)
    torch.testing.assert_close(network.maxpool(x), expected)


def test_branch_and_shortcut_share_their_logits_trunk() -> None:
    """Its keys are the authors': one trunk a block, a 1x1 from it for each pooling, a 1x1 in place of the 3x3."""
    shapes = {key: tuple(tensor.shape) for key, tensor in PoolingBottleneck(32, 16).state_dict().items()}
    assert shapes["bottleneck_shared.logit.conv1.weight"] == (128, 32, 1, 1)
    assert shapes["bottleneck_shared.logit.conv2.weight"] == (128, 128, 3, 3)
    assert shapes["conv2.0.postprocessing.conv.weight"] == (16, 128, 1, 1)
    assert shapes["conv2.1.weight"] == (16, 16, 1, 1)
    assert shapes["downsample.lip.postprocessing.conv.weight"] == (32, 128, 1, 1)
    assert shapes["downsample.conv.weight"] == (64, 32, 1, 1)


@pytest.mark.slow
def test_parameters_and_macs() -> None:
    """From ResNet-50's: 23,864,232, the paper's 23.9 M, and 1.21 G multiply-adds more, as 5.33 G are over 4.12 G.

    The first pooling has a 3x3 of 64 channels and a norm. Each block with a stride, of C channels in and width w on n
    places, has a trunk (C * 128 + 9 * 128^2, two norms), two 1x1s from 128 to w and C with norms, and instead of its
    3x3 on n / 4 places a 1x1 there.
    """
    parameters, macs = 25_557_032 + 9 * 64**2 + 2 * 64, 4_089_184_256 + 9 * 64**2 * 112**2
    for channels, width, side in ((256, 128, 56), (512, 256, 28), (1024, 512, 14)):
        trunk, logits = channels * 128 + 9 * 128**2, 128 * (width + channels)
        parameters += trunk + logits + 2 * (128 + 128 + width + channels) - 8 * width**2
        macs += (trunk + logits) * side**2 - 8 * width**2 * (side // 2) ** 2
    with torch.device("meta"):
        assert sum(p.numel() for p in lip_resnet50().parameters()) == parameters == 23_864_232
    assert macs == 5_299_830_784  # which test_catalog.py holds against the network
    assert round((macs - 4_089_184_256) / 1e9, 2) == 1.21
