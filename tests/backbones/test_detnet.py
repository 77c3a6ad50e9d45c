"""DetNet-59: the numbers of its published layout."""

import pytest
import torch
from torch import nn

from public.backbones.detnet import DilatedBottleneck, detnet59
from public.backbones.features import Backbone


def _network() -> Backbone:
    with torch.device("meta"):
        return detnet59()


def test_parameters_by_layer() -> None:
    """A bottleneck of width w, from C channels: C w + 9 w^2 + 4 w^2 in convolutions, 2 (w + w + 4 w) in norms.

    A projection adds C * 4 w + 2 * 4 w. Layers 1 to 3 are ResNet-50's; the dilated ones have 1024 channels throughout
    and a projection in the first of their three blocks.
    """

    def block(channels: int, width: int, project: bool = False) -> int:
        branch = channels * width + 13 * width**2 + 12 * width
        return branch + (channels * 4 * width + 8 * width if project else 0)

    stem = 3 * 64 * 49 + 2 * 64
    layers = [block(64, 64, True) + 2 * block(256, 64), block(256, 128, True) + 3 * block(512, 128)]
    layers.append(block(512, 256, True) + 5 * block(1024, 256))
    layers += 2 * [block(1024, 256, True) + 2 * block(1024, 256)]
    network = _network()
    counted = [sum(p.numel() for p in network.get_submodule(f"layer{i}").parameters()) for i in range(1, 6)]
    assert counted == layers
    assert stem + sum(layers) == 17_347_648
    assert sum(p.numel() for p in network.parameters()) == 17_347_648 + 1024 * 1000 + 1000


def test_59_layers() -> None:
    """1 in the stem, 3 in each of 3 + 4 + 6 + 3 + 3 blocks, the classifier; projections are not counted."""
    convs = [name for name, m in _network().named_modules() if isinstance(m, nn.Conv2d) and "downsample" not in name]
    assert len(convs) + 1 == 59


@pytest.mark.slow
def test_the_map_stops_shrinking_at_16() -> None:
    features = _network().to_features(["c2", "c3", "c4", "c5", "c6"])
    assert features.strides == {"c2": 4, "c3": 8, "c4": 16, "c5": 16, "c6": 16}
    maps = features(torch.zeros(1, 3, 75, 101, device="meta"))
    assert [tuple(x.shape[1:]) for x in maps.values()] == [(256, 19, 26), (512, 10, 13)] + 3 * [(1024, 5, 7)]


def test_a_dilated_block_sees_two_pixels_away() -> None:
    """A change of one pixel reaches its own place and the eight at distance 2, past the norms in evaluation mode."""
    torch.manual_seed(0)
    block = DilatedBottleneck(project=True).eval()
    x = torch.randn(1, 1024, 7, 7)
    changed = x.clone()
    changed[0, :, 3, 3] += 10
    reached = (block(x) != block(changed)).any(1)[0]
    assert reached.nonzero().tolist() == [[y, x] for y in (1, 3, 5) for x in (1, 3, 5)]
