"""DarkNet against timm's, and against counts worked out by hand."""

import re

import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from public.backbones import darknet
from public.backbones.darknet import DarkNetOptions
from public.backbones.features import Backbone
from public.weights.key_maps_mobile import darknet_2020
from public.weights.loading import load_weights
from tests.backbones.reference import largest_difference

# channels in and out, kernel size, side of the output for images of 256 pixels: table 6 of YOLO9000
LAYERS_19 = [
    (3, 32, 3, 256),
    (32, 64, 3, 128),
    *((64, 128, 3, 64), (128, 64, 1, 64), (64, 128, 3, 64)),
    *((128, 256, 3, 32), (256, 128, 1, 32), (128, 256, 3, 32)),
    *((256, 512, 3, 16), (512, 256, 1, 16), (256, 512, 3, 16), (512, 256, 1, 16), (256, 512, 3, 16)),
    *((512, 1024, 3, 8), (1024, 512, 1, 8), (512, 1024, 3, 8), (1024, 512, 1, 8), (512, 1024, 3, 8)),
]
LAYERS_TINY = [(3, 16, 3, 256), *((2**n, 2 ** (n + 1), 3, 2 ** (11 - n)) for n in range(4, 9))]


def _counts(layers: list[tuple[int, int, int, int]]) -> tuple[int, int]:
    """Weights and two numbers a channel of the norm; a product for each weight and place."""
    parameters = sum(i * o * k * k + 2 * o for i, o, k, _ in layers)
    return parameters, sum(i * o * k * k * side**2 for i, o, k, side in layers)


def _counts_of(network: Backbone) -> tuple[int, int]:
    with FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, 3, 256, 256, device="meta"))
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops() // 2


def test_counts_of_darknet19() -> None:
    """The nineteenth layer is a 1x1 with bias on the map of 8x8. YOLOv3's table 2: 7.29 billion operations."""
    parameters, macs = _counts(LAYERS_19)
    assert len(LAYERS_19) == 18
    expected = (parameters + 1024 * 1000 + 1000, macs + 1024 * 1000 * 8**2)
    with torch.device("meta"):
        assert _counts_of(darknet.darknet19()) == expected
    assert round(2 * expected[1] / 1e9, 2) == 7.29


def test_counts_of_darknet_tiny() -> None:
    """The successor's number: 2.087 million parameters."""
    parameters, macs = _counts(LAYERS_TINY)
    expected = (parameters + 512 * 1000 + 1000, macs + 512 * 1000)
    with torch.device("meta"):
        assert _counts_of(darknet.darknet_tiny()) == expected
    assert round(expected[0] / 1e6, 3) == 2.087


@pytest.mark.slow
def test_counts_of_darknet53() -> None:
    """Table 1 of YOLOv3: a stem, and 1, 2, 8, 8, 4 pairs of a 1x1 and a 3x3 behind a strided 3x3."""
    layers = [(3, 32, 3, 256)]
    for channels, side, depth in ((64, 128, 1), (128, 64, 2), (256, 32, 8), (512, 16, 8), (1024, 8, 4)):
        half = channels // 2
        layers += [(half, channels, 3, side), *((channels, half, 1, side), (half, channels, 3, side)) * depth]
    assert len(layers) == 52  # and the classifier
    parameters, macs = _counts(layers)
    with torch.device("meta"):
        assert _counts_of(darknet.darknet53()) == (parameters + 1024 * 1000 + 1000, macs + 1024 * 1000)


@pytest.mark.slow
def test_logits_are_timms() -> None:
    """With timm's slope."""
    ours, reference = darknet.darknet53(options=DarkNetOptions(negative_slope=0.01)), timm.create_model("darknet53")
    assert largest_difference(ours, reference, [(64, 64), (49, 75)]) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["darknet19", "darknet53", "darknet_tiny"])
def test_the_slope_is_0_1_by_default(name: str) -> None:
    network = getattr(darknet, name)()
    slopes = {module.negative_slope for module in network.modules() if isinstance(module, torch.nn.LeakyReLU)}
    assert slopes == {0.1}


@pytest.mark.slow
def test_darknet19_classifies_every_place_and_averages() -> None:
    network = darknet.darknet19(5)
    maps = torch.randn(2, 1024, 3, 4)
    by_place = network.classifier(maps)  # [2, 5, 3, 4]
    torch.testing.assert_close(network.forward_head(maps), by_place.mean((2, 3)))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("layer1.conv.weight", "stages.0.blocks.0.conv.weight"),
        ("layer1.bn.running_var", "stages.0.blocks.0.bn.running_var"),
        ("layer5.Darknet19Block.4.bn.bias", "stages.4.blocks.4.bn.bias"),
        ("layer7.conv.weight", "classifier.weight"),
        ("conv1.conv.weight", "stem.conv1.conv.weight"),
        ("conv6.bn.weight", "stages.4.conv_down.bn.weight"),
        ("block3.7.conv2.bn.weight", "stages.2.blocks.7.conv2.bn.weight"),
        ("fc.bias", "head.fc.bias"),
        ("stem.conv1.conv.weight", "stem.conv1.conv.weight"),
    ],
)
def test_keys_of_2020(theirs: str, ours: str) -> None:
    assert darknet_2020(theirs) == ours


@pytest.mark.slow
def test_a_file_of_2020_fits() -> None:
    """DarkNet-19's, whose last layer has no bias: ours starts from zero, which is the same."""
    network = darknet.darknet19()
    file = {_as_in_2020(key): value.clone() for key, value in darknet.darknet19().state_dict().items()}
    del file["layer7.conv.bias"]
    report = load_weights(network, file, allow_missing=("classifier.bias",))
    assert report.missing == ["classifier.bias"]
    assert torch.equal(
        network.state_dict()["stages.4.blocks.4.conv.weight"], file["layer5.Darknet19Block.4.conv.weight"]
    )
    assert not network.state_dict()["classifier.bias"].any()


def _as_in_2020(key: str) -> str:
    key = re.sub(r"^stages\.0\.blocks\.0", "layer1", key)
    key = re.sub(r"^stages\.(\d)\.blocks", lambda stage: f"layer{int(stage[1]) + 1}.Darknet19Block", key)
    return key.replace("classifier", "layer7.conv")
