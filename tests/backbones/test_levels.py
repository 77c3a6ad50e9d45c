"""From a chain of modules to levels, by hand."""

from public.backbones.features import Level
from public.backbones.levels import Step, levels_by_stride


def test_each_stride_begins_a_level() -> None:
    """A level has the stride of all before, and the channels of its last module."""
    steps = [Step("stem", 2, 8), Step("norm", 1, 8), Step("a", 2, 16), Step("b", 2, 24), Step("c", 1, 32)]
    assert levels_by_stride(steps) == {
        "c1": Level(2, 8, ("stem", "norm")),
        "c2": Level(4, 16, ("a",)),
        "c3": Level(8, 32, ("b", "c")),
    }
