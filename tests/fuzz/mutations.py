"""Damage by number: a few changes of a text, of bytes, or of a tree of plain values; for a number always the same."""

import copy
import random
import re
from typing import Any

import torch

WORDS = (
    *(
        b"null",
        b"-1",
        b"1e400",
        b"NaN",
        b"99999999999999999999",
        b"0",
        b'""',
        b"[]",
        b"{}",
        b"true",
        b'"\\ud800"',
        b"\x00",
    ),
    *(b"<a>", b"</object>", b"&amp;", b"&x;", b"\xff\xfe", b"\n", b",", b":", b"../", b"'", b"- ", b"1_0", b"x" * 300),
)
NUMBERS = (b"\0", b"\1", b"\x7f", b"\x80", b"\xff", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\1\0")
VALUES = (None, True, -1, 0, 99, 10**30, -0.5, float("nan"), "", "x", "\udce9", b"x", [], {}, [0], [1, "a"], {"a": 1})


def mutated_text(content: bytes, number: int) -> bytes:
    """A word in, a piece away, twice or elsewhere, a byte changed, the end cut off."""
    draw = random.Random(number)
    for _ in range(draw.choice((1, 1, 1, 2))):
        values = [found.span() for found in re.finditer(rb'(?<=[:>\[ ])[\w."-]+', content)]
        start = draw.randrange(len(content) + 1)
        end = min(len(content), start + draw.choice((1, 2, 5, 20, 80)))
        if values and draw.random() < 0.6:  # a value in the place of another
            start, end = draw.choice(values)
            content = content[:start] + draw.choice(WORDS) + content[end:]
            continue
        piece = content[start:end]
        content = draw.choice(
            (
                content[:start] + draw.choice(WORDS) + content[start:],
                content[:start] + draw.choice(WORDS) + content[end:],
                content[:start] + content[end:],
                content[:end] + piece + content[end:],
                piece + content[:start] + content[end:],
                content[:start] + bytes([draw.randrange(256)]) + content[start + 1 :],
                content[:start],
            )
        )
    return content


def mutated_bytes(content: bytes, number: int) -> bytes:
    """Bits turned, numbers set to the ends of their range, pieces zeroed, away, twice or exchanged, the end cut off.

    Half of all changes lie in the first 64 bytes of the file or of a page of 4096, where these describe themselves.
    """
    draw = random.Random(number)
    for _ in range(draw.choice((1, 1, 2, 5))):
        if len(content) < 2:
            break
        start = draw.randrange(len(content))
        if draw.random() < 0.5:
            start -= start % 4096 - min(start % 4096, draw.randrange(64))
        end = min(len(content), start + draw.choice((1, 2, 4, 16, 200)))
        word, piece, other = draw.choice(NUMBERS), content[start:end], draw.randrange(len(content))
        content = draw.choice(
            (
                content[:start] + bytes([content[start] ^ 1 << draw.randrange(8)]) + content[start + 1 :],
                content[:start] + word + content[start + len(word) :],
                content[:start] + bytes(len(piece)) + content[end:],
                content[:start] + content[end:],
                content[:end] + piece + content[end:],
                content[:start] + content[other : other + len(piece)] + content[end:],
                content[: max(1, start)],
            )
        )
    return content


def mutated_tree(tree: Any, number: int) -> Any:
    """Dicts, lists and tensors with one or two entries more, less, or other ones."""
    draw, tree = random.Random(number), copy.deepcopy(tree)
    for _ in range(draw.choice((1, 1, 2))):
        owner, key = draw.choice(_places(tree))
        old = owner[key]
        change = draw.choice(("other", "other", "less", "more"))
        if change == "other":
            owner[key] = _another(old, draw)
        elif change == "less":
            del owner[key]
        elif isinstance(owner, list):
            owner.insert(key, draw.choice((old, *VALUES)))
        else:
            owner[draw.choice(("x", 7, f"{key}2"))] = draw.choice((old, *VALUES))
    return tree


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every entry of every dict and list, as (owner, key); those near the root come as often as all below them."""
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    below = [place for key in keys if isinstance(tree[key], dict | list) for place in _places(tree[key])]
    own = [(tree, key) for key in keys]
    return own * max(1, len(below) // max(1, len(own))) + below


def _another(old: Any, draw: random.Random) -> Any:
    if isinstance(old, torch.Tensor) and draw.random() < 0.7:
        return draw.choice((old[..., :0], old.flatten(), old[None], old.double(), old.bool(), old * float("nan")))
    return draw.choice(VALUES)
