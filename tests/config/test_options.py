"""The options of the whole package: each setting explained, defined once, and of a kind that has a name of its own."""

import ast
import inspect
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from itertools import pairwise
from typing import Any, ClassVar, get_origin

import pytest

from public.backbones.catalog import list_backbones, options_of
from public.config import classification, detection, run
from public.config.options import DetectorOptions, NetworkOptions, Options, carried_over, default_of, settings
from public.config.run import OptimizerOptions, ScheduleOptions
from public.datasets.formats import FORMATS
from public.datasets.image_formats import IMAGE_FORMATS
from public.detectors.catalog import DETECTORS
from public.optim.options import OPTIMIZERS, SCHEDULES

TABLES: list[list[type[Options]]] = [
    [entry.options for entry in DETECTORS.values()],
    [row.options for row in FORMATS.values()],
    [row.options for row in IMAGE_FORMATS.values()],
    list(OPTIMIZERS.values()),
    list(SCHEDULES.values()),
    list(dict.fromkeys(map(options_of, list_backbones()))),
]
"""Every kind that a config can be made of."""


def below(base: type[Any]) -> Iterator[type[Any]]:
    """The class and all of the package's that derive from it."""
    yield base
    for kind in base.__subclasses__():
        if kind.__module__.startswith("public."):
            yield from below(kind)


OPTIONS = sorted(set(below(Options)), key=lambda kind: f"{kind.__module__}.{kind.__qualname__}")
SECTIONS = [
    value
    for module in (run, classification, detection)
    for name, value in vars(module).items()
    if name.endswith("Config") and value.__module__ == module.__name__
]


def stated_fields(kind: type[Any]) -> dict[str, Any]:
    """The fields that a class itself states, and their defaults; MISSING where there is none."""
    own = [name for name, of in kind.__annotations__.items() if get_origin(of) is not ClassVar and of is not ClassVar]
    return {f.name: default_of(f) for f in fields(kind) if f.name in own and "__annotations__" in vars(kind)}


def docstrings(kind: type[Any]) -> dict[str, str]:
    """What follows each annotated name of a class's own."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    return {
        statement.target.id: following.value.value
        for statement, following in pairwise(tree.body)
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        if isinstance(following.value.value, str)
    }


def test_the_sweep_finds_them() -> None:
    """Those of the tables, and the config's own sections."""
    assert {kind for table in TABLES for kind in table} <= set(OPTIONS)
    names = {"RunConfig", "RuntimeConfig", "ClassificationConfig", "MixingConfig", "DetectionConfig"}
    assert {section.__name__ for section in SECTIONS} == names
    assert sum(len(stated_fields(kind)) for kind in OPTIONS) >= 80


@pytest.mark.parametrize("kind", [*OPTIONS, *SECTIONS], ids=lambda kind: kind.__name__)
def test_every_field_has_a_docstring(kind: type[Any]) -> None:
    """Each annotated field is followed by a string: --help shows it."""
    assert [name for name in stated_fields(kind) if not docstrings(kind).get(name)] == []
    assert kind.__doc__


@pytest.mark.parametrize("kind", OPTIONS, ids=lambda kind: kind.__name__)
def test_options_are_frozen_and_keyword_only(kind: type[Any]) -> None:
    """Nothing can be changed after the checks, and no value can be given without its name."""
    assert kind.__dataclass_params__.frozen
    assert all(f.kw_only for f in fields(kind))


@pytest.mark.parametrize(
    "base", [DetectorOptions, NetworkOptions, OptimizerOptions, ScheduleOptions], ids=lambda kind: kind.__name__
)
def test_a_setting_is_defined_once(base: type[Options]) -> None:
    """A class states again what one above it has for another default alone, or to say what None is of its own.

    Two classes apart from each other may use a name for two things; with one default it would be one, in two places.
    """
    first: dict[str, list[Any]] = defaultdict(list)
    needless = []
    for kind in sorted(set(below(base)), key=lambda kind: len(kind.__mro__)):
        for name, default in stated_fields(kind).items():
            above = next((one for one in kind.__mro__[1:-1] if name in stated_fields(one)), None)
            if above is None:
                first[name].append(default)
            elif default == stated_fields(above)[name] and docstrings(kind)[name] == docstrings(above)[name]:
                needless.append(f"{kind.__name__}.{name}")
    assert len(first) >= 1
    assert needless == []
    assert {name for name, defaults in first.items() if len(set(defaults)) < len(defaults)} == set()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table[0].kind)
def test_kinds_are_told_apart_by_name(table: list[type[Options]]) -> None:
    """Messages and the command line call them by it."""
    names = [kind.kind for kind in table]
    assert len(set(names)) == len(names)


@dataclass(frozen=True, kw_only=True)
class Old(Options):
    """A kind with three settings."""

    kind: ClassVar[str] = "old"
    size: int
    speed: float = 1.0
    shape: str = "round"


@dataclass(frozen=True, kw_only=True)
class New(Options):
    """One that shares two of them, with other defaults, and needs a third."""

    kind: ClassVar[str] = "new"
    size: int
    speed: float = 2.0
    weight: float


def test_settings_are_what_was_chosen() -> None:
    """What has no default always was."""
    assert settings(Old(size=3)) == {"size": 3}
    assert settings(Old(size=3, shape="flat", speed=1.0)) == {"size": 3, "shape": "flat"}


def test_another_kind_takes_over_what_was_chosen() -> None:
    """A default is not: it makes way for the other's; what only the other needs is missing."""
    assert carried_over(Old(size=3), New) == {"size": 3, "speed": 2.0, "weight": MISSING}
    assert carried_over(Old(size=3, speed=5.0), New) == {"size": 3, "speed": 5.0, "weight": MISSING}
    assert carried_over(New(size=4, weight=0.5), Old) == {"size": 4, "speed": 1.0, "shape": "round"}
