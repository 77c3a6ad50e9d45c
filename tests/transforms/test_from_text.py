"""Recorded transforms become objects again, and nothing else does."""

from typing import Any

import pytest
from public.transforms.from_text import transforms_from_text

from public.config.record import to_record
from public.transforms import detection
from public.transforms.detection import (
    PhotometricJitter,
    RandomCrop,
    RandomHorizontalFlip,
    RandomShortSideResize,
    RandomSquareResize,
    RandomTranslate,
    ShortSideResize,
    SquareResize,
)

EXAMPLES = (
    SquareResize(size=667),
    ShortSideResize(short=800, long_cap=1333),
    RandomSquareResize(sizes=(480, 512, 544)),
    RandomSquareResize(sizes=(64,)),
    RandomShortSideResize(shorts=(640, 800), long_cap=1333),
    RandomHorizontalFlip(probability=0.25),
    RandomCrop(),
    RandomTranslate(probability=1.0),
    PhotometricJitter(brightness=0.1, hue=0.0, probability=1 / 3),
)


def test_all_of_them_are_read_back() -> None:
    """From what a config's record holds, every value to the last digit; the examples are of every kind there is."""
    record = to_record(EXAMPLES)
    assert record[0] == "SquareResize(size=667)"
    assert transforms_from_text(record) == EXAMPLES
    assert transforms_from_text([]) == ()
    kinds = {kind for kind in vars(detection).values() if isinstance(kind, type) and hasattr(kind, "num_draws")}
    assert {type(example) for example in EXAMPLES} == kinds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SquareResize",
        "SquareResize()",
        "SquareResize(667)",
        "RandomHorizontalFlip(0.25)",
        "SquareResize(size=0)",
        "SquareResize(size=667, sise=3)",
        "SquareResize(sise=667)",
        "SquareResize(size=667",
        "squareresize(size=667)",
        "SquareResize(size=667), SquareResize(size=667)",
        "SquareResize(size=600 + 67 * print('run'))",
        "SquareResize(size=__import__('os').system('echo run'))",
        "SquareResize(**{'size': 667})",
        "detection.SquareResize(size=667)",
        "__import__('os').system('echo run')",
        "DetectionSample(image=1, boxes=2, labels=3, content_size=4)",
        "DetectionTransform()",
        "dataclass()",
        "Resize(size=[667, 667])",
    ],
)
def test_all_else_is_refused(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Unfinished, unknown, positional, out of range, or code: one sentence with the text, and nothing is run."""
    with pytest.raises(
        ValueError, match=r" is not one of public/transforms/detection\.py, or of another version"
    ) as error:
        transforms_from_text(["SquareResize(size=667)", text])
    assert str(error.value).startswith(f"the transform {text!r} ")
    assert capfd.readouterr().out == ""


def test_a_record_of_another_kind() -> None:
    """Whatever a damaged checkpoint holds in the place of a text."""
    others: list[Any] = [None, 3, ["SquareResize(size=667)"]]
    for other in others:
        with pytest.raises(ValueError, match=r"is not one of public/transforms/detection\.py"):
            transforms_from_text([other])
