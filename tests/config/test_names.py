"""What a message about an unknown name ends with."""

from public.config.names import nearest_names


def test_nearest_names() -> None:
    """Up to three close names, best first; all names where none is close."""
    assert nearest_names("resnet51", ["resnet50", "resnet18", "vgg"]) == "the nearest: resnet50, resnet18"
    assert nearest_names("resnet18", ["resnet18a", "resnet18b", "resnet18c", "resnet18d"]).count("resnet18") == 3
    assert nearest_names("?", iter(["a", "b"])) == "there are: a, b"
