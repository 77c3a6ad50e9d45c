"""Whether the pages of an LMDB file hang together: LMDB follows them without a look, and a damaged one may end the
process.

The pages of a file form a tree: a branch page names the pages below it, a leaf page holds records, or the number of the
first of the pages that a long record has to itself. Every page of the tree is looked at once, and no long record: of
photos, less than a hundredth of the file. The layout is that of `MDB_meta`, `MDB_page` and `MDB_node` in LMDB's mdb.c
(0.9), with words of 64 bits, the low byte first.
"""

import os
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

_MAGIC = 0xBEEFC0DE
_BRANCH, _LEAF = 1, 2
"""Kinds of pages."""
_PAGE = struct.Struct("<QxxHHH")
"""A page begins with its number, its kind, the end of the list of its nodes and the begin of the first node."""
_DESCRIPTION = struct.Struct("<I20xI48xHHQQ16xQQQ")
"""Of a file, behind the beginning of its first two pages: see `_Description`; what is not needed is left out."""
_NODE = 8
"""Bytes before the key of a node: four numbers of two."""
_LONG = 1
"""The flag of a node whose record has pages of its own."""
_NONE = 2**64 - 1
"""The root of a tree without pages."""


class _Description(NamedTuple):
    """What a file says of itself."""

    magic: int
    page_size: int
    """Bytes."""
    flags: int
    """0: keys are bytes, each with one record."""
    depth: int
    """Pages from the root to a leaf."""
    branches: int
    leaves: int
    root: int
    last: int
    """The number of the last page in use."""
    written: int
    """How often the file was written to."""


class _Damaged(OSError):
    """A page holds what no LMDB writes."""

    def __init__(self, page: int) -> None:
        super().__init__(f"its page {page} is damaged, which says where records lie")


def check_pages(path: Path) -> None:
    """Looks at every page of the tree.

    Raises:
        OSError: one is damaged or cut off, or the file cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        stated = _describe(file.fileno())
        if stated is None or stated.root == _NONE:  # no LMDB file, which LMDB says itself; or an empty one
            return
        pages, num_left = [stated.root], stated.branches + stated.leaves
        for level in range(1, stated.depth + 1):
            num_left -= len(pages)
            if num_left < 0:  # they may lead to each other
                raise _Damaged(pages[0])
            kind = _LEAF if level == stated.depth else _BRANCH
            pages = [below for page in pages for below in _pages_below(file.fileno(), stated, page, kind)]


def _describe(file: int) -> _Description | None:
    """The newer one of the two descriptions that a file begins with; None where it begins with none."""
    size, found = 0, []
    for page in (0, 1):
        content = os.pread(file, _PAGE.size + 2 + _DESCRIPTION.size, page * size)
        if len(content) < _PAGE.size + _DESCRIPTION.size:
            return None
        stated = _Description(*_DESCRIPTION.unpack_from(content, 16))
        if stated.magic != _MAGIC:
            return None
        size = stated.page_size
        if (
            not (512 <= size <= 32768 and size.bit_count() == 1)
            or stated.flags
            or (found and size != found[0].page_size)
        ):
            raise _Damaged(page)
        found.append(stated)
    return max(found, key=lambda stated: stated.written)


def _pages_below(file: int, stated: _Description, page: int, kind: int) -> list[int]:
    """The pages that a branch page names; none of a leaf page. Raises OSError where it is damaged or cut off."""
    size = stated.page_size
    if not 2 <= page <= stated.last:
        raise OSError(f"it has pages up to {stated.last}, and one of them leads to page {page}")
    content = os.pread(file, size, page * size)
    if len(content) < size:
        raise OSError(f"it is cut short: {os.fstat(file).st_size} of {(stated.last + 1) * size} bytes are left")
    number, flags, lower, upper = _PAGE.unpack_from(content)
    if number != page or flags != kind or not 16 < lower <= upper <= size or lower % 2:
        raise _Damaged(page)
    shorts = np.frombuffer(content, "<u2").astype(np.int64)
    nodes = shorts[8 : lower // 2]  # [K], where each begins
    if (nodes < upper).any() or (nodes > size - _NODE).any() or (nodes % 2).any():
        raise _Damaged(page)
    low, high, flags, key_bytes = shorts[nodes // 2 + np.arange(4)[:, None]]  # [K] each
    record_bytes, records = low + (high << 16), nodes + _NODE + key_bytes
    if kind == _BRANCH:
        if len(nodes) < 2 or (records > size).any():
            raise _Damaged(page)
        return (record_bytes + (flags << 32)).tolist()
    is_long = flags == _LONG
    if (flags[~is_long] != 0).any() or (records + np.where(is_long, 8, record_bytes) > size).any():
        raise _Damaged(page)
    firsts = np.frombuffer(content, np.uint8)[records[is_long, None] + np.arange(8)].view("<u8")[:, 0]  # [L]
    num_pages = (record_bytes[is_long] + 15) // size + 1  # behind the 16 bytes of the first
    if (
        (firsts < 2).any()
        or (firsts > stated.last).any()
        or (firsts.astype(np.int64) + num_pages - 1 > stated.last).any()
    ):
        raise _Damaged(page)
    return []
