"""The whole catalog, swept: every network, every level."""

import ast
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from inspect import signature

import pytest
import torch
import torchvision
from torch import nn

from public.backbones.cards import CARDS, Card
from public.backbones.catalog import (
    _FAMILIES,
    NETWORK_KIND,
    _builder,
    build_backbone,
    build_features,
    list_backbones,
    options_of,
    table,
)
from public.backbones.features import Backbone
from public.backbones.options import given, own_settings
from public.datasets.locations import REPOSITORY
from public.evaluation.complexity import count
from public.weights.loading import load_weights

NAMES = list_backbones()
SMALLEST = [min(names, key=lambda name: CARDS[name].parameters) for names in _FAMILIES.values()]
OTHER_CODE = [
    "resnet50_half",
    "resnet50_v2",
    "resnet50cifar",
    "regnet_y_200mf",
    "darknet19",
    "darknet53",
    "vovnet19_slim_se",
]
"""Members of a family whose blocks or classes are not those of its smallest."""
IN_TORCHVISION = {
    name: CARDS[name].reference.removeprefix("torchvision ")
    for name in NAMES
    if re.fullmatch(r"torchvision (?!regnet)\w+", CARDS[name].reference)  # RegNets need numbers to be built there
}


def test_the_sweeps_cover_the_catalog() -> None:
    """A card for every network, in the order of the catalog; each function that builds one is in it."""
    assert list(CARDS) == NAMES
    assert len(NAMES) == sum(map(len, _FAMILIES.values()))  # a name in two families would count once
    assert set(OTHER_CODE) <= set(NAMES) - set(SMALLEST)
    assert sorted(builder.name for builder in _builders()) == sorted(NAMES)


def _builders() -> Iterator[ast.FunctionDef]:
    """The functions of the folder that give a network of a number of classes and options."""
    for path in (REPOSITORY / "public" / "backbones").glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and [a.arg for a in node.args.args] == ["num_classes", "options"]:
                yield node


def _build_on_meta(name: str) -> Backbone:
    """Shapes without numbers: built and run without arithmetic."""
    with torch.device("meta"):
        return build_backbone(name, CARDS[name].num_classes)


@pytest.fixture(scope="module", params=NAMES)
def on_meta(request: pytest.FixtureRequest) -> tuple[Card, Backbone]:
    """Each network once, with its card."""
    return CARDS[request.param], _build_on_meta(request.param)


@pytest.mark.slow
def test_parameters_and_macs(on_meta: tuple[Card, Backbone]) -> None:
    card, network = on_meta
    assert count(network, card.input_size) == (card.parameters, card.macs)


@pytest.mark.slow
def test_features_keep_what_leads_to_them(on_meta: tuple[Card, Backbone]) -> None:
    """With the last level but one as the deepest: the rest is skipped, and named by its beginnings."""
    card, network = on_meta
    keys = set(network.state_dict())
    features = network.to_features([card.levels[-2]])
    kept = set(features.state_dict())
    assert kept < keys
    assert {key for key in keys if key.startswith(features.unused_prefixes)} == keys - kept


@pytest.mark.slow
@pytest.mark.parametrize(("name", "model"), IN_TORCHVISION.items())
def test_keys_and_shapes_are_torchvisions(name: str, model: str) -> None:
    with torch.device("meta"):
        reference = torchvision.models.get_model(model).state_dict()
    ours = _build_on_meta(name).state_dict()
    assert {key: tensor.shape for key, tensor in ours.items()} == {key: t.shape for key, t in reference.items()}


@pytest.mark.slow
def test_levels_of_an_odd_canvas(on_meta: tuple[Card, Backbone]) -> None:
    """Names, channels and strides are the card's, and the maps have those shapes."""
    card, network = on_meta
    assert tuple(network.levels) == card.levels
    features = network.eval().to_features(card.levels)
    assert tuple(features.channels.values()) == card.channels
    assert tuple(features.strides.values()) == card.strides
    with torch.inference_mode():
        maps = features(torch.zeros(2, 3, 75, 101, device="meta"))
    expected = [
        (2, channels, math.ceil(75 / stride), math.ceil(101 / stride))
        for channels, stride in zip(card.channels, card.strides, strict=True)
    ]
    assert [x.shape for x in maps.values()] == expected


def test_the_classifier_is_where_it_says(on_meta: tuple[Card, Backbone]) -> None:
    card, network = on_meta
    shapes = [value.shape for key, value in network.state_dict().items() if key.startswith(network.classifier_prefix)]
    assert [shape[0] for shape in shapes] == [card.num_classes, card.num_classes]  # weight, bias


@pytest.fixture(scope="module", params=SMALLEST + OTHER_CODE)
def network(request: pytest.FixtureRequest) -> Backbone:
    """One of all that share their code, with 7 classes, for the tests that run it; one at a time in memory."""
    torch.manual_seed(0)
    return build_backbone(request.param, num_classes=7)


@pytest.mark.slow
def test_logits(network: Backbone) -> None:
    with torch.inference_mode():
        logits = network.eval()(torch.randn(2, 3, 32, 43))
    assert logits.shape == (2, 7)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


@pytest.mark.slow
def test_levels_give_gradients_to_all_before(network: Backbone) -> None:
    """From each map to the one before, and so, by what was found for that, to everything that led there."""
    features = network.eval().to_features(list(network.levels))
    before: list[torch.Tensor] = []
    for level, x in features(torch.randn(2, 3, 35, 27)).items():
        modules = [features.get_submodule(path) for path in features.levels[level].modules]
        inputs = [*before, *(parameter for module in modules for parameter in module.parameters())]
        slopes = torch.autograd.grad(x.sum(), inputs, retain_graph=True, allow_unused=True)
        assert all(slope is not None for slope in slopes), level
        before = [x]


@pytest.mark.slow
def test_every_parameter_gets_a_finite_gradient(network: Backbone) -> None:
    network.train().zero_grad()
    loss = nn.functional.cross_entropy(network(torch.randn(4, 3, 17, 23)), torch.tensor([0, 6, 3, 1]))
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert len(gradients) > 15
    bad = [name for name, gradient in gradients.items() if gradient is None or not gradient.isfinite().all()]
    assert not bad


@pytest.mark.slow
def test_bf16(network: Backbone) -> None:
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network.eval()(torch.randn(2, 3, 33, 27))
    assert logits.dtype == torch.bfloat16
    assert logits.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2"])
def test_features_are_the_networks_own(backbone: str) -> None:
    """Loaded with the network's weights, the deepest level leads to the network's logits."""
    torch.manual_seed(0)
    network = build_backbone(backbone, num_classes=7).eval()
    features = build_features(backbone, ["c5", "c3"]).eval()  # any order
    report = load_weights(features, network.state_dict(), allow_unexpected=features.unused_prefixes)
    assert not report.missing
    images = torch.randn(1, 3, 65, 97)
    maps = features(images)
    assert list(maps) == ["c3", "c5"]
    assert torch.equal(network.forward_head(maps["c5"]), network(images))


@pytest.mark.slow
def test_features_compile_into_one_graph() -> None:
    with torch.device("meta"):
        features = torch.compile(build_features("resnet18", ["c2"]), backend="eager", fullgraph=True)
        assert features(torch.zeros(1, 3, 33, 33))["c2"].shape == (1, 64, 9, 9)


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no backbone 'resnet5O'; the nearest: resnet50,"):
        build_backbone("resnet5O")
    with pytest.raises(ValueError, match=rf"no backbone 'zzz'; there are: resnet18, .*{NAMES[-1]}\."):
        build_features("zzz", ["c3"])


def test_unknown_options_are_refused_with_those_allowed() -> None:
    with pytest.raises(
        ValueError, match=r"resnet18 has no option 'zero_init'; it takes: drop_path, zero_init_residual\."
    ):
        build_backbone("resnet18", zero_init=True)
    with pytest.raises(ValueError, match=r"mobilenet_v2 has no option 'depth'; it takes: dropout\."):
        build_features("mobilenet_v2", ["c3"], depth=3)


@pytest.mark.parametrize("name", NAMES)
def test_options_state_what_the_constructor_takes(name: str) -> None:
    """Each of a family's own settings is a keyword of its network's class, and None, the network's own, by default."""
    kind = options_of(name)
    makers = signature(_builder(name)).return_annotation.__mro__
    taken = {parameter for maker in makers if "__init__" in vars(maker) for parameter in signature(maker).parameters}
    assert set(own_settings(kind)) <= taken
    assert given(kind()) == {}
    assert NETWORK_KIND.type_of(name) is kind


def test_kinds_of_options_have_names_of_their_own() -> None:
    kinds = {options_of(name) for name in NAMES}
    assert len({kind.kind for kind in kinds}) == len(kinds) > 1
    assert list(NETWORK_KIND.names) == NAMES


def test_impossible_numbers_of_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"num_classes=0 asked of resnet18; it must be at least 1\."):
        build_backbone("resnet18", num_classes=0)
    with pytest.raises(ValueError, match=r"num_classes=10 given for features of resnet18, which have no classes\."):
        build_features("resnet18", ["c3"], num_classes=10)


@pytest.mark.parametrize("levels", [["c3", "c6"], [], "p3", ["c0"]])
def test_unknown_levels_are_refused_with_those_offered(levels: list[str] | str) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=r"asked of ResNet.*: c1, c2, c3, c4, c5\."):
        build_features("resnet18", levels)


def _run(script: str) -> str:
    """What a fresh process prints."""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.slow
def test_families_are_imported_one_by_one() -> None:
    """In a fresh process: each imports none of the others."""
    script = """
import sys
from importlib import import_module
from public.backbones.catalog import _FAMILIES
families = set(_FAMILIES)
for family in _FAMILIES:
    import_module(family)
    assert families & set(sys.modules) == {family}, (family, families & set(sys.modules))
    del sys.modules[family]
print(len(families))
"""
    assert int(_run(script)) == len(_FAMILIES)


def test_the_table_needs_no_torch() -> None:
    """Which takes seconds to import: the table comes at once."""
    script = """
import sys
from public.backbones import catalog
catalog.list_backbones(), catalog.table(), catalog.NETWORK_KIND.names
print("torch" in sys.modules)
"""
    assert _run(script) == "False"


def test_the_page_of_networks_shows_the_table() -> None:
    text = (REPOSITORY / "docs" / "networks.md").read_text(encoding="utf-8")
    shown = text.partition("<!-- networks -->\n")[2].partition("<!-- end of networks -->")[0]
    assert shown.rstrip() == table().rstrip(), "paste the output of `python -m public.backbones.catalog`"


def test_the_table_has_a_row_for_every_network() -> None:
    """As many cells in each as in the header; two rows in full."""
    header, rule, *rows = table().splitlines()
    assert [row.split("`")[1] for row in rows] == NAMES
    assert {row.count("|") for row in (header, rule, *rows)} == {10}
    assert rows[NAMES.index("resnet50")] == (
        "| `resnet50` | 25.557 M | 4.089 G | 224 | c1-c5: 64, 256, 512, 1024, 2048 | 2, 4, 8, 16, 32 "
        "| torchvision resnet50 | 76.13 | torchvision IMAGENET1K_V1 |"
    )
    assert rows[NAMES.index("resnet152_v2")].endswith("| timm resnetv2_152 | - | not stated |")
