"""Detection configs: settings that contradict each other, and what goes together."""

import re
from dataclasses import replace
from typing import Any

import pytest

from public.config.calls import SIZE, Call
from public.config.data import IMAGENET_MEAN
from public.config.detection import DetectionConfig
from public.config.record import from_record, to_record
from public.datasets.coco import CocoData
from public.datasets.voc import VocData
from public.detectors.catalog import DETECTORS, build_from_options
from public.detectors.faster_rcnn.options import FasterRCNNOptions
from public.detectors.fcos.options import FCOSOptions
from public.evaluation.detection import check_metrics
from public.optim.options import AdamWOptions, ConstantOptions
from public.transforms.detection import RandomHorizontalFlip, SquareResize

INFINITY, NAN = float("inf"), float("nan")
RESIZE = Call(SquareResize, size=SIZE)
COCO: dict[str, Any] = {
    "folder": "COCO2017",
    "input_size": 64,
    "train_splits": ("train2017",),
    "val_splits": ("val2017",),
    "train_transforms": (Call(RandomHorizontalFlip), RESIZE),
    "val_transforms": (RESIZE,),
}
VOC = COCO | {
    "folder": "VOCdataset",
    "train_splits": ("VOC2007/trainval", "VOC2012/trainval"),
    "val_splits": ("VOC2007/test",),
}


@pytest.fixture
def row() -> DetectionConfig:
    """A small row."""
    return DetectionConfig(
        name="tiny",
        epochs=2,
        batch_size=4,
        detector=FCOSOptions(backbone="mobilenet_v2"),
        data=CocoData(**COCO),
        optimizer=AdamWOptions(lr=1e-3, weight_decay=0.01),
        schedule=ConstantOptions(),
    )


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        (CocoData, {"std": (0.2, 0.0, 0.2)}, r"data\.std=\(0\.2, 0\.0, 0\.2\) must be above 0"),
        (CocoData, {"train_splits": ()}, r"data\.train_splits must name at least one split"),
        (VocData, {"val_splits": ()}, r"data\.val_splits must name at least one split"),
        (
            CocoData,
            {"train_splits": ("a", "b")},
            r"data\.dataset='coco' takes one split each in data\.train_splits",
        ),
        (CocoData, {"val_splits": ("a", "b")}, r"data\.dataset='coco' takes one split each"),
        (VocData, {"class_names": ("cat",), "class_file": "x.txt"}, r"both name the classes: give one of them"),
        (VocData, {"class_names": ("cat", "cat")}, r"data\.class_names=\('cat', 'cat'\) must name each class once"),
        (VocData, {"class_names": ()}, r"data\.class_names=\(\) must name each class once"),
        (CocoData, {"group_by_aspect": -1}, r"data\.group_by_aspect=-1 must be 0 or more \(None: no groups\)"),
        (CocoData, {"input_size": 0}, r"data\.input_size=0 must lie within 1\.\.8192 pixels"),
        (CocoData, {"input_size": -5}, r"data\.input_size=-5 must lie within 1\.\.8192 pixels"),
        (CocoData, {"input_size": 100000}, r"data\.input_size=100000 must lie within 1\.\.8192 pixels"),
    ],
)
def test_data_refuses(kind: Any, fields: dict[str, Any], message: str) -> None:
    """Splits that are missing or too many, classes named twice or for nothing, a division by zero."""
    with pytest.raises(ValueError, match=message):
        kind(**{CocoData: COCO, VocData: VOC}[kind] | fields)


@pytest.mark.parametrize("name", ["class_names", "class_file"])
def test_cocos_annotations_name_the_classes(name: str) -> None:
    """There is no such setting."""
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        CocoData(**COCO | {name: None})


def test_what_voc_may_do() -> None:
    """Several splits; classes by name or by file; pixels normalised as ImageNet's unless told otherwise."""
    assert len(VocData(**VOC).train_splits) == 2
    assert VocData(**VOC, class_names=("RBC", "WBC")).class_file is None
    assert VocData(**VOC, class_file="classes.txt").class_names is None
    assert VocData(**VOC).mean == IMAGENET_MEAN
    assert not VocData(**VOC).download


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"new_class_head": True}, r"new_class_head=True has no effect without initial_weights"),
        (
            {"backbone_weights": "torchvision:resnet50", "initial_weights": "best.pth"},
            r"backbone_weights='torchvision:resnet50' would be overwritten by initial_weights='best\.pth'",
        ),
        (
            {"sync_batch_norm": True, "detector": FCOSOptions(frozen_batch_norm=True)},
            r"sync_batch_norm=True would move what detector\.frozen_batch_norm and detector\.frozen_stages keep still",
        ),
        ({"sync_batch_norm": True, "detector": FCOSOptions(frozen_stages=1)}, r"sync_batch_norm=True would move"),
        ({"batch_size": 0}, r"batch_size=0 must be 1 or more"),
        ({"data": CocoData(**COCO, mean=(0.5, NAN, 0.5))}, r"^data\.mean=\(0\.5, nan, 0\.5\) must be finite"),
        ({"data": CocoData(**COCO, std=(0.5, 0.5, INFINITY))}, r"^data\.std=\(0\.5, 0\.5, inf\) must be fin"),
    ],
)
def test_a_row_refuses(row: DetectionConfig, fields: dict[str, Any], message: str) -> None:
    """Settings that contradict each other; the checks of every run are made too."""
    with pytest.raises(ValueError, match=message):
        replace(row, **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"best_metric": "mAP50"}, r"best_metric='mAP50' is not among the metrics of data\.dataset='coco': AP, AP50,"),
        ({"data": VocData(**VOC)}, r"best_metric='AP' is not .* data\.dataset='voc': mAP50_11point, mAP50"),
        (
            {"data": VocData(**VOC, metrics="coco"), "best_metric": "mAP50"},
            r"best_metric='mAP50' is not among the metrics of data\.metrics='coco': AP, AP50,",
        ),
        ({"data": VocData(**VOC, metrics="cocoa")}, r"data\.metrics='cocoa': no evaluation .*; the nearest: coco, voc\."),
    ],
)
def test_metrics_that_the_rules_do_not_give(row: DetectionConfig, fields: dict[str, Any], message: str) -> None:
    """They are evaluation's, which the config does not know: the recipe asks it before anything is read."""
    with pytest.raises(ValueError, match=message):
        check_metrics(replace(row, **fields))


def test_what_goes_together(row: DetectionConfig) -> None:
    """The other side of each refusal."""
    check_metrics(replace(row, best_metric="AP_small"))
    check_metrics(replace(row, data=VocData(**VOC), best_metric="mAP50_95"))
    check_metrics(replace(row, data=VocData(**VOC, metrics="coco"), best_metric="AP"))
    check_metrics(replace(row, data=CocoData(**COCO, metrics="voc"), best_metric="mAP50_11point"))
    replace(row, new_class_head=True, initial_weights="best.pth")
    replace(row, backbone_weights="torchvision:resnet50")
    replace(row, sync_batch_norm=True)


# ---- the detector's settings -----------------------------------------------------------------------------------------


def test_the_detector_is_named_by_its_options(row: DetectionConfig) -> None:
    """What is recorded as a list was a tuple."""
    options = FCOSOptions(backbone="resnet18", channels=64, levels=("p3", "p4", "p5"))
    config = replace(row, detector=options)
    assert (row.network, config.network) == ("fcos", "fcos")
    record = to_record(config)
    assert record["detector"]["levels"] == ["p3", "p4", "p5"]
    assert from_record(record).detector == options


@pytest.mark.parametrize("name", DETECTORS)
def test_what_every_detector_has(name: str) -> None:
    """The backbone, what of it is frozen, and the limits of what is found."""
    options = DETECTORS[name].options
    everywhere = {"backbone", "frozen_stages", "frozen_batch_norm", "score_threshold", "iou_threshold"}
    assert everywhere | {"max_detections"} <= set(options.__dataclass_fields__)
    with pytest.raises(ValueError, match=r"detector\.frozen_stages=-1 must be 0 or more"):
        options(frozen_stages=-1)


def test_too_many_stages_are_refused_by_the_backbone() -> None:
    """Which knows its levels."""
    with pytest.raises(ValueError, match=r"frozen_stages=9 must lie within 0\.\.5"):
        build_from_options(2, FCOSOptions(backbone="mobilenet_v2", frozen_stages=9))


@pytest.mark.parametrize("value", [INFINITY, NAN])
@pytest.mark.parametrize(
    "name", ["batch_norm_eps", "anchor_sizes", "smooth_l1_beta", "soft_nms_sigma", "focal_alpha", "focal_gamma"]
)
def test_settings_of_the_detector_are_finite(row: DetectionConfig, name: str, value: float) -> None:
    """A loss of one of them would say nothing of its cause, and suppression would keep everything in silence."""
    given: Any = (*([32.0] * 4), value) if name == "anchor_sizes" else value
    if name.startswith("focal"):
        kind, options = FCOSOptions, {name: given}
    else:
        kind, options = FasterRCNNOptions, {name: given, "soft_nms": "gaussian"}
    with pytest.raises(ValueError, match=rf"^{re.escape(f'detector.{name}={given}')} must "):
        replace(row, detector=kind(**options))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sampling_ratio": -1}, r"detector\.sampling_ratio=-1 must lie within 0\.\.64"),
        ({"sampling_ratio": 65}, r"detector\.sampling_ratio=65 must lie within 0\.\.64"),
        ({"soft_nms_sigma": 0.3}, r"detector\.soft_nms_sigma=0\.3 has no effect without detector\.soft_nms='gaussian'"),
        ({"soft_nms_sigma": 0.3, "soft_nms": "linear"}, r"detector\.soft_nms_sigma=0\.3 has no effect without"),
    ],
)
def test_a_detector_refuses(fields: dict[str, Any], message: str) -> None:
    """More samples than any region has pixels, and a number that nothing reads."""
    with pytest.raises(ValueError, match=message):
        FasterRCNNOptions(**fields)


def test_what_a_detector_may_state() -> None:
    """The other side of each refusal; a method alone has its own sigma."""
    for ratio in (0, 64):
        assert FasterRCNNOptions(sampling_ratio=ratio).sampling_ratio == ratio
    assert FasterRCNNOptions(soft_nms="gaussian", soft_nms_sigma=0.3).soft_nms_sigma == 0.3
    assert FasterRCNNOptions(soft_nms="gaussian").soft_nms_sigma == 0.5
