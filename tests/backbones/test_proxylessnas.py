"""ProxylessNAS against counts worked out by hand."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from public.backbones import proxylessnas

# Each block that the search kept, as kernel, expansion, channels, and stride: figure 4 of the paper. Stem and head;
# the published models' numbers of parameters, and millions of multiply-adds at 224.
GPU = """3 1 24 1
5 3 32 2
7 3 56 2   3 3 56 1
7 6 112 2  5 3 112 1
5 6 128 1  3 3 128 1  5 3 128 1
7 6 256 2  7 6 256 1  7 6 256 1  5 6 256 1
7 6 432 1"""
CPU = """3 1 24 1
3 6 32 2   3 3 32 1   3 3 32 1   3 3 32 1
3 6 48 2   3 3 48 1   3 3 48 1   5 3 48 1
3 6 88 2   3 3 88 1
5 6 104 1  3 3 104 1  3 3 104 1  3 3 104 1
5 6 216 2  5 3 216 1  5 3 216 1  3 3 216 1
5 6 360 1"""
MOBILE = """3 1 16 1
5 3 32 2   3 3 32 1
7 3 40 2   3 3 40 1   5 3 40 1   5 3 40 1
7 6 80 2   5 3 80 1   5 3 80 1   5 3 80 1
5 6 96 1   5 3 96 1   5 3 96 1   5 3 96 1
7 6 192 2  7 6 192 1  7 3 192 1  7 3 192 1
7 6 320 1"""
NETWORKS = [
    ("proxylessnas_gpu", GPU, 40, 1728, 7_119_848, 465.3),
    ("proxylessnas_cpu", CPU, 40, 1432, 4_361_648, 439.2),
    ("proxylessnas_mobile", MOBILE, 32, 1280, 4_080_512, 320.4),
]


def _counts(blocks: str, stem: int, head: int) -> tuple[int, int]:
    """Parameters (a norm has two a channel) and multiply-adds at 224."""
    numbers = [int(number) for number in blocks.split()]
    parameters, macs, side, channels = 3 * 9 * stem + 2 * stem, 3 * 9 * stem * 112**2, 112, stem
    for kernel, expansion, out, stride in zip(*(numbers[start::4] for start in range(4)), strict=True):
        hidden, after = channels * expansion, side // stride
        up, depthwise, down = channels * hidden * (expansion > 1), hidden * kernel**2, hidden * out
        parameters += up + depthwise + down + 2 * (hidden * (1 + (expansion > 1)) + out)
        macs += up * side**2 + (depthwise + down) * after**2
        side, channels = after, out
    parameters += channels * head + 2 * head + head * 1000 + 1000
    return parameters, macs + channels * head * side**2 + head * 1000


@pytest.mark.slow
@pytest.mark.parametrize(("name", "blocks", "stem", "head", "published", "millions"), NETWORKS)
def test_counts(name: str, blocks: str, stem: int, head: int, published: int, millions: float) -> None:
    with torch.device("meta"):
        network = getattr(proxylessnas, name)().eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, 3, 224, 224))
    parameters, macs = _counts(blocks, stem, head)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters == published
    assert counter.get_total_flops() == 2 * macs
    assert round(macs / 1e6, 1) == millions


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, *_ in NETWORKS])
def test_keys_are_the_published_ones(name: str) -> None:
    """21 blocks are counted, those skipped included, and one of expansion 1 begins."""
    with torch.device("meta"):
        network = getattr(proxylessnas, name)()
    keys = set(network.state_dict())
    assert {"first_conv.conv.weight", "feature_mix_layer.bn.bias", "classifier.linear.weight"} <= keys
    assert "blocks.0.mobile_inverted_conv.inverted_bottleneck.conv.weight" not in keys
    assert "blocks.21.mobile_inverted_conv.inverted_bottleneck.conv.weight" in keys
    assert "blocks.21.mobile_inverted_conv.depth_conv.bn.running_var" in keys
    assert "blocks.21.mobile_inverted_conv.point_linear.conv.weight" in keys
    assert len(network.blocks) == 22


@pytest.mark.slow
def test_a_block_skipped_changes_nothing() -> None:
    """The second of the GPU's four blocks with 32 channels."""
    network = proxylessnas.proxylessnas_gpu()
    x = torch.randn(1, 32, 5, 5)
    assert torch.equal(network.blocks[2](x), x)


def test_norms_have_the_authors_epsilon() -> None:
    norms = [layer for layer in proxylessnas.proxylessnas_cpu().modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.1)}
