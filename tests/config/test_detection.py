"""Detection configs: settings that contradict each other, and what goes together."""

import re
from dataclasses import fields, replace
from typing import Any

import pytest
from torchvision.models.detection import fasterrcnn_resnet50_fpn, fcos_resnet50_fpn, retinanet_resnet50_fpn

from public.config.calls import SIZE, Call
from public.config.command_line import parse_config
from public.config.data import IMAGENET_MEAN
from public.config.detection import DetectionConfig
from public.config.record import from_record, to_record
from public.datasets.coco import CocoData
from public.datasets.voc import VocData
from public.detectors.catalog import DETECTORS, build_from_options
from public.detectors.faster_rcnn.options import FasterRCNNOptions
from public.detectors.fcos.options import FCOSOptions
from public.detectors.retinanet.options import RetinaNetOptions
from public.evaluation.detection import check_metrics
from public.optim.options import AdamWOptions, ConstantOptions
from public.recipes.detection import DetectionTask
from public.transforms.detection import RandomHorizontalFlip, SquareResize
from public.weights.loading import load_weights
from tests.detectors.test_options import DEFAULTS, FIELDS, as_arguments, given

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
    ("kind", "changes", "message"),
    [
        (CocoData, {"std": (0.2, 0.0, 0.2)}, r"data\.std=\(0\.2, 0\.0, 0\.2\) must be above 0"),
        (
            CocoData,
            {"train_splits": ()},
            r"data\.train_splits must name at least one split \(--data\.train-splits\); .* auto finds",
        ),
        (VocData, {"val_splits": ()}, r"data\.val_splits must name at least one split"),
        (
            CocoData,
            {"train_splits": ("a", "b")},
            r"data\.dataset='coco' takes one split each in data\.train_splits",
        ),
        (CocoData, {"val_splits": ("a", "b")}, r"data\.dataset='coco' takes one split each"),
        (VocData, {"classes": ("cat", "cat")}, r"data\.classes=\('cat', 'cat'\) must name each class once"),
        (CocoData, {"classes": ()}, r"data\.classes=\(\) must name each class once"),
        (CocoData, {"group_by_aspect": -1}, r"data\.group_by_aspect=-1 must be 0 or more \(None: no groups\)"),
        (CocoData, {"input_size": 0}, r"data\.input_size=0 must lie within 1\.\.8192 pixels"),
        (CocoData, {"input_size": -5}, r"data\.input_size=-5 must lie within 1\.\.8192 pixels"),
        (CocoData, {"input_size": 100000}, r"data\.input_size=100000 must lie within 1\.\.8192 pixels"),
    ],
)
def test_data_refuses(kind: Any, changes: dict[str, Any], message: str) -> None:
    """Splits that are missing or too many, classes named twice or for nothing, a division by zero."""
    with pytest.raises(ValueError, match=message):
        kind(**{CocoData: COCO, VocData: VOC}[kind] | changes)


def test_what_voc_may_do() -> None:
    """Several splits; pixels normalized as ImageNet's unless told otherwise."""
    assert len(VocData(**VOC).train_splits) == 2
    assert VocData(**VOC).mean == IMAGENET_MEAN
    assert not VocData(**VOC).download


@pytest.mark.parametrize(
    ("changes", "message"),
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
def test_a_row_refuses(row: DetectionConfig, changes: dict[str, Any], message: str) -> None:
    """Settings that contradict each other; the checks of every run are made too."""
    with pytest.raises(ValueError, match=message):
        replace(row, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"best_metric": "mAP50"}, r"best_metric='mAP50' is not among the metrics of data\.dataset='coco': AP, AP50,"),
        ({"data": VocData(**VOC)}, r"best_metric='AP' is not .* data\.dataset='voc': mAP50_11point, mAP50"),
        (
            {"data": VocData(**VOC, metrics="coco"), "best_metric": "mAP50"},
            r"best_metric='mAP50' is not among the metrics of data\.metrics='coco': AP, AP50,",
        ),
        (
            {"data": VocData(**VOC, metrics="cocoa")},
            r"data\.metrics='cocoa': no .*; the nearest: coco, voc\.",
        ),
    ],
)
def test_metrics_that_the_rules_do_not_give(row: DetectionConfig, changes: dict[str, Any], message: str) -> None:
    """They are evaluation's, which the config does not know: the recipe asks it before anything is read."""
    with pytest.raises(ValueError, match=message):
        check_metrics(replace(row, **changes))


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
    wrong: Any = (*([32.0] * 4), value) if name == "anchor_sizes" else value
    if name.startswith("focal"):
        kind, options = FCOSOptions, {name: wrong}
    else:
        kind, options = FasterRCNNOptions, {name: wrong, "soft_nms": "gaussian"}
    with pytest.raises(ValueError, match=rf"^{re.escape(f'detector.{name}={wrong}')} must "):
        replace(row, detector=kind(**options))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling_ratio": -1}, r"detector\.sampling_ratio=-1 must lie within 0\.\.64"),
        ({"sampling_ratio": 65}, r"detector\.sampling_ratio=65 must lie within 0\.\.64"),
        ({"soft_nms_sigma": 0.3}, r"detector\.soft_nms_sigma=0\.3 has no effect without detector\.soft_nms='gaussian'"),
        ({"soft_nms_sigma": 0.3, "soft_nms": "linear"}, r"detector\.soft_nms_sigma=0\.3 has no effect without"),
    ],
)
def test_a_detector_refuses(changes: dict[str, Any], message: str) -> None:
    """More samples than any region has pixels, and a number that nothing reads."""
    with pytest.raises(ValueError, match=message):
        FasterRCNNOptions(**changes)


def test_what_a_detector_may_state() -> None:
    """The other side of each refusal; a method alone has its own sigma."""
    for ratio in (0, 64):
        assert FasterRCNNOptions(sampling_ratio=ratio).sampling_ratio == ratio
    assert FasterRCNNOptions(soft_nms="gaussian", soft_nms_sigma=0.3).soft_nms_sigma == 0.3
    assert FasterRCNNOptions(soft_nms="gaussian").soft_nms_sigma == 0.5


# ---- on the command line and in torchvision's words ------------------------------------------------------------------


@pytest.mark.parametrize("name", DETECTORS)
def test_help_shows_every_setting_of_the_rows_detector(
    row: DetectionConfig, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """And none of another's."""
    with pytest.raises(SystemExit):
        parse_config({"tiny": row}, ["--network", name, "--help"], DetectionTask.kinds)
    shown = set(re.findall(r"--detector\.([a-z0-9-]+)", capsys.readouterr().out))
    own = {f.name.replace("_", "-") for f in fields(DETECTORS[name].options)}
    assert {option for option in shown if option.removeprefix("no-") not in own} == set()
    assert own <= shown


@pytest.mark.slow
@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_every_setting_of_a_detector_is_set_on_the_command_line(row: DetectionConfig, name: str, field: str) -> None:
    """Of a row that has this detector; nothing else changes."""
    values = {"backbone": "mobilenet_v2"} | given(field, DEFAULTS[name][field])
    kind: Any = DETECTORS[name].options
    args = [re.sub("^--", "--detector.", arg) for arg in as_arguments(values)]
    expected = replace(row, detector=kind(**values))
    plain = replace(row, detector=kind(backbone="mobilenet_v2"))
    assert parse_config({"tiny": plain}, args, DetectionTask.kinds)[0] == expected


def test_another_detector_keeps_what_the_row_stated(row: DetectionConfig) -> None:
    """Under the names that it has too; what was the former's default becomes its own."""
    former = replace(row, detector=FCOSOptions(backbone="mobilenet_v2", channels=64, box_weight=3.0, max_detections=7))
    config, _ = parse_config({"tiny": former}, ["--network", "retinanet"], DetectionTask.kinds)
    assert config.detector == RetinaNetOptions(backbone="mobilenet_v2", channels=64, max_detections=7)
    assert (former.detector.iou_threshold, config.detector.iou_threshold) == (0.6, 0.5)  # pyright: ignore


@pytest.mark.parametrize(
    ("args", "expected"),
    [("None", None), ("RBC WBC", ("RBC", "WBC")), ("a", ("a",))],
)
def test_classes_of_none_are_none(row: DetectionConfig, args: str, expected: tuple[str, ...] | None) -> None:
    """Not a class that is called None: all that the data has."""
    data = VocData(**VOC, classes=("cat", "dog"))
    line = ["--data.classes", *args.split()]
    config, _ = parse_config({"tiny": replace(row, data=data)}, line, DetectionTask.kinds)
    assert config.data == replace(data, classes=expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "build", "num_classes"),
    [
        (FCOSOptions.torchvision(), fcos_resnet50_fpn, 91),
        (RetinaNetOptions.torchvision(), retinanet_resnet50_fpn, 91),
        (FasterRCNNOptions.torchvision(), fasterrcnn_resnet50_fpn, 90),
    ],
    ids=["fcos", "retinanet", "faster_rcnn"],
)
def test_a_row_can_have_torchvisions_detector(row: DetectionConfig, options: Any, build: Any, num_classes: int) -> None:
    """Its state dict loads whole: no key is missing and none is left, also after the config was recorded."""
    config = from_record(to_record(replace(row, detector=options)))
    reference = build(weights=None, weights_backbone=None).state_dict()
    report = load_weights(build_from_options(num_classes, config.detector), reference)
    assert (report.missing, report.unexpected) == ([], [])
    assert sorted(report.loaded) == sorted(reference)
