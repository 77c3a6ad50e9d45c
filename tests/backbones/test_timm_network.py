"""Networks of timm by their names: timm's own outputs and keys, maps as the contract of `features.py` has them."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

pytest.importorskip("timm")

import timm

from public.backbones.build import build_from_options, build_network
from public.backbones.catalog import NETWORK_KIND, build_backbone, check_backbone_name, options_of
from public.backbones.timm_network import TimmNetwork, TimmOptions, listing
from public.config.classification import ClassificationConfig
from public.config.command_line import parse_config
from public.config.options import NetworkOptions
from public.config.record import from_record, to_record
from public.evaluation.complexity import count
from public.layers.folding import fold_batch_norms
from public.layers.frozen_batch_norm import freeze_batch_norm
from public.layers.switch_norm import replace_batch_norms
from public.recipes.classification import ClassificationTask
from public.runtime.parallel import _synchronize_batch_norms
from public.test_scripts.test_on_imagenet import IMAGENET
from public.weights.loading import load_weights
from public.weights.published import note_on_input

PYRAMID = {"c2": 4, "c3": 8, "c4": 16, "c5": 32}
STEMMED = {"c1": 2} | PYRAMID


def small(name: str, **options: Any) -> TimmNetwork:
    """One of timm's networks for tests, with seven classes."""
    torch.manual_seed(0)
    network = build_backbone(f"timm:{name}", 7, **options).eval()
    assert isinstance(network, TimmNetwork)
    return network


def images(height: int, width: int, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


# ---- the sweep -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "prefix", "strides", "channels"),
    [
        ("resnet10t", ("fc.",), STEMMED, (64, 64, 128, 256, 512)),
        ("test_resnet", ("fc.",), STEMMED, (32, 32, 48, 192, 96)),
        ("resnetv2_18", ("head.fc.",), STEMMED, (64, 64, 128, 256, 512)),
        ("regnetx_002", ("head.fc.",), STEMMED, (32, 24, 56, 152, 368)),
        ("repghostnet_050", ("classifier.",), STEMMED, (8, 12, 20, 40, 80)),
        ("dla46x_c", ("fc.",), {"c0": 1} | STEMMED, (16, 32, 64, 64, 128, 256)),
        ("test_nfnet", ("head.fc.",), STEMMED, (64, 32, 64, 96, 192)),
        ("test_byobnet", ("head.fc.",), STEMMED, (24, 32, 64, 128, 256)),
        ("mobilenetv3_small_050", ("classifier.",), STEMMED, (16, 8, 16, 24, 288)),
        ("test_efficientnet", ("classifier.",), STEMMED, (16, 24, 32, 48, 64)),
        ("ghostnet_050", ("classifier.",), STEMMED, (8, 12, 20, 40, 80)),
        ("rexnet_100", ("head.fc.",), STEMMED, (16, 38, 61, 128, 185)),
        ("cs3darknet_focus_s", ("head.fc.",), STEMMED, (32, 64, 128, 256, 512)),
        ("ese_vovnet19b_slim_dw", ("head.fc.",), STEMMED, (64, 112, 256, 384, 512)),
        ("repvit_m1", ("head.head.l.", "head.head_dist.l."), PYRAMID, (48, 96, 192, 384)),
        ("test_convnext", ("head.fc.",), PYRAMID, (24, 32, 48, 64)),
        ("test_mambaout", ("head.fc.",), PYRAMID, (16, 32, 48, 64)),
        ("pvt_v2_b0", ("head.",), PYRAMID, (32, 64, 160, 256)),
        ("swin_tiny_patch4_window7_224", ("head.fc.",), PYRAMID, (96, 192, 384, 768)),
        ("test_vit", ("head.",), {"c4": 16}, (64,)),
    ],
)
def test_families(name: str, prefix: tuple[str, ...], strides: dict[str, int], channels: tuple[int, ...]) -> None:
    """Keys, classifier and levels of 20 families; maps of ceil(side / stride), channels first, whatever the side."""
    with torch.device("meta"):
        network = build_backbone(f"timm:{name}", 7)
        features = network.to_features(list(network.levels)).eval()
    assert list(network.state_dict()) == list(on_meta(name).state_dict())
    assert network.classifier_prefix == prefix
    assert (features.strides, tuple(features.channels.values())) == (strides, channels)
    height, width = 97, 131
    for (stride, c), x in zip(
        zip(strides.values(), channels, strict=True),
        features(torch.empty(1, 3, height, width, device="meta")).values(),
        strict=True,
    ):
        assert tuple(x.shape) == (1, c, -(-height // stride), -(-width // stride))
    keys, kept = set(network.state_dict()), set(features.state_dict())
    assert kept < keys
    assert {key for key in keys if key.startswith(features.unused_prefixes)} == keys - kept


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name, num_classes=7)


# ---- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["test_resnet", "test_mambaout", "test_vit", "test_efficientnet"])
def test_logits_and_files_are_timms(name: str, tmp_path: Path) -> None:
    """A file of timm's loads, and ours loads into timm's: equal logits at the size that the network was made for."""
    theirs: Any = timm.create_model(name, num_classes=7).eval()
    ours = small(name)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    report = load_weights(ours, tmp_path / "theirs.pth")
    assert len(report.loaded) == len(theirs.state_dict())
    size = theirs.pretrained_cfg["input_size"][-1]
    with torch.inference_mode():
        assert torch.equal(ours(images(size, size)), theirs(images(size, size)))
    theirs.load_state_dict(small(name).state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_byobnet", "test_convnext", "test_mambaout"])
def test_maps_are_timms(name: str) -> None:
    """Of the whole network's weights; channels come first. Odd sides are filled up with zeros where that is needed."""
    network = small(name)
    features = network.to_features(("c3", "c5")).eval()
    theirs = timm.create_model(name, features_only=True).eval()
    full = timm.create_model(name, num_classes=7)
    full.load_state_dict(network.state_dict())
    flat = {key: re.sub(r"^([a-z]+)_(\d+)\.", r"\1.\2.", key) for key in theirs.state_dict()}  # stages_0.x: stages.0.x
    theirs.load_state_dict({key: full.state_dict()[name] for key, name in flat.items()})
    asked = list((STEMMED if name == "test_byobnet" else PYRAMID).values())
    with torch.inference_mode():
        for size, filled in (((64, 96), (64, 96)), ((61, 90), (64, 96))):
            if filled != size and features.multiple == 1:
                continue
            padded = torch.zeros(2, 3, *filled)
            padded[..., : size[0], : size[1]] = images(*size)
            expected = dict(zip(asked, theirs(padded), strict=True))
            for level, x in features(images(*size)).items():
                wanted = expected[features.strides[level]]
                wanted = wanted.permute(0, 3, 1, 2) if name == "test_mambaout" else wanted
                rows, columns = (-(-side // features.strides[level]) for side in size)
                assert torch.equal(x, wanted[..., :rows, :columns])


def test_parameters_and_multiply_adds() -> None:
    """Those of torchvision's resnet18, which our own card states too."""
    with torch.device("meta"):
        assert count(build_backbone("timm:resnet18"), 224) == (11_689_512, 1_814_073_344)


@pytest.mark.slow
def test_weights_without_a_level_do_not_train() -> None:
    """Every parameter that trains gets a gradient when the deepest level does, on batch norms of timm's kind too."""
    features = small("test_byobnet").to_features(("c3", "c4"))
    features.train()(images(64, 64))["c4"].sum().backward()
    trained = {key for key, p in features.named_parameters() if p.requires_grad}
    assert trained
    assert all((p.grad is not None) == (key in trained) for key, p in features.named_parameters())


def test_frozen_levels() -> None:
    """Two levels: their weights and statistics stay, and the third moves. A frozen norm keeps its activation."""
    features = small("test_byobnet").to_features(("c3", "c4"))
    before = {key: tensor.clone() for key, tensor in features.state_dict().items()}
    with torch.inference_mode():
        plain = features.eval()(images(64, 64))
    features.freeze(2)
    with torch.inference_mode():
        frozen = features.eval()(images(64, 64))
    assert all(torch.equal(plain[level], frozen[level]) for level in plain)
    features.train()(images(64, 64))
    after = features.state_dict()
    moved = {key.split(".")[1] for key, tensor in after.items() if not torch.equal(tensor, before[key])}  # stages.1.
    still = {key for key, p in features.named_parameters() if not p.requires_grad}
    assert moved == {"1", "2"}
    assert {key.split(".")[1] for key in still} == {"stem", "stages_0"}
    with pytest.raises(
        ValueError, match=r"frozen_stages=9 must lie within 0\.\.4, the backbone's levels \(c1, c2, c3, c4\)"
    ):
        features.freeze(9)


# ---- what is done to a network ---------------------------------------------------------------------------------------


def relus(network: nn.Module) -> int:
    return sum(isinstance(module, nn.ReLU) for module in network.modules())


def test_what_replaces_batch_norms_loses_no_activation() -> None:
    """timm's norms have it inside: frozen, folded and synchronized ones keep it; switch norm is refused."""
    network = small("test_byobnet").eval()
    before, expected = relus(network), network(images(64, 64))
    assert before > 5
    fold_batch_norms(network, lambda: network(images(64, 64)))
    torch.testing.assert_close(network(images(64, 64)), expected)
    frozen = small("test_byobnet")
    freeze_batch_norm(frozen)
    freeze_batch_norm(frozen)
    assert relus(frozen) == before
    assert not any(module.training for module in frozen.train().modules() if isinstance(module, nn.BatchNorm2d))
    synchronized = nn.ModuleDict({"network": small("test_byobnet")})
    _synchronize_batch_norms(synchronized)
    assert relus(synchronized) == before
    assert any(isinstance(module, nn.SyncBatchNorm) for module in synchronized.modules())
    with pytest.raises(ValueError, match=r"norm='switch': BatchNormAct2d does more than a batch norm"):
        replace_batch_norms(small("test_byobnet"))


def test_options() -> None:
    """Dropout and drop path are timm's own; None is what timm gives."""
    assert options_of("timm:test_resnet") is TimmOptions
    network = build_from_options("timm:test_resnet", 7, TimmOptions(dropout=0.5, drop_path=0.25, activation="gelu"))
    modules: list[Any] = list(network.modules())
    rates = [module.drop_prob for module in modules if type(module).__name__ == "DropPath"]
    assert max(rates) == 0.25
    assert relus(network) == 0
    for options in (TimmOptions(dropout=0.5), NetworkOptions(dropout=0.5)):
        network = build_from_options("timm:test_resnet", 7, options)
        assert isinstance(network, TimmNetwork)
        assert network.network.drop_rate == 0.5
        assert relus(network) > 5
    with pytest.raises(ValueError, match=r"timm:inception_v3 does not take these network_options: .*drop_path_rate"):
        build_network("timm:inception_v3", drop_path=0.1)
    with pytest.raises(
        ValueError, match=r"drop_path=0\.1 would change nothing: no block of timm:lcnet_035 has a shortcut"
    ):
        build_network("timm:lcnet_035", drop_path=0.1)
    build_network("timm:lcnet_035", drop_path=0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "levels", "words"),
    [
        (
            "test_vit",
            ("c3", "c4"),
            r"levels=\('c3', 'c4'\) asked of timm:test_vit; give one or more of its levels: c4\.",
        ),
        (
            "sequencer2d_s",
            ("c3",),
            r"none of its feature maps has a step for every 2, 4, 8, .* 224x224 they are \[1, 32, 32, 192\], ",
        ),
    ],
)
def test_what_cannot_be_a_backbone(name: str, levels: tuple[str, ...], words: str) -> None:
    with torch.device("meta"):
        network = build_backbone(f"timm:{name}")
    with pytest.raises(ValueError, match=words):
        network.to_features(levels)


@pytest.mark.slow
def test_networks_of_one_size() -> None:
    """As classifiers and as backbones they say which, before a run and when they are given another."""
    network = small("efficientformerv2_s0")
    network.check_size(224)
    with pytest.raises(
        ValueError, match=r"timm:efficientformerv2_s0 does not take images of 96x96, .*It was made for 224x224\."
    ):
        network.check_size(96)
    features = network.to_features(("c3", "c4", "c5"))
    assert [tuple(x.shape[2:]) for x in features(images(224, 224, 1)).values()] == [(28, 28), (14, 14), (7, 7)]
    with pytest.raises(
        ValueError, match=r"timm:efficientformerv2_s0 takes images of 224x224 alone, and was given 64x96\."
    ):
        features(images(64, 96))


# ---- by name ---------------------------------------------------------------------------------------------------------


def test_unknown_names_and_no_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"timm has no network 'resnet5O'; the nearest of .*: .*resnet50"):
        check_backbone_name("timm:resnet5O")
    monkeypatch.setitem(sys.modules, "timm", None)
    for ask in (check_backbone_name, build_backbone):
        with pytest.raises(ValueError, match=r"^network timm:resnet18 needs the package timm: pip install timm, or"):
            ask("timm:resnet18")
    assert options_of("timm:resnet18") is TimmOptions  # a config that names one can still be read


def test_a_config_with_one_comes_back(config: ClassificationConfig) -> None:
    """From the command line, with settings of timm's networks; and from its record."""
    argv = ["--network", "timm:test_vit", "--network-options.drop-path", "0.1"]
    row, _ = parse_config({"tiny": config}, argv, ClassificationTask.kinds)
    assert row.network == "timm:test_vit"
    assert row.network_options == TimmOptions(drop_path=0.1)
    assert from_record(to_record(row)) == row
    assert NETWORK_KIND.has("timm:anything")
    assert not NETWORK_KIND.has("tim:anything")


def test_the_list() -> None:
    """One command: names by a pattern, sizes, normalization, and the weights of each."""
    lines = list(listing("resnet18*"))
    assert [line.partition(" ")[0] for line in lines] == ["timm:resnet18", "timm:resnet18d"]
    assert "timm:resnet18  224x224  mean (0.485, 0.456, 0.406)" in lines[0]
    assert "timm:resnet18.a1_in1k" in lines[0]
    with pytest.raises(ValueError, match="timm has no network whose name fits 'nothing'"):
        list(listing("nothing"))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            "timm:resnet18.a1_in1k",
            "224x224, mean (0.485, 0.456, 0.406), std (0.229, 0.224, 0.225); this run has the same",
        ),
        ("timm:vit_tiny_patch16_224", "give --data.mean 0.5 0.5 0.5 --data.std 0.5 0.5 0.5"),
        (
            "torchvision:mobilenet_v2",
            "224x224, mean (0.485, 0.456, 0.406), std (0.229, 0.224, 0.225); this run has the",
        ),
        ("torchvision:retinanet_resnet50_fpn", None),
        ("best.pth", None),
    ],
)
def test_what_weights_were_trained_on_is_said(source: str, words: str | None, image_row: ClassificationConfig) -> None:
    lines = note_on_input(source, image_row.data)
    assert len(lines) == (words is not None)
    assert all(words in line for line in lines if words is not None)


@pytest.fixture
def image_row(config: ClassificationConfig, image_folder: Path) -> ClassificationConfig:
    """A row on a small image folder."""
    return replace(config, data=replace(IMAGENET, folder=str(image_folder), input_size=32))
