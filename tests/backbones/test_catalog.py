"""The whole catalogue, swept: every network, every level."""

import math
import subprocess
import sys
from typing import NamedTuple

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from public.backbones.catalog import build_backbone, build_features, list_backbones
from public.backbones.features import Backbone
from public.weights.loading import load_weights


class Expected(NamedTuple):
    """The 2020 monorepo's table, measured there with thop."""

    classes: int
    size: int
    params_m: float
    macs_g: float


EXPECTED = {
    "resnet18": Expected(1000, 224, 11.690, 1.814),
    "resnet34_half": Expected(1000, 224, 5.585, 0.946),
    "resnet34": Expected(1000, 224, 21.798, 3.664),
    "resnet50_half": Expected(1000, 224, 6.918, 1.052),
    "resnet50": Expected(1000, 224, 25.557, 4.089),
    "resnet101": Expected(1000, 224, 44.549, 7.801),
    "resnet152": Expected(1000, 224, 60.193, 11.514),
    "resnet18cifar": Expected(100, 32, 11.220, 0.555),
    "resnet34cifar": Expected(100, 32, 21.328, 1.159),
    "resnet50cifar": Expected(100, 32, 23.705, 1.298),
    "resnet101cifar": Expected(100, 32, 42.697, 2.510),
    "resnet152cifar": Expected(100, 32, 58.341, 3.722),
    "mobilenet_v2": Expected(1000, 224, 3.505, 0.301),  # torchvision's own numbers
}
NAMES = list_backbones()
IN_TORCHVISION = [name for name in NAMES if name in torchvision.models.list_models()]
LEVELS = [
    (name, level)
    for name in NAMES
    for level in (("c0", "c1", "c2", "c3") if "cifar" in name else ("c1", "c2", "c3", "c4", "c5"))
]


def test_the_sweeps_cover_the_catalogue() -> None:
    """7 ImageNet ResNets, 5 CIFAR ResNets, MobileNetV2; 8 networks with 5 levels and 5 with 4."""
    assert set(NAMES) == set(EXPECTED)
    assert len(NAMES) == len(set(NAMES)) == 7 + 5 + 1
    assert len(IN_TORCHVISION) == 5 + 1
    assert len(LEVELS) == 8 * 5 + 5 * 4


def _build_on_meta(name: str) -> Backbone:
    """Shapes without numbers: built, run and differentiated at no cost."""
    with torch.device("meta"):
        return build_backbone(name, EXPECTED[name].classes)


def _num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_parameters_and_macs(name: str) -> None:
    network, expected = _build_on_meta(name).eval(), EXPECTED[name]
    assert round(_num_parameters(network) / 1e6, 3) == expected.params_m
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, expected.size, expected.size, device="meta"))
    assert counter.get_total_flops() / 2 / 1e9 == pytest.approx(expected.macs_g, abs=0.006)


@pytest.mark.parametrize("name", IN_TORCHVISION)
def test_keys_and_shapes_are_torchvisions(name: str) -> None:
    with torch.device("meta"):
        referee = torchvision.models.get_model(name).state_dict()
    ours = _build_on_meta(name).state_dict()
    assert [(key, tensor.shape) for key, tensor in ours.items()] == [
        (key, tensor.shape) for key, tensor in referee.items()
    ]


@pytest.fixture(scope="module", params=NAMES)
def network(request: pytest.FixtureRequest) -> Backbone:
    """Each network once, with 7 classes, for all tests that run it; one at a time in memory."""
    torch.manual_seed(0)
    return build_backbone(request.param, num_classes=7)


@pytest.mark.parametrize("size", [(48, 48), (35, 27)])
def test_logits(network: Backbone, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        logits = network.eval()(torch.randn(2, 3, *size))
    assert logits.shape == (2, 7)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


def test_every_parameter_gets_a_finite_gradient(network: Backbone) -> None:
    network.train().zero_grad()
    loss = nn.functional.cross_entropy(network(torch.randn(4, 3, 17, 23)), torch.tensor([0, 6, 3, 1]))
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert len(gradients) > 50
    bad = [name for name, gradient in gradients.items() if gradient is None or not gradient.isfinite().all()]
    assert not bad
    network.zero_grad(set_to_none=True)


def test_bf16(network: Backbone) -> None:
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network.eval()(torch.randn(2, 3, 33, 27))
    assert logits.dtype == torch.bfloat16
    assert logits.isfinite().all()


def test_the_classifier_is_where_it_says(network: Backbone) -> None:
    keys = [key for key in network.state_dict() if key.startswith(network.classifier_prefix)]
    assert [network.state_dict()[key].shape[0] for key in keys] == [7, 7]  # weight, bias


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_features_of_an_odd_canvas(name: str, level: str) -> None:
    """Shapes, what is kept, and gradients, with each level in turn as the deepest."""
    canvas, stride = (75, 101), 2 ** int(level[1])
    network = _build_on_meta(name)
    keys = set(network.state_dict())
    features = network.to_features([level])
    maps = features(torch.zeros(2, 3, *canvas, device="meta"))
    assert features.strides == {level: stride}
    expected = (2, features.channels[level], math.ceil(canvas[0] / stride), math.ceil(canvas[1] / stride))
    assert {key: tuple(tensor.shape) for key, tensor in maps.items()} == {level: expected}

    maps[level].sum().backward()
    assert not [key for key, parameter in features.named_parameters() if parameter.grad is None]
    kept = set(features.state_dict())
    assert kept < keys
    assert {key for key in keys if key.startswith(features.left_out)} == keys - kept


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet18", [64, 64, 128, 256, 512]),
        ("resnet50", [64, 256, 512, 1024, 2048]),
        ("resnet50_half", [32, 128, 256, 512, 1024]),
        ("mobilenet_v2", [16, 24, 32, 96, 320]),  # as in the paper's table 2, and timm's `features_only`
    ],
)
def test_channels_by_level(name: str, channels: list[int]) -> None:
    with torch.device("meta"):
        features = build_features(name, ["c1", "c2", "c3", "c4", "c5"])
    assert list(features.channels.values()) == channels
    assert features.strides == {"c1": 2, "c2": 4, "c3": 8, "c4": 16, "c5": 32}


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_features_are_the_networks_own(name: str) -> None:
    """Loaded with the network's weights, the deepest level leads to the network's logits."""
    torch.manual_seed(0)
    network = build_backbone(name, num_classes=7).eval()
    features = build_features(name, ["c5", "c3"]).eval()  # any order
    report = load_weights(features, network.state_dict(), allow_unexpected=features.left_out)
    assert not report.missing
    images = torch.randn(1, 3, 65, 97)
    maps = features(images)
    assert list(maps) == ["c3", "c5"]
    assert torch.equal(network.forward_head(maps["c5"]), network(images))


def test_features_compile_into_one_graph() -> None:
    with torch.device("meta"):
        features = torch.compile(build_features("resnet18", ["c2"]), backend="eager", fullgraph=True)
        assert features(torch.zeros(1, 3, 33, 33))["c2"].shape == (1, 64, 9, 9)


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no backbone 'resnet5O'; the nearest: resnet50,"):
        build_backbone("resnet5O")
    with pytest.raises(ValueError, match=r"no backbone 'zzz'; there are: resnet18, .*mobilenet_v2\."):
        build_features("zzz", ["c3"])


def test_unknown_options_are_refused_with_those_allowed() -> None:
    with pytest.raises(ValueError, match=r"resnet18 has no option 'zero_init'; it takes: zero_init_residual\."):
        build_backbone("resnet18", zero_init=True)
    with pytest.raises(ValueError, match=r"mobilenet_v2 has no option 'depth'; it takes: dropout\."):
        build_features("mobilenet_v2", ["c3"], depth=3)


def test_impossible_numbers_of_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"num_classes=0 asked of resnet18; it must be at least 1\."):
        build_backbone("resnet18", num_classes=0)
    with pytest.raises(ValueError, match=r"num_classes=10 given for features of resnet18, which have no classes\."):
        build_features("resnet18", ["c3"], num_classes=10)


@pytest.mark.parametrize("levels", [["c3", "c6"], [], "p3", ["c0"]])
def test_unknown_levels_are_refused_with_those_offered(levels: list[str] | str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=r"asked of ResNet.*: c1, c2, c3, c4, c5\."):
        build_features("resnet18", levels)


def test_families_are_imported_one_by_one() -> None:
    """In a fresh process: the list needs no torch, and each family imports none of the others."""
    script = """
import sys
from public.backbones import catalog
assert len(catalog.list_backbones()) == 13 and "torch" not in sys.modules
families = set(catalog._FAMILIES)
for family, names in catalog._FAMILIES.items():
    catalog.build_backbone(names[0], 2)
    assert families & set(sys.modules) == {family}, (family, families & set(sys.modules))
    del sys.modules[family]
print("imported", len(families))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.stdout == "imported 3\n", result.stderr
