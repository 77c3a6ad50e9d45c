"""The feature pyramid against torchvision's."""

import math
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

from public.backbones.features import Backbone, Level
from public.detectors import pyramid as pyramid_module
from public.detectors.pyramid import DetNetPyramid, FeaturePyramid, PyramidBackbone
from public.layers.frozen_batch_norm import FrozenBatchNorm2d
from public.weights.loading import load_weights

CHANNELS = {"c3": 6, "c4": 10, "c5": 12}


def random_maps() -> dict[str, Tensor]:
    """Of an image of 67 x 101 pixels: sizes that are no doubles of each other."""
    sizes = {"c3": (9, 13), "c4": (5, 7), "c5": (3, 4)}
    return {name: torch.randn(2, CHANNELS[name], *size) for name, size in sizes.items()}


def build(levels: tuple[str, ...], **options: Any) -> PyramidBackbone:
    return PyramidBackbone("resnet18", levels, **{"channels": 8, "extra": "c5", **options})


@pytest.mark.slow
@pytest.mark.parametrize("extra", ["c5", "p5", None])
def test_torchvisions_pyramid(extra: Any) -> None:
    torch.manual_seed(0)
    blocks = LastLevelP6P7(12 if extra == "c5" else 8, 8) if extra else None
    reference = FeaturePyramidNetwork([6, 10, 12], 8, blocks)
    for parameter in reference.parameters():
        nn.init.normal_(parameter, std=0.2)
    ours = FeaturePyramid(CHANNELS, 8, extra)
    load_weights(ours, reference.state_dict())
    maps = random_maps()
    expected = list(reference(OrderedDict(maps)).values())
    levels = ours(maps)
    assert len(levels) == len(expected) == (5 if extra else 3)
    for level, want in zip(levels, expected, strict=True):
        torch.testing.assert_close(level, want)


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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_every_trained_parameter_gets_a_gradient() -> None:
    torch.manual_seed(0)
    backbone = build(("p3", "p4", "p5", "p6", "p7"), frozen_stages=1)
    torch.stack([x.sum() for x in backbone(torch.randn(2, 3, 64, 64))]).sum().backward()
    assert not [name for name, p in backbone.named_parameters() if p.requires_grad != (p.grad is not None)]


# ---- faster r-cnn's sixth level, and DetNet's pyramid ---------------------------------------------------------------

FIVE = ("p2", "p3", "p4", "p5", "p6")


class Dilated(Backbone):
    """As DetNet: five levels, of which the last three have stride 16."""

    def __init__(self) -> None:
        super().__init__()
        self.levels, before = {}, 3
        for i, (stride, step, channels) in enumerate(((4, 4, 6), (8, 2, 8), (16, 2, 10), (16, 1, 12), (16, 1, 14)), 2):
            self.add_module(f"conv{i}", nn.Conv2d(before, channels, 3, stride=step, padding=1))
            self.levels[f"c{i}"] = Level(stride, channels, (f"conv{i}",))
            before = channels


def independent_detnet(fpn: dict[str, Tensor], maps: list[Tensor]) -> list[Tensor]:
    """The wiring, level by level as it is drawn."""
    c2, c3, c4, c5, c6 = (
        functional.conv2d(x, fpn[f"inner_blocks.{i}.0.weight"], fpn[f"inner_blocks.{i}.0.bias"])
        for i, x in enumerate(maps)
    )
    p6 = c6
    p5 = c5 + p6
    p4 = c4 + p5

    def finer(lateral: Tensor, deeper: Tensor, smooth: str) -> Tensor:
        enlarged = functional.interpolate(deeper, lateral.shape[2:], mode="bilinear", align_corners=False)
        return functional.conv2d(lateral + enlarged, fpn[f"{smooth}.weight"], fpn[f"{smooth}.bias"], padding=1)

    p3 = finer(c3, p4, "layer_blocks.1.0")
    p2 = finer(c2, p3, "layer_blocks.0.0")
    return [p2, p3, p4, p5, p6]


def test_detnets_wiring() -> None:
    torch.manual_seed(0)
    channels = {f"c{i}": 4 + i for i in range(2, 7)}
    strides = dict(zip(channels, (4, 8, 16, 16, 16), strict=True))
    pyramid = DetNetPyramid(channels, strides, 5)
    sizes = ((17, 26), (9, 13), (5, 7), (5, 7), (5, 7))
    maps = {name: torch.randn(2, c, *size) for (name, c), size in zip(channels.items(), sizes, strict=True)}
    expected = independent_detnet(pyramid.state_dict(), list(maps.values()))
    for level, want in zip(pyramid(maps), expected, strict=True):
        torch.testing.assert_close(level, want)


def test_parameters_of_detnets_pyramid() -> None:
    """Five 1x1 convolutions from 256, 512 and three times 1024 channels to 256, two of 3x3; as its authors' code."""
    channels = {"c2": 256, "c3": 512, "c4": 1024, "c5": 1024, "c6": 1024}
    with torch.device("meta"):
        pyramid = DetNetPyramid(channels, dict(zip(channels, (4, 8, 16, 16, 16), strict=True)), 256)
    assert sum(p.numel() for p in pyramid.parameters()) == 2_164_480


@pytest.mark.parametrize("pyramid", ["standard", "detnet"])
def test_a_backbone_with_c6_gives_p6(pyramid: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyramid_module, "build_backbone", lambda name: Dilated())
    torch.manual_seed(0)
    backbone = build(FIVE, extra="pool", pyramid=pyramid)
    assert backbone.strides == (4, 8, 16, 16, 16)
    maps = backbone(torch.randn(2, 3, 66, 101))
    assert [tuple(x.shape[2:]) for x in maps] == [(17, 26), (9, 13), (5, 7), (5, 7), (5, 7)]
    if pyramid == "detnet":
        expected = independent_detnet(
            backbone.fpn.state_dict(), list(backbone.body(torch.zeros(1, 3, 64, 64)).values())
        )
        for level, want in zip(backbone(torch.zeros(1, 3, 64, 64)), expected, strict=True):
            torch.testing.assert_close(level, want)
    torch.stack([x.sum() for x in maps]).sum().backward()
    assert not [name for name, p in backbone.named_parameters() if p.grad is None]
    without = build(FIVE[:4], extra="pool", pyramid=pyramid)
    assert without.strides == (4, 8, 16, 16)


@pytest.mark.slow
@pytest.mark.parametrize("pyramid", ["standard", "detnet"])
def test_others_have_every_second_value_of_p5(pyramid: Any) -> None:
    backbone = build(FIVE, extra="pool", pyramid=pyramid).eval()
    assert backbone.strides == (4, 8, 16, 32, 64)
    maps = backbone(torch.randn(1, 3, 67, 101))
    assert torch.equal(maps[4], maps[3][:, :, ::2, ::2])
    assert len(build(("p3", "p4", "p5"), extra="pool").strides) == 3


@pytest.mark.parametrize("levels", [(), ("p6",), ("p2", "p3"), ("p4", "p5", "p6", "p7"), ("p2", "p4", "p5", "p6")])
def test_impossible_levels_with_a_pooled_sixth_are_refused(levels: tuple[str, ...]) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=r"levels=.* p2, p3 or p4 up to p5, then p6 or not"):
        build(levels, extra="pool")
