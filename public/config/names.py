"""Help with a mistyped name."""

import difflib
from collections.abc import Iterable


def nearest_names(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known names closest to it, or all of them."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"the nearest: {', '.join(close)}" if close else f"there are: {', '.join(known)}"
