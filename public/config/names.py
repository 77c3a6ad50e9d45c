"""Parts of messages to the user: the names nearest to a mistyped one, the gist of an error."""

import difflib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

MOST_LISTED = 100
"""Names that a message lists: as many as our own networks are."""


def nearest_names(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known names closest to it; all where none is close, unless they
    are a library's catalog, which nobody reads in a message."""
    known = list(known)
    cutoff = 0.5 if len(known) <= MOST_LISTED else 0.0
    close = difflib.get_close_matches(name, known, n=3, cutoff=cutoff)
    number = f" of {len(known)}" if len(known) > MOST_LISTED else ""
    return f"the nearest{number}: {', '.join(close)}" if close else f"there are: {', '.join(known)}"


def unusable_names(names: Sequence[str]) -> list[str]:
    """What makes names of classes unusable, a clause each: classes are matched by them, tables and files carry them."""
    strange = [name for name in names if not name or {unicodedata.category(letter) for letter in name} & {"Cc", "Cs"}]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    texts = [f"the class name {name!r} is empty or holds control characters or halves of letters" for name in strange]
    return texts + [f"more than one class is called {name!r}, expected each name once" for name in repeated]


def printable(text: str) -> str:
    """A text for any file and terminal: bytes of a file name that are no UTF-8 stand as \\udc and their number."""
    return text.encode(errors="backslashreplace").decode()


def first_few(names: Sequence[str], limit: int) -> str:
    """The first names of a list, and dots where there are more."""
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without its full stop, or its kind where it has none: part of a sentence."""
    return str(error).strip().partition("\n")[0].rstrip(". ") or type(error).__name__
