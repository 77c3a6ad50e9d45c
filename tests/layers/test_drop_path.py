"""Stochastic depth: the paper's rates, and what a skipped block leaves of an image."""

import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from public.backbones.catalog import build_backbone
from public.layers.drop_path import linear_drop_path_
from public.layers.residual import BasicBlock

BLOCKS = {
    "resnet18": 8,
    "resnext50_32x4d": 16,
    "wide_resnet50_2": 16,
    "resnet34_v2": 16,
    "resnest50": 16,
    "oct_resnet50_alpha0125": 16,
    "detnet59": 19,
    "lambda_resnet50": 16,
    "evonorm_resnet50": 16,
    "lip_resnet50": 16,
    "resnet18cifar": 8,
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "num_blocks"), BLOCKS.items())
def test_rates_grow_linearly_to_the_last_block(name: str, num_blocks: int) -> None:
    """The paper's p_l = 1 - l / L (1 - p_L) is the share that stays: 1 - rate * l / L, from the first block on."""
    with torch.device("meta"):
        network = build_backbone(name, drop_path=0.4)
    rates = [layer.p for layer in network.modules() if isinstance(layer, StochasticDepth)]
    assert rates == pytest.approx([0.4 * number / num_blocks for number in range(1, num_blocks + 1)])


def test_without_the_option_nothing_is_dropped() -> None:
    with torch.device("meta"):
        network = build_backbone("resnet18")
    assert {layer.p for layer in network.modules() if isinstance(layer, StochasticDepth)} == {0.0}


def test_a_skipped_image_is_its_shortcut_and_the_others_count_more() -> None:
    """With rate 0.75 a branch that stays counts four times; of 400 images about 300 are skipped."""
    torch.manual_seed(0)
    block = BasicBlock(4, 4)
    block.drop_path.p = 0.75
    block.bn2 = nn.BatchNorm2d(4, affine=False, momentum=None)
    x = torch.rand(400, 4, 3, 3)
    outputs = block(x)
    block.drop_path.p = 0.0
    branch = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(x)))))
    kept = torch.relu(4 * branch + x)
    is_shortcut = (outputs == x).flatten(1).all(1)
    torch.testing.assert_close(outputs[~is_shortcut], kept[~is_shortcut])
    assert 300 - 4 * 8.7 < is_shortcut.sum().item() < 300 + 4 * 8.7  # 4 standard deviations


def test_evaluation_drops_nothing() -> None:
    torch.manual_seed(0)
    block = BasicBlock(4, 4).eval()
    x = torch.randn(3, 4, 5, 5)
    expected = block(x)
    block.drop_path.p = 0.9
    assert torch.equal(block(x), expected)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_rates_out_of_range_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=rf"drop_path={rate} must lie within \[0, 1\)"):
        linear_drop_path_(nn.Identity(), rate)
