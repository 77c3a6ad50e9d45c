"""The feature pyramid against torchvision's."""

import math
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

from public.detectors.pyramid import FeaturePyramid, PyramidBackbone
from public.layers.frozen_batch_norm import FrozenBatchNorm2d
from public.weights.loading import load_weights

CHANNELS = {"c3": 6, "c4": 10, "c5": 12}


def random_maps() -> dict[str, Tensor]:
    """Of an image of 67 x 101 pixels: sizes that are no doubles of each other."""
    sizes = {"c3": (9, 13), "c4": (5, 7), "c5": (3, 4)}
    return {name: torch.randn(2, CHANNELS[name], *size) for name, size in sizes.items()}


def build(levels: tuple[str, ...], **options: Any) -> PyramidBackbone:
    return PyramidBackbone("resnet18", levels, **{"channels": 8, "extra": "c5", **options})


@pytest.mark.parametrize("extra", ["c5", "p5", None])
def test_torchvisions_pyramid(extra: Any) -> None:
    torch.manual_seed(0)
    blocks = LastLevelP6P7(12 if extra == "c5" else 8, 8) if extra else None
    referee = FeaturePyramidNetwork([6, 10, 12], 8, blocks)
    for parameter in referee.parameters():
        nn.init.normal_(parameter, std=0.2)
    ours = FeaturePyramid(CHANNELS, 8, extra)
    load_weights(ours, referee.state_dict())
    maps = random_maps()
    expected = list(referee(OrderedDict(maps)).values())
    levels = ours(maps)
    assert len(levels) == len(expected) == (5 if extra else 3)
    for level, wanted in zip(levels, expected, strict=True):
        torch.testing.assert_close(level, wanted)


def test_p6_by_hand() -> None:
    """All kernels 1 in the middle: P6 is every other value of C5 or P5, P7 every fourth, without the negative ones."""
    fpn = FeaturePyramid({"c5": 1}, 1, "c5")
    for name, parameter in fpn.named_parameters():
        nn.init.zeros_(parameter)
        if name.endswith("weight"):
            parameter.data[0, 0, parameter.shape[2] // 2, parameter.shape[3] // 2] = 1
    nn.init.constant_(fpn.layer_blocks[0][0].bias, 100.0)  # pyright: ignore[reportArgumentType, reportIndexIssue]
    c5 = torch.tensor([[-1.0, 2, 3, 4, 5]]).view(1, 1, 1, 5)
    p5, p6, p7 = fpn({"c5": c5})
    assert p5.flatten().tolist() == [99, 102, 103, 104, 105]
    assert p6.flatten().tolist() == [-1, 3, 5]
    assert p7.flatten().tolist() == [0, 5]
    fpn.extra = "p5"
    assert fpn({"c5": c5})[1].flatten().tolist() == [99, 103, 105]


@pytest.mark.parametrize(
    ("levels", "strides"),
    [
        (("p3", "p4", "p5", "p6", "p7"), (8, 16, 32, 64, 128)),
        (("p2", "p3", "p4", "p5"), (4, 8, 16, 32)),
        (("p4", "p5", "p6", "p7"), (16, 32, 64, 128)),
        (("p5",), (32,)),
    ],
)
def test_levels(levels: tuple[str, ...], strides: tuple[int, ...]) -> None:
    backbone = build(levels).eval()
    assert backbone.strides == strides
    with torch.inference_mode():
        maps = backbone(torch.zeros(1, 3, 67, 101))
    sizes = [(1, 8, math.ceil(67 / stride), math.ceil(101 / stride)) for stride in strides]
    assert [tuple(x.shape) for x in maps] == sizes


@pytest.mark.parametrize(
    "levels",
    [(), ("p6", "p7"), ("p3", "p5"), ("p3", "p4"), ("p3", "p4", "p5", "p6"), ("p5", "p4"), ("p1",), ("c3", "p4", "p5")],
)
def test_impossible_levels_are_refused(levels: tuple[str, ...]) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=r"levels=.* give p2, p3 or p4 up to p5"):
        build(levels)


def test_levels_that_a_backbone_lacks_are_refused() -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=r"c3, c4, c5|c0, c1, c2, c3"):
        PyramidBackbone("resnet18cifar", ("p3", "p4", "p5"), channels=8, extra="c5")


def test_frozen_parts() -> None:
    """One stage frozen: stem and its norm. Frozen norms: all of the backbone's, none of their weights trains."""
    backbone = build(("p3", "p4", "p5"), frozen_stages=2).train()
    fixed = {name.split(".")[1] for name, p in backbone.named_parameters() if not p.requires_grad}
    assert fixed == {"conv1", "bn1", "layer1"}
    kinds = {name: type(m) for name, m in backbone.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert {name for name, kind in kinds.items() if kind is FrozenBatchNorm2d} == {
        name for name in kinds if "bn1" in name.split(".")[:2] or "layer1" in name
    }
    backbone = build(("p3", "p4", "p5"), frozen_batch_norm=True).train()
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 20
    assert all(type(m) is FrozenBatchNorm2d and not m.training for m in norms)
    fixed = {name for name, p in backbone.named_parameters() if not p.requires_grad}
    assert len(fixed) == 40
    with pytest.raises(ValueError, match="frozen_stages=9"):
        build(("p3", "p4", "p5"), frozen_stages=9)


def test_every_trained_parameter_gets_a_gradient() -> None:
    torch.manual_seed(0)
    backbone = build(("p3", "p4", "p5", "p6", "p7"), frozen_stages=1)
    torch.stack([x.sum() for x in backbone(torch.randn(2, 3, 64, 64))]).sum().backward()
    assert not [name for name, p in backbone.named_parameters() if p.requires_grad != (p.grad is not None)]
