"""torchvision's detector files of before its release 0.13: keys by hand, and whole files."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.models.detection import fasterrcnn_resnet50_fpn, fcos_resnet50_fpn, retinanet_resnet50_fpn

from public.detectors.catalog import build_from_options
from public.detectors.faster_rcnn.options import FasterRCNNOptions
from public.detectors.fcos.options import FCOSOptions
from public.detectors.retinanet.options import RetinaNetOptions
from public.weights.key_maps import rename_to_fit
from public.weights.key_maps_torchvision import torchvision_pyramid_v1, torchvision_retinanet_v1
from public.weights.loading import load_weights
from tests.weights.torchvision_v1 import old_names, random_detector


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("backbone.fpn.inner_blocks.0.weight", "backbone.fpn.inner_blocks.0.0.weight"),
        ("backbone.fpn.layer_blocks.2.bias", "backbone.fpn.layer_blocks.2.0.bias"),
        ("fpn.layer_blocks.2.bias", "fpn.layer_blocks.2.0.bias"),
        ("rpn.head.conv.weight", "rpn.head.conv.0.0.weight"),
        # these were never called otherwise
        ("backbone.fpn.inner_blocks.0.0.weight", "backbone.fpn.inner_blocks.0.0.weight"),
        ("backbone.fpn.extra_blocks.p6.weight", "backbone.fpn.extra_blocks.p6.weight"),
        ("rpn.head.cls_logits.weight", "rpn.head.cls_logits.weight"),
        ("head.classification_head.cls_logits.bias", "head.classification_head.cls_logits.bias"),
        ("backbone.body.layer1.0.conv1.weight", "backbone.body.layer1.0.conv1.weight"),
    ],
)
def test_keys(theirs: str, ours: str) -> None:
    assert torchvision_pyramid_v1(theirs) == torchvision_retinanet_v1(theirs) == ours


def test_keys_of_towers() -> None:
    """Every other layer of RetinaNet's was a ReLU; those of FCOS are still counted through."""
    for number in range(4):
        old, new = (f"head.regression_head.conv.{n}.bias" for n in (2 * number, f"{number}.0"))
        assert torchvision_retinanet_v1(old) == new
        assert torchvision_retinanet_v1(new) == new
        assert torchvision_pyramid_v1(old) == old
    assert torchvision_retinanet_v1("head.regression_head.conv.1.bias") == "head.regression_head.conv.1.bias"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "build", "num_classes", "old_name"),
    [
        (RetinaNetOptions, retinanet_resnet50_fpn, 91, "head.classification_head.conv.6.weight"),
        (FasterRCNNOptions, fasterrcnn_resnet50_fpn, 90, "rpn.head.conv.weight"),
    ],
)
def test_a_file_gives_torchvisions_outputs(
    tmp_path: Path, options: Any, build: Any, num_classes: int, old_name: str
) -> None:
    """With the epsilon of 0 that it was trained with, and with no other."""
    reference = random_detector(build)
    old = old_names(reference.state_dict())
    assert {"backbone.fpn.inner_blocks.0.weight", old_name} <= old.keys()
    reference.load_state_dict(old)  # torchvision takes it for one of its own
    torch.save(old, tmp_path / "detector.pth")
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        maps = list(reference.backbone(images).values())
        if options is RetinaNetOptions:
            expected = reference.head(maps)["cls_logits"]
        else:
            expected = torch.cat([x.permute(0, 2, 3, 1).flatten(1) for x in reference.rpn.head(maps)[0]], dim=1)
        for eps, same in ((0.0, True), (None, False)):
            torchvisions = options.torchvision(frozen_batch_norm=True, batch_norm_eps=eps)
            detector = build_from_options(num_classes, torchvisions)
            report = load_weights(detector, tmp_path / "detector.pth")
            assert (len(report.loaded), report.missing, report.unexpected) == (len(old), [], [])
            outputs: Any = detector(images)
            logits = outputs.class_logits if options is RetinaNetOptions else outputs.objectness
            last = 3 if options is RetinaNetOptions else -1
            ours = torch.cat([x.flatten(1, last) for x in logits], dim=1)
            assert torch.allclose(ours, expected, rtol=1e-4, atol=1e-5) == same


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "build", "num_classes"),
    [
        (FCOSOptions, fcos_resnet50_fpn, 91),
        (FasterRCNNOptions, fasterrcnn_resnet50_fpn, 90),
    ],
)
def test_other_detectors_files(options: Any, build: Any, num_classes: int) -> None:
    """FCOS's towers keep their names, Faster R-CNN's proposals do not."""
    with torch.device("meta"):
        reference = build(weights=None, weights_backbone=None)
        detector = build_from_options(num_classes, options.torchvision())
    old = old_names(reference.state_dict())
    assert not old.keys() <= reference.state_dict().keys()
    own_keys = {key for key in detector.state_dict() if not key.endswith("num_batches_tracked")}
    assert rename_to_fit(old, own_keys).keys() == own_keys
