"""The strict way through an annotation file: the same columns as the slow one's, or none."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from public.datasets import coco_file
from public.datasets.coco_file import CocoEntries, read_entries
from tests.datasets.written import coco_content
from tests.evaluation.coco_cases import make_case


def written(path: Path, content: Any, **how: Any) -> Path:
    """The file with some content."""
    path.write_text(content if isinstance(content, str) else json.dumps(content, **how))
    return path


def assert_same(some: CocoEntries, others: CocoEntries) -> None:
    """To the last bit, types included."""
    for name, one, other in zip(CocoEntries._fields, some, others, strict=True):
        assert type(one) is type(other), name
        if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
            assert (one.dtype, one.shape) == (other.dtype, other.shape), name
            np.testing.assert_array_equal(one, other, err_msg=name)
        else:
            assert one == other, name


def strict_and_slow(path: Path) -> tuple[CocoEntries | None, CocoEntries]:
    """By both ways; nothing is to be noted."""
    problems = []
    slow = coco_file._sound_entries(path, problems)
    assert problems == []
    return coco_file._strict_entries(path), slow


@pytest.mark.parametrize("piece", [1, 200, 1 << 20])
@pytest.mark.parametrize("how", [{}, {"separators": (",", ":")}, {"indent": 1}, {"sort_keys": True}], ids=str)
def test_the_same_as_the_slow_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, how: dict[str, Any]
) -> None:
    """Whatever the size of the pieces and the layout of the text, with outlines, and words that look like seams."""
    monkeypatch.setattr(coco_file, "_PIECE", piece)
    for number in range(4):
        content = make_case(number)[0]
        rng = np.random.default_rng(number)
        for row in content["annotations"]:
            row["area"] = float(rng.random() * 10.0 ** rng.integers(-3, 9))  # seventeen digits
            row["segmentation"] = [rng.random(8).tolist()] if number % 2 else {"counts": [1, 2], "size": [3, 4]}
            row["note"] = 'a text with "},{" and a bracket ]'
            row["parts"] = [{"x": 1}, {"x": 2}]
        content["info"] = {"text": '"annotations":[', "year": 2017}
        strict, slow = strict_and_slow(written(tmp_path / "x.json", content, **how))
        if strict is not None:  # with the key within an earlier text it may be left to the slow way
            assert_same(strict, slow)
        del content["info"]
        strict, slow = strict_and_slow(written(tmp_path / "x.json", content, **how))
        assert strict is not None
        assert len(strict.areas) == len(content["annotations"])
        assert_same(strict, slow)


def test_no_annotation(tmp_path: Path) -> None:
    """A split of images without objects is in order."""
    strict, slow = strict_and_slow(written(tmp_path / "x.json", coco_content()))
    assert strict is not None
    assert_same(strict, slow)


@pytest.mark.parametrize("piece", [1, 1 << 20])
def test_annotations_of_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    """A list of that name within another object, or twice, is never taken for the file's own."""
    monkeypatch.setattr(coco_file, "_PIECE", piece)
    other = coco_content([(7, 3, 1, 1, 2, 2), (7, 3, 3, 3, 4, 4), (7, 90, 5, 5, 2, 2)])["annotations"]
    content = {"info": {"annotations": other}} | coco_content([(2, 3, 1, 1, 9, 9), (2, 3, 1, 1, 8, 8)])
    text = json.dumps(content)
    for one in (text, text.replace('"info": {"annotations"', '"annotations"').replace("]}, ", "], ", 1)):
        entries = read_entries(written(tmp_path / "x.json", one), [])
        assert entries.boxes.tolist() == [[1, 1, 9, 9], [1, 1, 8, 8]]


CHANGES: dict[str, tuple[str, dict[str, Any]]] = {
    "a float width": ("images", {"width": 96.0}),
    "no width": ("images", {"width": None}),
    "width 0": ("images", {"width": 0}),
    "a huge width": ("images", {"width": 2**31}),
    "an id twice": ("images", {"id": 2}),
    "an id beyond 64 bits": ("images", {"id": 2**63}),
    "an image of beyond 64 bits": ("annotations", {"image_id": 20230101120000000005}),
    "a class of beyond 64 bits": ("annotations", {"category_id": 20230101120000000005}),
    "no name": ("images", {"file_name": ""}),
    "a name with NUL": ("images", {"file_name": "a\0.jpg"}),
    "half a letter": ("images", {"file_name": "\ud800.jpg"}),
    "a number as a name": ("categories", {"name": 3}),
    "a class twice": ("categories", {"id": 3}),
    "no box": ("annotations", {"bbox": None}),
    "an empty box": ("annotations", {"bbox": []}),
    "three numbers": ("annotations", {"bbox": [1, 2, 3]}),
    "a huge number": ("annotations", {"bbox": [1, 2, 3, 2**63]}),
    "nan": ("annotations", {"bbox": [1, 2, 3, float("nan")]}),
    "no area": ("annotations", {"area": None}),
    "an infinite area": ("annotations", {"area": float("inf")}),
    "a crowd of 2": ("annotations", {"iscrowd": 2}),
    "a crowd of true": ("annotations", {"iscrowd": True}),
    "a text as an id": ("annotations", {"image_id": "7"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_not_in_order_is_left_to_the_slow_way(tmp_path: Path, name: str) -> None:
    """Which reads it or says what is wrong, as if it were alone."""
    group, change = CHANGES[name]
    content = coco_content([(7, 3, 1, 1, 2, 2), (2, 90, 3, 3, 4, 4)])
    for row in content["annotations"]:
        row["area"] = 4.0
    path = written(tmp_path / "x.json", content)
    assert coco_file._strict_entries(path) is not None
    content[group] = [content[group][0] | change, *content[group][1:]]
    written(path, content)
    assert coco_file._strict_entries(path) is None
    found, expected = [], []
    assert_same(read_entries(path, found), coco_file._sound_entries(path, expected))
    assert found == expected
