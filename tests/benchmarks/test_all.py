"""What the pages claim is what was measured, on the machine where it is least."""

import re
from typing import Any

import pytest
import torch

import benchmarks.all
from benchmarks.all import (
    CONVOLUTIONS,
    NETWORKS,
    ROWS,
    claims_here,
    from_here,
    lowest,
    of_claim,
    read_records,
    stated,
    verdict,
)
from benchmarks.training_steps import CLAIMED, DEFAULT, FP32
from tests.commands import ROOT

PAGES = ("README.md", "docs/results.md", "benchmarks/README.md")
STATED = {
    "batches from memory": ("cifar_pipeline",),
    "decode + crop + flip": ("imagenet_pipeline | ours uint8",),
    "`resnet18cifar`": ("cifar_training",),
    "COCO's twelve numbers": ("coco_evaluation",),
    "an annotation file of COCO's size": ("coco_reading",),
    "argets and losses": ("detection_losses_retinanet", "detection_losses_fcos"),
    "a training step of FCOS on MobileNetV2": ("fcos_step",),
    "each as it trains by default": tuple(
        f"training_steps_{name}: {way}" for way in (DEFAULT, FP32) for name in CLAIMED
    ),
    "a training step of ResNet-50, EfficientNet-B0": tuple(f"network_steps_{name}" for name in NETWORKS),
    "the same networks' inference": tuple(f"network_inferences_{name}" for name in NETWORKS),
    "photos predicted from files": ("predict_photos_mobilenet_v2",),
    "Faster R-CNN-R50": ("faster_rcnn_inference",),
    "RetinaNet-R50 at 667 pixels": ("retinanet_inference | batch 1", "retinanet_inference | batch 8"),
    "packed and shrunk": ("packed_data, packed and shrunk",),
    "images are checked on two cores": ("check_images",),
    "listing 210,000 files": ("listing",),
    "the precision that a run takes": ("precision",),
    "a deformable convolution trains": ("deform_conv",),
    "RoI Align trains": ("roi_align | 2 x 2 points",),
    "a wide 3x3 convolution trains": CONVOLUTIONS,
}
"""By words that are in the lines of the tables."""


def record(processor: str, ratio: float, **changes: Any) -> dict[str, Any]:
    machine = {"processor": processor, "device": "CPU (2 threads)"}
    return {"claim": "step", "ratio": ratio, "claimed": 1.0, "data": "noise, batch 8", "machine": machine} | changes


@pytest.mark.parametrize("words", STATED)
def test_the_pages_state_the_lowest_ratio_that_was_measured(words: str) -> None:
    records = read_records()
    numbers = [stated(lowest(records, claim)) for claim in STATED[words]]
    lines = [line for page in PAGES for line in (ROOT / page).read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line.startswith("| ") and words in line.split("|")[1]]
    assert lines
    for line in lines:
        last = line.split("|")[-2]
        if "%" not in last:  # accuracies of the same script
            assert re.findall(r"\d+(?:\.\d+)?", last)[: len(numbers)] == numbers, f"{line} must state {numbers}"


def test_the_lowest_of_the_machines_newest_records() -> None:
    """An older record of the same machine is of older code; one that claims another ratio is of another claim."""
    of_others = [record("C", 0.1, claimed=0.05), record("D", 0.2, data="noise, batch 80"), record("E", 0.3, claim="no")]
    records = [*of_others, record("A", 9.0), record("A", 1.5), record("B", 1.2), record("B", 3.0)]
    assert lowest(records, "step | batch 8") == 1.5
    of_b = {"processor": "B", "generation": "family 6", "device": "CPU (2 threads)"}
    assert lowest([*records, record("B", 1.3, machine=of_b)], "step | batch 8") == 1.3
    assert lowest([*records, record("B", 4.0, machine=of_b)], "step | batch 8") == 1.5
    gpu = {"processor": "F", "device": "NVIDIA"}
    assert lowest([*records, record("F", 0.5, machine=gpu)], "step | batch 8") == 1.5
    with pytest.raises(ValueError, match="no record of 'unheard'"):
        lowest(records, "unheard")


@pytest.mark.parametrize("commit", ["abc+", None])
def test_what_was_measured_here(commit: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """By this commit, whatever was changed since; or outside git, where there is none."""
    here = {"processor": "A", "device": "CPU (2 threads)", "commit": commit}
    monkeypatch.setattr(benchmarks.all, "environment_record", lambda *_: here)
    own = record("A", 1.0, machine=here | {"commit": commit and "abc"})
    assert from_here([record("A", 1.0, machine=here | {"commit": "def"}), own]) == [own]


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float32])
def test_bf16_is_claimed_where_it_is_the_default(precision: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmarks.all, "choose_precision", lambda *_: precision)
    (row,) = (row for row in ROWS if row.script == "training_steps")
    ways = (DEFAULT, FP32) if precision == torch.bfloat16 else (FP32,)
    assert claims_here(row) == [f"training_steps_{name}: {way}" for way in ways for name in CLAIMED]


def test_no_number_is_rounded_up() -> None:
    assert [stated(x) for x in (31.99, 3.596, 2.0, 1.189, 1.1, 0.999)] == ["31", "3.5", "2.0", "1.18", "1.10", "0.99"]


def test_what_holds() -> None:
    rounds = {"ratio_lowest": 0.9, "ratio_highest": 1.6}
    assert verdict(record("A", 1.0) | rounds) == (True, "1.00, claimed 1 (rounds 0.90 to 1.60)")
    assert not verdict(record("A", 0.99) | rounds)[0]
    assert verdict({"claim": "exact_resume", "identical": False}) == (False, "not identical")


def test_every_row_is_a_script() -> None:
    for row in ROWS:
        assert (ROOT / "benchmarks" / f"{row.script}.py").is_file()
    assert {claim for claims in STATED.values() for claim in claims} <= {claim for row in ROWS for claim in row.claims}
    assert of_claim(read_records(), "cifar_pipeline")
