"""What messages say of unknown names and of other people's errors."""

import pytest

from public.config.names import first_line, nearest_names


def test_nearest_names() -> None:
    """Up to three close names, best first; all names where none is close."""
    assert nearest_names("resnet51", ["resnet50", "resnet18", "vgg"]) == "the nearest: resnet50, resnet18"
    assert nearest_names("resnet18", ["resnet18a", "resnet18b", "resnet18c", "resnet18d"]).count("resnet18") == 3
    assert nearest_names("?", iter(["a", "b"])) == "there are: a, b"


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
