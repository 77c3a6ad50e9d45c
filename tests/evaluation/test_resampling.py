"""Resampled images: the numbers of pycocotools and of our own evaluation where an image is written down as often."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from public.datasets.annotations import DetectionAnnotations
from public.datasets.coco import read_coco
from public.datasets.predictions import Predictions, with_sides
from public.datasets.results import read_coco_results
from public.evaluation.coco import CocoEvaluator
from public.evaluation.evaluator import Evaluator
from public.evaluation.resampling import draws, shares
from public.evaluation.voc import VocEvaluator
from tests.evaluation.coco_cases import make_case
from tests.evaluation.test_coco import reference, write_case

Rows = list[dict[str, Any]]


def make_untied(number: int) -> tuple[dict[str, Any], Rows]:
    """A generated case whose scores are all different: of equal ones pycocotools takes the copies of an image apart."""
    truth, results = make_case(number)
    scores = np.random.default_rng(number).permutation(len(results)) / len(results)
    return truth, [row | {"score": score} for row, score in zip(results, scores.tolist(), strict=True)]


def repeated(truth: dict[str, Any], results: Rows, weights: dict[int, int]) -> tuple[dict[str, Any], Rows]:
    """The same with each image written down as often as its id says, under ids in the order of the old ones."""

    def copies(row: dict[str, Any], key: str) -> Rows:
        return [row | {key: 10 * row[key] + copy} for copy in range(weights[row[key]])]

    images = [copy for image in truth["images"] for copy in copies(image, "id")]
    objects = [copy for row in truth["annotations"] for copy in copies(row, "image_id")]
    objects = [row | {"id": number} for number, row in enumerate(objects, start=1)]
    return truth | {"images": images, "annotations": objects}, [
        copy for row in results for copy in copies(row, "image_id")
    ]


def weights_of(number: int, num_images: int) -> np.ndarray:
    """0 to 3, not all 0, int64 [N]."""
    weights = np.random.default_rng(number).integers(0, 4, num_images)
    weights[0] += not weights.any()
    return weights


@pytest.mark.slow
@pytest.mark.parametrize("number", range(12))
def test_equal_to_pycocotools(tmp_path: Path, number: int) -> None:
    """AP and AP50 of a data set in which an image stands not at all, once, or several times."""
    truth, results = make_untied(number)
    write_case(tmp_path, truth, results)
    annotations = read_coco(tmp_path, "val")
    compute = CocoEvaluator(annotations).resampled(read_coco_results([tmp_path / "results.json"], annotations))
    for weights in (np.ones(annotations.num_images, int), weights_of(number, annotations.num_images)):
        of_ids = dict(zip(annotations.image_ids.tolist(), weights.tolist(), strict=True))
        more, found = repeated(truth, results, of_ids)
        (tmp_path / "more.json").write_text(json.dumps(found))
        expected = reference(more, tmp_path / "more.json").stats[:2] if found else np.zeros(2)
        np.testing.assert_allclose(np.nan_to_num(compute(weights), nan=-1), expected, rtol=0, atol=1e-9)


def copied(annotations: DetectionAnnotations, predictions: Predictions, weights: np.ndarray) -> tuple[Any, ...]:
    """Every image as often as it counts: annotations and predictions."""
    rows = np.repeat(np.arange(len(weights)), weights)
    counts = np.diff(annotations.offsets)[rows]
    objects = np.concatenate(
        [np.zeros(0, int), *(np.arange(*annotations.offsets[row : row + 2]) for row in rows.tolist())]
    )
    own = [np.flatnonzero(predictions.image_ids == annotations.image_ids[row]) for row in rows.tolist()]
    ids = np.arange(len(rows))
    more: dict[str, Any] = {name: getattr(annotations, name)[objects] for name in ("boxes", "labels", "ignored")}
    more |= {"files": annotations.files[rows], "sizes": annotations.sizes[rows], "image_ids": ids, "truth": None}
    found = Predictions(*(column[np.concatenate(own)] for column in predictions))
    found = found._replace(image_ids=np.repeat(ids, [len(one) for one in own]))
    offsets = np.append(0, np.cumsum(counts))
    return DetectionAnnotations(**{**vars(annotations), **more, "offsets": offsets}), found


@pytest.mark.slow
@pytest.mark.parametrize("rules", [VocEvaluator, CocoEvaluator])
def test_equal_to_the_evaluation_of_copies(tmp_path: Path, rules: type[Evaluator]) -> None:
    """By VOC's rules as by COCO's, difficult objects among them."""
    for number in range(4):
        truth, results = make_untied(number)
        root = tmp_path / str(number)
        write_case(root, truth, results)
        annotations = read_coco(root, "val")
        predictions = read_coco_results([root / "results.json"], annotations).predictions
        weights = weights_of(number, annotations.num_images)
        more, found = copied(annotations, predictions, weights)
        expected = rules(more).evaluate(found).metrics
        values = rules(DetectionAnnotations(**{**vars(annotations), "truth": None})).resampled(with_sides(predictions))
        np.testing.assert_allclose(
            values(weights), [expected[name] for name in rules.resampled_metrics], rtol=0, atol=1e-9
        )


def test_draws() -> None:
    """N images each time, the same for the same seed; the share of right images of one draw by hand."""
    first, second = draws(5, 2, seed=3)
    assert first.sum() == second.sum() == 5
    assert [one.tolist() for one in draws(5, 2, seed=3)] == [first.tolist(), second.tolist()]
    assert shares(np.array([True, False, True]))(np.array([0, 2, 1])).tolist() == [1 / 3]
