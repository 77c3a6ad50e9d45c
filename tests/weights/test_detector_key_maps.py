"""Detectors of 2020: keys by hand, and whole training checkpoints that give the outputs of the detector they are of."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from public.detectors.catalog import build_detector
from public.detectors.detector import Detector
from public.weights.key_maps import detector_2020
from public.weights.loading import load_weights


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("backbone.model.conv1.weight", "backbone.body.conv1.weight"),
        ("backbone.model.layer3.0.downsample.1.running_var", "backbone.body.layer3.0.downsample.1.running_var"),
        ("fpn.P3_1.weight", "backbone.fpn.inner_blocks.0.0.weight"),
        ("fpn.P5_1.bias", "backbone.fpn.inner_blocks.2.0.bias"),
        ("fpn.P4_2.bias", "backbone.fpn.layer_blocks.1.0.bias"),
        ("fpn.P6.weight", "backbone.fpn.extra_blocks.p6.weight"),
        ("fpn.P7.1.bias", "backbone.fpn.extra_blocks.p7.bias"),
        ("cls_head.cls_head.0.weight", "head.classification_head.conv.0.0.weight"),
        ("cls_head.cls_head.6.bias", "head.classification_head.conv.3.0.bias"),
        ("cls_head.cls_head.8.weight", "head.classification_head.cls_logits.weight"),
        ("reg_head.reg_head.2.weight", "head.regression_head.conv.1.0.weight"),
        ("reg_head.reg_head.8.bias", "head.regression_head.bbox_reg.bias"),
        ("scales", "scales"),
        ("clsregcnt_head.cls_head.0.weight", "head.classification_head.conv.0.weight"),
        ("clsregcnt_head.cls_head.10.bias", "head.classification_head.conv.10.bias"),
        ("clsregcnt_head.reg_head.4.weight", "head.regression_head.conv.4.weight"),
        ("clsregcnt_head.cls_out.bias", "head.classification_head.cls_logits.bias"),
        ("clsregcnt_head.reg_out.weight", "head.regression_head.bbox_reg.weight"),
        ("clsregcnt_head.center_out.weight", "head.regression_head.bbox_ctrness.weight"),
        ("centernet_head.public_deconv_head.0.conv_offset_mask.bias", "upsample.0.conv_offset_mask.bias"),
        ("centernet_head.public_deconv_head.16.running_mean", "upsample.16.running_mean"),
        ("centernet_head.heatmap_head.2.bias", "heatmap_head.2.bias"),
        ("centernet_head.offset_head.0.weight", "offset_head.0.weight"),
        ("centernet_head.wh_head.2.weight", "wh_head.2.weight"),
        # there are no such layers
        ("fpn.P7.0.weight", "fpn.P7.0.weight"),
        ("fpn.P2_1.weight", "fpn.P2_1.weight"),
        ("cls_head.cls_head.80.weight", "cls_head.cls_head.80.weight"),
        ("cls_head.reg_head.0.weight", "cls_head.reg_head.0.weight"),
        ("backbone.modelled.weight", "backbone.modelled.weight"),
        ("my.backbone.model.weight", "my.backbone.model.weight"),
        ("backbone.body.conv1.weight", "backbone.body.conv1.weight"),
    ],
)
def test_keys(theirs: str, ours: str) -> None:
    assert detector_2020(theirs) == ours


# ours -> 2020, written down the other way round; \g<n> are groups, functions count
_Names = list[tuple[str, str | Callable[[re.Match[str]], str]]]

_PYRAMID: _Names = [
    (r"backbone\.body\.", "backbone.model."),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.0", lambda m: f"fpn.P{int(m[1]) + 3}_1"),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.0", lambda m: f"fpn.P{int(m[1]) + 3}_2"),
    (r"backbone\.fpn\.extra_blocks\.p6", "fpn.P6"),
    (r"backbone\.fpn\.extra_blocks\.p7", "fpn.P7.1"),
]
NAMES: dict[str, _Names] = {
    "retinanet": [
        *_PYRAMID,
        (r"head\.classification_head\.conv\.(\d)\.0", lambda m: f"cls_head.cls_head.{2 * int(m[1])}"),
        (r"head\.classification_head\.cls_logits", "cls_head.cls_head.8"),
        (r"head\.regression_head\.conv\.(\d)\.0", lambda m: f"reg_head.reg_head.{2 * int(m[1])}"),
        (r"head\.regression_head\.bbox_reg", "reg_head.reg_head.8"),
    ],
    "fcos": [
        *_PYRAMID,
        (r"head\.classification_head\.conv", "clsregcnt_head.cls_head"),
        (r"head\.classification_head\.cls_logits", "clsregcnt_head.cls_out"),
        (r"head\.regression_head\.conv", "clsregcnt_head.reg_head"),
        (r"head\.regression_head\.bbox_reg", "clsregcnt_head.reg_out"),
        (r"head\.regression_head\.bbox_ctrness", "clsregcnt_head.center_out"),
        (r"scales", "scales"),
    ],
    "centernet": [
        (r"backbone\.body\.", "backbone.model."),
        (r"upsample\.", "centernet_head.public_deconv_head."),
        (r"(\w+)_head\.", r"centernet_head.\g<1>_head."),
    ],
}
BACKBONES = {"retinanet": "resnet50", "fcos": "resnet50", "centernet": "resnet18"}


def checkpoint_of_2020(name: str, detector: Detector) -> dict[str, Any]:
    """As its training scripts wrote latest.pth: the network of DistributedDataParallel, and more."""
    state: dict[str, Tensor] = {}
    for key, tensor in detector.state_dict().items():
        (fitting,) = (pair for pair in NAMES[name] if re.match(pair[0], key))
        state["module." + re.sub(f"^{fitting[0]}", fitting[1], key)] = tensor
    return {
        "epoch": 12,
        "best_map": 0.293,
        "loss": 0.49,
        "model_state_dict": state,
        "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 1e-4}]},
        "scheduler_state_dict": {"num_bad_epochs": 0},
    }


def detector_of(name: str, num_classes: int, seed: int) -> Detector:
    """With statistics, offsets and scales that are not those of a new one."""
    torch.manual_seed(seed)
    detector = build_detector(name, num_classes, backbone=BACKBONES[name]).eval()
    for key, tensor in detector.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.add_(torch.rand_like(tensor) * 0.1)
        if "conv_offset_mask" in key or "heatmap_head" in key:
            tensor.add_(torch.randn_like(tensor) * 0.01)
    return detector


def tensors_of(outputs: Any) -> list[Tensor]:
    """All tensors of a NamedTuple of tensors and of tuples of tensors."""
    if isinstance(outputs, Tensor):
        return [outputs]
    return [tensor for part in outputs if not isinstance(part, int) for tensor in tensors_of(part)]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_checkpoints_of_2020_give_the_same_outputs(name: str, tmp_path: Path) -> None:
    source, detector = detector_of(name, 6, seed=0), detector_of(name, 6, seed=1)
    checkpoint = checkpoint_of_2020(name, source)
    assert not {key.removeprefix("module.") for key in checkpoint["model_state_dict"]} & (
        source.state_dict().keys() - {"scales"}
    )
    torch.save(checkpoint, tmp_path / "latest.pth")
    report = load_weights(detector, tmp_path / "latest.pth")
    assert len(report.loaded) == len(detector.state_dict())
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        ours, theirs = (tensors_of(d(images)) for d in (detector, source))
    assert len(ours) >= 3
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_heads_of_other_classes_are_skipped_only_when_asked(name: str, tmp_path: Path) -> None:
    """best.pth: the bare state dict, without "module."."""
    source, detector = detector_of(name, 6, seed=0), detector_of(name, 4, seed=1)
    state = checkpoint_of_2020(name, source)["model_state_dict"]
    torch.save({key.removeprefix("module."): tensor for key, tensor in state.items()}, tmp_path / "best.pth")
    before = {key: tensor.clone() for key, tensor in detector.state_dict().items()}
    (prefix,) = detector.class_prefixes
    with pytest.raises(ValueError, match=rf"best\.pth into \w+ does not fit: 2 mismatched \({re.escape(prefix)}"):
        load_weights(detector, tmp_path / "best.pth")
    report = load_weights(detector, tmp_path / "best.pth", allow_mismatched=detector.class_prefixes)
    assert list(report.mismatched) == [prefix + "weight", prefix + "bias"]
    assert prefix + "weight" in str(report)
    expected = {**source.state_dict(), **{key: before[key] for key in report.mismatched}}
    assert all(torch.equal(tensor, expected[key]) for key, tensor in detector.state_dict().items())
