"""The detectors' options: which there are, what they are by default, how they are set, what is refused."""

import subprocess
import sys
from dataclasses import fields
from typing import Any

import pytest
import torch
import tyro

from public.detectors.catalog import DETECTOR_KIND, DETECTORS, build_detector, build_from_options, list_detectors
from public.detectors.faster_rcnn.options import FasterRCNNOptions
from public.detectors.fcos.options import FCOSOptions
from public.detectors.retinanet.options import RetinaNetOptions

P3_TO_P7 = ("p3", "p4", "p5", "p6", "p7")
BODY: dict[str, Any] = {"backbone": "resnet50", "frozen_stages": 0, "frozen_batch_norm": False}
DENSE: dict[str, Any] = {
    **BODY,
    "channels": 256,
    "num_convs": 4,
    "levels": P3_TO_P7,
    "focal_alpha": 0.25,
    "focal_gamma": 2.0,
    "top_k": 1000,
    "max_detections": 100,
}
TWO_STAGES: dict[str, Any] = {
    **BODY,
    "batch_norm_eps": None,
    "channels": 256,
    "pyramid": "standard",
    "levels": ("p2", "p3", "p4", "p5", "p6"),
    "anchor_sizes": None,
    "anchors": "centered",
    "rpn_samples": 256,
    "num_candidates": (2000, 1000),
    "num_proposals": (2000, 1000),
    "roi_samples": 512,
    "pool_size": 7,
    "sampling_ratio": 2,
    "aligned": True,
    "head_channels": 1024,
    "smooth_l1_beta": 1 / 9,
    "score_threshold": 0.05,
    "iou_threshold": 0.5,
    "soft_nms": None,
    "soft_nms_sigma": 0.5,
    "max_detections": 100,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "retinanet": {
        **DENSE,
        "batch_norm_eps": None,
        "p6_from": "c5",
        "anchor_sizes": None,
        "anchors": "centered",
        "positive_iou": 0.5,
        "negative_iou": 0.4,
        "box_weights": (10.0, 10.0, 5.0, 5.0),
        "box_loss": "smooth_l1",
        "normalize": "batch",
        "score_threshold": 0.05,
        "iou_threshold": 0.5,
    },
    "fcos": {
        **DENSE,
        "distances": "exp",
        "center_sampling": "circle",
        "points": "centered",
        "box_weight": 2.0,
        "centerness_weighted": True,
        "score_threshold": 0.01,
        "iou_threshold": 0.6,
    },
    "centernet": {
        **BODY,
        "backbone": "resnet18",
        "level": "c5",
        "deformable": True,
        "upsample_channels": (256, 128, 64),
        "head_channels": 64,
        "regression_loss": "smooth_l1",
        "score_threshold": 0.05,
        "iou_threshold": None,
        "max_detections": 100,
    },
    "faster_rcnn": {**TWO_STAGES, "class_agnostic": False},
    "cascade_rcnn": TWO_STAGES,
}
"""What the arguments of the networks were before options stood beside them (commit 20741d7)."""

OTHERS: dict[str, Any] = {
    "backbone": "mobilenet_v2",
    "levels": ("p3", "p4", "p5"),
    "anchors": "torchvision",
    "points": "torchvision",
    "p6_from": "p5",
    "box_loss": "giou",
    "regression_loss": "l1",
    "normalize": "image",
    "distances": "relu",
    "center_sampling": "square",
    "level": "c4",
    "pyramid": "detnet",
    "soft_nms": "linear",
    "num_candidates": (20, 10),
    "num_proposals": (20, 10),
    "negative_iou": 0.3,
    "positive_iou": 0.6,
    "upsample_channels": (8, 8),
    "batch_norm_eps": 0.001,
    "box_weights": (1.0, 1.0, 2.0, 2.0),
}
"""Another value of each setting that is no single number, or of which not every number will do."""
FIELDS = [(name, field) for name, defaults in DEFAULTS.items() for field in defaults]


def other_value(field: str, default: Any) -> Any:
    """A value that differs from the default and is allowed."""
    if field in OTHERS:
        return OTHERS[field]
    if isinstance(default, bool):
        return not default
    return default + 1 if isinstance(default, int) else 0.3


def given(field: str, default: Any) -> dict[str, Any]:
    """The other value, with what it needs beside it."""
    if field == "anchor_sizes":
        return {"anchor_sizes": (8.0, 16.0, 32.0), "levels": ("p3", "p4", "p5")}
    more = {"soft_nms": "gaussian"} if field == "soft_nms_sigma" else {}
    return {field: other_value(field, default), **more}


def as_arguments(values: dict[str, Any]) -> list[str]:
    """The same on a command line."""
    args = []
    for name, value in values.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            args += [f"--{option}" if value else f"--no-{option}"]
        else:
            args += [f"--{option}", *(str(x) for x in (value if isinstance(value, tuple) else (value,)))]
    return args


def test_every_detector_is_in_the_tables() -> None:
    assert list(DEFAULTS) == list_detectors() == list(DETECTOR_KIND.names)
    for name, entry in DETECTORS.items():
        assert entry.options.kind == name
        assert DETECTOR_KIND.type_of(name) is entry.options


@pytest.mark.parametrize("name", DEFAULTS)
def test_defaults_are_what_they_were(name: str) -> None:
    options: Any = DETECTORS[name].options()
    assert {f.name: getattr(options, f.name) for f in fields(options)} == DEFAULTS[name]


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_every_setting_can_be_set(name: str, field: str) -> None:
    """By keyword and on the command line alike."""
    values = given(field, DEFAULTS[name][field])
    options: Any = DETECTORS[name].options(**values)
    assert getattr(options, field) == values[field] != DEFAULTS[name][field]
    assert tyro.cli(DETECTORS[name].options, args=as_arguments(values)) == options


@pytest.mark.parametrize("name", DEFAULTS)
def test_help_explains_every_setting(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tyro.cli(DETECTORS[name].options, args=["--help"], console_outputs=True)
    text = capsys.readouterr().out
    for field in DEFAULTS[name]:
        assert f"--{field.replace('_', '-')}" in text
        assert f"detector.{field}" not in text
    assert text.count("(default:") == len(DEFAULTS[name])


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("retinanet", {"frozen_stages": -1}, "detector.frozen_stages=-1 must be 0 or more"),
        ("retinanet", {"levels": ("p3", "p5")}, r"detector.levels=\('p3', 'p5'\) cannot be built"),
        ("retinanet", {"anchor_sizes": (8.0,)}, r"detector.anchor_sizes=\(8.0,\) must be 5 numbers"),
        ("fcos", {"levels": ("p3", "p4", "p5", "p6")}, "detector.levels=.* none or both of p6, p7"),
        ("fcos", {"top_k": 0}, "detector.top_k=0 must be 1 or more"),
        ("centernet", {"iou_threshold": -0.1}, r"detector.iou_threshold=-0.1 must lie within \[0, 1\]"),
        ("faster_rcnn", {"levels": P3_TO_P7}, "detector.levels=.* then p6 or not"),
        ("faster_rcnn", {"sampling_ratio": 65}, "detector.sampling_ratio=65 must lie within 0..64"),
        ("faster_rcnn", {"soft_nms_sigma": 0.4}, "detector.soft_nms_sigma=0.4 has no effect without detector.soft_nms"),
        ("cascade_rcnn", {"soft_nms_sigma": 0.4, "soft_nms": "linear"}, "soft_nms_sigma=0.4 has no effect"),
        ("cascade_rcnn", {"class_agnostic": False}, "cascade_rcnn has no option 'class_agnostic'"),
        ("fcos", {"focal_alhpa": 0.5}, "fcos has no option 'focal_alhpa'; the nearest: focal_alpha"),
    ],
)
def test_refusals(name: str, values: dict[str, Any], message: str) -> None:
    """All before a network is built; more of them in the tests of each detector."""
    with pytest.raises(ValueError, match=message):
        build_detector(name, 3, **values)


def test_names_and_numbers_of_classes_are_checked() -> None:
    with pytest.raises(ValueError, match="there is no detector 'retinet'; the nearest: retinanet"):
        build_detector("retinet", 3)
    with pytest.raises(ValueError, match="num_classes=0 asked of fcos; it must be at least 1"):
        build_from_options(0, FCOSOptions())


@pytest.mark.slow
def test_options_and_keywords_build_the_same() -> None:
    with torch.device("meta"):
        ours = build_from_options(3, FCOSOptions(backbone="mobilenet_v2", num_convs=1))
        by_keyword = build_detector("fcos", 3, backbone="mobilenet_v2", num_convs=1)
    assert type(ours) is type(by_keyword)
    assert {k: x.shape for k, x in ours.state_dict().items()} == {
        k: x.shape for k, x in by_keyword.state_dict().items()
    }


@pytest.mark.parametrize("options", [RetinaNetOptions, FCOSOptions, FasterRCNNOptions])
def test_torchvisions_can_be_changed(options: Any) -> None:
    assert options.torchvision(max_detections=7, channels=32) != options.torchvision()
    assert options.torchvision(max_detections=7).max_detections == 7
    assert options.torchvision() != options()


@pytest.mark.slow
def test_the_catalog_imports_no_torch() -> None:
    """So that --help and the list cost nothing."""
    code = "import sys, public.detectors.catalog; sys.exit(bool({'torch', 'torchvision', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
