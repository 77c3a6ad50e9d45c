"""The options of the whole package: each setting explained, defined once, and of a kind that has a name of its own."""

import ast
import inspect
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from itertools import combinations, pairwise
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


def test_the_sweep_finds_them() -> None:
    """Those of the tables, and the config's own sections."""
    assert {kind for table in TABLES for kind in table} <= set(OPTIONS)
    names = {"RunConfig", "RuntimeConfig", "ClassificationConfig", "MixingConfig", "DetectionConfig"}
    assert {section.__name__ for section in SECTIONS} == names
    assert sum(len(stated_fields(kind)) for kind in OPTIONS) >= 100


@pytest.mark.parametrize("kind", [*OPTIONS, *SECTIONS], ids=lambda kind: kind.__name__)
def test_every_field_has_a_docstring(kind: type[Any]) -> None:
    """Each annotated field is followed by a string: --help shows it."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    explained = {
        statement.target.id
        for statement, following in pairwise(tree.body)
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
    }
    assert [name for name in stated_fields(kind) if name not in explained] == []
    assert ast.get_docstring(tree)


@pytest.mark.parametrize("kind", OPTIONS, ids=lambda kind: kind.__name__)
def test_options_are_frozen_and_keyword_only(kind: type[Any]) -> None:
    """Nothing can be changed after the checks, and no value can be given without its name."""
    assert kind.__dataclass_params__.frozen
    assert all(f.kw_only for f in fields(kind))


@pytest.mark.parametrize(
    "base", [DetectorOptions, NetworkOptions, OptimizerOptions, ScheduleOptions], ids=lambda kind: kind.__name__
)
def test_a_setting_is_defined_once(base: type[Options]) -> None:
    """A second class may state it with another default; the same default twice would be one in two places."""
    definitions: dict[str, list[type[Any]]] = defaultdict(list)
    for kind in sorted(set(below(base)), key=lambda kind: kind.__name__):
        for name in stated_fields(kind):
            definitions[name].append(kind)
    assert len(definitions) >= 1
    twice = [
        f"{name}: {one.__name__}, {other.__name__}"
        for name, kinds in definitions.items()
        for one, other in combinations(kinds, 2)
        if stated_fields(one)[name] == stated_fields(other)[name]
    ]
    assert twice == []


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
