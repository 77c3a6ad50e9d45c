"""How settings are refused."""

import re
from typing import Any

import pytest

from public.config.checks import require, require_at_least, require_one_of, require_share, require_side

NAN = float("nan")


def test_require_raises_only_where_the_condition_fails() -> None:
    """The message is passed on as it is."""
    require(True, "unseen")
    with pytest.raises(ValueError, match=r"^lr=0 must be above 0$"):
        require(False, "lr=0 must be above 0")


@pytest.mark.parametrize(
    ("check", "allowed", "refused", "message"),
    [
        (lambda value: require_one_of("a.b", value, ("x", "y")), ("x", "y"), ("z", ""), "must be one of x, y."),
        (lambda value: require_side("a.b", value), (1, 8192), (0, -5, 8193), "must lie within 1..8192 pixels."),
        (lambda value: require_share("a.b", value), (0, 0.5, 1, None), (-0.1, 1.1, NAN), "must lie within [0, 1]."),
        (lambda value: require_at_least("a.b", value, 2), (2, 3.5, None), (1, 1.9, NAN), "must be 2 or more."),
    ],
    ids=["one of", "side", "share", "at least"],
)
def test_the_ends_of_what_is_allowed(check: Any, allowed: Any, refused: Any, message: str) -> None:
    """The message names the option, the value and what is allowed; what is no number is never within."""
    for value in allowed:
        check(value)
    for value in refused:
        with pytest.raises(ValueError, match=f"^{re.escape(f'a.b={value!r} {message}')}$"):
            check(value)
