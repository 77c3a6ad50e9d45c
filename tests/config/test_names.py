"""What messages say of unknown names and of other people's errors."""

import pytest

from public.backbones.catalog import list_backbones
from public.config.names import MOST_LISTED, first_line, nearest_names


def test_nearest_names() -> None:
    """Up to three close names, best first; all names where none is close."""
    assert nearest_names("resnet51", ["resnet50", "resnet18", "vgg"]) == "the nearest: resnet50, resnet18"
    assert nearest_names("resnet18", ["resnet18a", "resnet18b", "resnet18c", "resnet18d"]).count("resnet18") == 3
    assert nearest_names("?", iter(["a", "b"])) == "there are: a, b"


def test_of_a_catalog_the_nearest_alone() -> None:
    """However far they are: nobody reads a thousand names; our own networks are listed."""
    catalog = [f"resnet{number}" for number in range(1000)]
    assert nearest_names("zzz7", catalog).startswith("the nearest of 1000: resnet7, ")
    assert len(nearest_names("foo", catalog)) < 60
    assert len(list_backbones()) <= MOST_LISTED


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("half a file."), "half a file"),
        (OSError("\nno space left\nat 0x7f"), "no space left"),
        (KeyError(), "KeyError"),
        (RuntimeError(" . "), "RuntimeError"),
    ],
)
def test_first_line(error: Exception, expected: str) -> None:
    assert first_line(error) == expected
