"""Detection configs: settings that contradict each other, and that what can be set exists in what it sets."""

import ast
import inspect
import re
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from public.evaluation.predictions import Predictions

from public.config import detection
from public.config.classification import IMAGENET_MEAN
from public.config.detection import METRICS, DetectionConfig, DetectionDataConfig, DetectorConfig
from public.config.record import to_record
from public.datasets.coco import read_coco
from public.detectors.catalog import build_detector, list_detectors
from public.detectors.fcos.options import FCOSOptions
from public.evaluation.detection import metrics_evaluator
from public.optim.options import AdamWOptions, ConstantOptions
from public.transforms.detection import RandomHorizontalFlip, SquareResize
from tests.datasets.written import coco_content, write_coco

INFINITY, NAN = float("inf"), float("nan")
RESIZE = SquareResize(size=64)
COCO: dict[str, Any] = {
    "dataset": "coco",
    "folder": "COCO2017",
    "train_splits": ("train2017",),
    "val_splits": ("val2017",),
    "train_transforms": (RandomHorizontalFlip(), RESIZE),
    "val_transforms": (RESIZE,),
}
VOC = COCO | {
    "dataset": "voc",
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
        data=DetectionDataConfig(**COCO),
        optimizer=AdamWOptions(lr=1e-3, weight_decay=0.01),
        schedule=ConstantOptions(),
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (COCO | {"std": (0.2, 0.0, 0.2)}, r"data\.std=\(0\.2, 0\.0, 0\.2\) must be above 0"),
        (COCO | {"train_splits": ()}, r"data\.train_splits must name at least one split"),
        (VOC | {"val_splits": ()}, r"data\.val_splits must name at least one split"),
        (COCO | {"train_splits": ("a", "b")}, r"data\.dataset='coco' takes one split each in data\.train_splits and"),
        (COCO | {"val_splits": ("a", "b")}, r"data\.dataset='coco' takes one split each"),
        (COCO | {"class_file": "x.txt"}, r"data\.class_file and data\.class_names have no effect with COCO's format"),
        (COCO | {"class_names": ("cat",)}, r"have no effect with COCO's format, which names them"),
        (VOC | {"class_names": ("cat",), "class_file": "x.txt"}, r"both name the classes: give one of them"),
        (COCO | {"group_by_aspect": -1}, r"data\.group_by_aspect=-1 must be 0 or more \(None: no groups\)"),
    ],
)
def test_data_refuses(fields: dict[str, Any], message: str) -> None:
    """Splits that are missing or too many, classes named twice or for nothing, a division by zero."""
    with pytest.raises(ValueError, match=message):
        DetectionDataConfig(**fields)


def test_what_voc_may_do() -> None:
    """Several splits; classes by name or by file; pixels normalised as ImageNet's unless told otherwise."""
    assert len(DetectionDataConfig(**VOC).train_splits) == 2
    assert DetectionDataConfig(**VOC, class_names=("RBC", "WBC")).class_file is None
    assert DetectionDataConfig(**VOC, class_file="classes.txt").class_names == ()
    assert DetectionDataConfig(**VOC).mean == IMAGENET_MEAN
    assert not DetectionDataConfig(**VOC).download


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"best_metric": "mAP50"}, r"best_metric='mAP50' is not among the metrics of data\.dataset='coco': AP, AP50,"),
        ({"data": DetectionDataConfig(**VOC)}, r"best_metric='AP' is not .* data\.dataset='voc': mAP50_11point, mAP50"),
        (
            {"data": DetectionDataConfig(**VOC, metrics="coco"), "best_metric": "mAP50"},
            r"best_metric='mAP50' is not among the metrics of data\.metrics='coco': AP, AP50,",
        ),
        ({"new_class_head": True}, r"new_class_head=True has no effect without initial_weights"),
        (
            {"backbone_weights": "torchvision:resnet50", "initial_weights": "best.pth"},
            r"backbone_weights='torchvision:resnet50' would be overwritten by initial_weights='best\.pth'",
        ),
        (
            {"sync_batch_norm": True, "detector": DetectorConfig(backbone="resnet50", frozen_batch_norm=True)},
            r"sync_batch_norm=True would move what detector\.frozen_batch_norm and detector\.frozen_stages keep still",
        ),
        (
            {"sync_batch_norm": True, "detector": DetectorConfig(backbone="resnet50", frozen_stages=1)},
            r"sync_batch_norm=True would move",
        ),
        ({"batch_size": 0}, r"batch_size=0 must be 1 or more"),
        ({"canvas_size": (0, 0)}, r"canvas_size=\(0, 0\) must lie within 1\.\.8192 pixels"),
        ({"canvas_size": (64, -5)}, r"canvas_size=\(64, -5\) must lie within 1\.\.8192 pixels"),
        ({"canvas_size": (100000, 64)}, r"canvas_size=\(100000, 64\) must lie within 1\.\.8192 pixels"),
        (
            {"data": DetectionDataConfig(**COCO, mean=(0.5, NAN, 0.5))},
            r"^data\.mean=\(0\.5, nan, 0\.5\) must be finite",
        ),
        (
            {"data": DetectionDataConfig(**COCO, std=(0.5, 0.5, INFINITY))},
            r"^data\.std=\(0\.5, 0\.5, inf\) must be fin",
        ),
    ],
)
def test_a_row_refuses(row: DetectionConfig, fields: dict[str, Any], message: str) -> None:
    """Settings that contradict each other; the checks of every run are made too."""
    with pytest.raises(ValueError, match=message):
        replace(row, **fields)


def test_what_goes_together(row: DetectionConfig) -> None:
    """The other side of each refusal."""
    replace(row, best_metric="AP_small")
    replace(row, data=DetectionDataConfig(**VOC), best_metric="mAP50_95")
    replace(row, data=DetectionDataConfig(**VOC, metrics="coco"), best_metric="AP")
    replace(row, data=DetectionDataConfig(**COCO, metrics="voc"), best_metric="mAP50_11point")
    replace(row, new_class_head=True, initial_weights="best.pth")
    replace(row, backbone_weights="torchvision:resnet50")
    replace(row, sync_batch_norm=True)


@pytest.mark.parametrize("dataset", ["coco", "voc"])
def test_metrics_are_those_that_evaluation_gives(dataset: str, tmp_path: Path) -> None:
    """In their order: every one can choose best.pth, and no other."""
    annotations = read_coco(write_coco(tmp_path, coco_content([(7, 3, 1, 1, 9, 9)])).parents[1], "train2017")
    nothing = Predictions(
        np.zeros(0, np.int64), np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int)
    )
    result = metrics_evaluator(dataset)(annotations).evaluate(nothing)
    assert METRICS[dataset] == tuple(result.metrics)


# ---- the detector's settings -----------------------------------------------------------------------------------------


def test_options_are_the_settings_that_are_given() -> None:
    """None leaves the detector's own default; what is recorded as a list was a tuple."""
    config = DetectorConfig(backbone="resnet18", channels=64, levels=("p3", "p4"))
    assert config.options() == {
        "backbone": "resnet18",
        "frozen_stages": 0,
        "frozen_batch_norm": False,
        "channels": 64,
        "levels": ("p3", "p4"),
    }
    assert to_record(config)["levels"] == ["p3", "p4"]
    assert to_record(config)["iou_threshold"] is None


def test_negative_stages_are_refused() -> None:
    """Too many are refused by the backbone, which knows its levels."""
    with pytest.raises(ValueError, match=r"detector\.frozen_stages=-1 must be 0 or more"):
        DetectorConfig(backbone="resnet18", frozen_stages=-1)
    with pytest.raises(ValueError, match=r"frozen_stages=9 must lie within 0\.\.5"):
        build_detector("fcos", 2, **DetectorConfig(backbone="mobilenet_v2", frozen_stages=9).options())


@pytest.mark.parametrize("value", [INFINITY, NAN])
@pytest.mark.parametrize(
    "name", ["batch_norm_eps", "anchor_sizes", "smooth_l1_beta", "soft_nms_sigma", "focal_alpha", "focal_gamma"]
)
def test_settings_of_the_detector_are_finite(row: DetectionConfig, name: str, value: float) -> None:
    """A loss of one of them would say nothing of its cause, and suppression would keep everything in silence."""
    given: Any = (32.0, value) if name == "anchor_sizes" else value
    options: Any = {name: given, "soft_nms": "gaussian"}
    with pytest.raises(
        ValueError, match=rf"^{re.escape(f'detector.{name}={given}')} must be finite, neither inf nor nan"
    ):
        replace(row, detector=replace(row.detector, **options))


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
        DetectorConfig(backbone="resnet18", **fields)


def test_what_a_detector_may_state() -> None:
    """The other side of each refusal; a method alone has its own sigma."""
    for ratio in (0, 64):
        assert DetectorConfig(backbone="resnet18", sampling_ratio=ratio).options()["sampling_ratio"] == ratio
    assert DetectorConfig(backbone="resnet18", soft_nms="gaussian", soft_nms_sigma=0.3).soft_nms_sigma == 0.3
    assert DetectorConfig(backbone="resnet18", soft_nms="gaussian").soft_nms_sigma is None


def test_every_setting_is_an_option_of_a_detector() -> None:
    """And what every detector has is settable for all of them: the backbone, what of it is frozen, and the limits."""
    options: dict[str, set[str]] = {}
    for name in list_detectors():
        build = type(build_detector(name, 1, backbone="mobilenet_v2"))
        options[name] = {p.name for p in inspect.signature(build).parameters.values() if p.kind is p.KEYWORD_ONLY}
    settings = {field.name for field in fields(DetectorConfig)}
    assert settings <= set.union(*options.values())
    everywhere = {"backbone", "frozen_stages", "frozen_batch_norm", "score_threshold", "max_detections"}
    for name, own in options.items():
        assert everywhere <= own, name
    assert len(options) >= 3


def test_every_field_has_a_docstring() -> None:
    """Each annotated field of each config class is followed by a string: --help shows it."""
    tree = ast.parse(Path(detection.__file__).read_text(encoding="utf-8"))
    bodies = {node.name: node.body for node in tree.body if isinstance(node, ast.ClassDef)}
    assert list(bodies) == ["DetectionDataConfig", "DetectorConfig", "DetectionConfig"]
    documented = 0
    for body in bodies.values():
        for statement, following in pairwise(body):
            if isinstance(statement, ast.AnnAssign):
                assert isinstance(following, ast.Expr), ast.unparse(statement)
                assert isinstance(following.value, ast.Constant), ast.unparse(statement)
                documented += 1
    assert documented >= 30
