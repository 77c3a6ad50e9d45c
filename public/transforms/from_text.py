"""Transforms as a checkpoint records them, by their repr, made into objects again without running any code."""

import ast
from collections.abc import Sequence

from public.transforms import detection
from public.transforms.detection import DetectionTransform


def transforms_from_text(texts: Sequence[str]) -> tuple[DetectionTransform, ...]:
    """("SquareResize(size=667)",) -> (SquareResize(size=667),).

    Raises:
        ValueError: a text is not the repr of a transform of public/transforms/detection.py.
    """
    return tuple(_from_text(text) for text in texts)


def _from_text(text: str) -> DetectionTransform:
    try:
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call)
        assert isinstance(call.func, ast.Name)
        assert not call.args  # a repr names every value
        kind = vars(detection)[call.func.id]
        assert hasattr(kind, "num_draws")
        values = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
        return kind(**values)
    except (AssertionError, KeyError, SyntaxError, TypeError, ValueError) as error:
        raise ValueError(
            f"the transform {text!r} is not one of public/transforms/detection.py, or of another version of it."
        ) from error
