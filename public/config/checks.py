"""How a setting is refused: one sentence that says what was received, what is allowed and how the option is spelled."""

from collections.abc import Sequence
from pathlib import Path

LARGEST_SIDE = 8192
"""Of an image that a network sees, pixels."""


def require(condition: bool, message: str) -> None:
    """Raises ValueError(message) unless the condition holds."""
    if not condition:
        raise ValueError(message)


def require_one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raises ValueError unless the value of the option `name` is one of those allowed."""
    require(value in allowed, f"{name}={value!r} must be one of {', '.join(allowed)}.")


def require_side(name: str, value: int) -> None:
    """Raises ValueError unless the option `name` is a side of an image that can be computed."""
    require(1 <= value <= LARGEST_SIDE, f"{name}={value} must lie within 1..{LARGEST_SIDE} pixels.")


def require_share(name: str, value: float | None) -> None:
    """Raises ValueError unless the option `name` lies within [0, 1], or is None."""
    require(value is None or 0 <= value <= 1, f"{name}={value} must lie within [0, 1].")


def require_at_least(name: str, value: float | None, lowest: float) -> None:
    """Raises ValueError unless the option `name` is a number of `lowest` or more, or None."""
    require(value is None or value >= lowest, f"{name}={value} must be {lowest} or more.")


def require_file(given: str | Path, missing: str) -> None:
    """Raises FileNotFoundError unless there is a file, as `Path.is_file` alone does not: it raises what the system says
    of a folder that is closed or a name that is too long.

    Args:
        given: as the user wrote it.
        missing: the sentence where nothing is there.
    """
    path, sentence = Path(given), missing
    try:
        if path.is_file():
            return
        if path.is_dir():
            sentence = f"{path} is a folder; expected is a file, such as a run's checkpoints/best.pth."
    except OSError as error:
        sentence = f"{str(path)[:100]!r} cannot be looked at: {error.strerror}."
    raise FileNotFoundError(sentence if str(given).strip() else f"{str(given)!r} is the name of no file.")
