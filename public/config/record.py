"""A config as plain data, and back: what config.json and every checkpoint hold.

A record is a dict of plain values (dicts, lists, numbers, texts, None). Everything that was made from a class is
recorded as its type and keywords, and `from_record` makes an equal object of it. A type is one of

    public.<module>.<Name>          options and config sections of this package
    public.transforms.<module>.<Name>, torchvision.transforms.v2.<Name>    transforms, within a Call
    experiment:<module>.<Name>      a class of <module>.py in the experiment's folder, which the caller names

and nothing else: whatever a record says, no other code of ours is reached, and nothing that it names is imported but
modules of this package and of torchvision.
"""

import enum
import importlib
import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from inspect import isclass
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec
import torch

from public.config.calls import Call, Scaled
from public.config.experiment import PREFIX, Experiment
from public.config.names import first_few, first_line, nearest_names
from public.config.options import Options
from public.config.run import RunConfig
from public.config.upgrade import FORMAT, upgraded

_V2 = "torchvision.transforms.v2"
_ENUMS = {"InterpolationMode": _V2, "AutoAugmentPolicy": _V2}
_NAME = re.compile(r"(?:[A-Za-z]\w*\.)+[A-Za-z]\w*")


def to_record(config: RunConfig, experiment: Experiment | None = None) -> dict[str, Any]:
    """The record of a config.

    Args:
        config: any task's.
        experiment: the folder whose own classes it may use.

    Raises:
        ValueError: it holds something that `from_record` could not make again; the message names it.
    """
    return {"format": FORMAT, **_recorded(config, "", experiment)}


def from_record(record: Mapping[str, Any], experiment: Experiment | None = None) -> Any:
    """The config that `to_record` was given, whatever format the record has.

    Args:
        record: of a checkpoint or a config.json; a setting that is absent has its default.
        experiment: the folder whose own classes it may use; None: the record may name none.

    Raises:
        ValueError: it is no record of a config, or it names something that is not there.
    """
    config = _restored(upgraded(record), experiment)
    if not isinstance(config, RunConfig):
        raise ValueError(f"a record of a {type(config).__name__} was given, expected that of a run's config.")
    return config


def read_config(folder: Path, experiment: Experiment | None = None) -> Any:
    """The config of a run folder. Raises OSError, and ValueError as `from_record` does."""
    return from_record(json.loads((folder / "config.json").read_text(encoding="utf-8")), experiment)


def config_of(checkpoint: Mapping[str, Any], experiment: Experiment | None = None) -> Any:
    """The config of the run that wrote a checkpoint. Raises ValueError as `from_record` does."""
    record = checkpoint.get("config")
    if not isinstance(record, Mapping):
        raise ValueError(f"the checkpoint holds no config but a {type(record).__name__}.")
    # Records of format 1 stood in checkpoints without their name.
    return from_record({"name": checkpoint.get("name", "unnamed"), **record}, experiment)


_NO_RESULT = ("runtime", "name")
"""The settings that change no result."""


def changed_results(old: RunConfig, new: RunConfig, experiment: Experiment | None = None) -> list[str]:
    """A line for every setting in which two configs differ, but for those that change no result."""
    before, now = (
        {key: value for key, value in to_record(config, experiment).items() if key not in _NO_RESULT}
        for config in (old, new)
    )
    return differences(before, now)


def without_seed(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the runs have in common that repeat one another: all but the seed and what changes no result."""
    return {key: value for key, value in record.items() if key not in (*_NO_RESULT, "seed")}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line 'section.field: old -> new' for every field in which two records differ."""
    return [f"{name}: {before} -> {now}" for name, before, now in differing(old, new)]


def differing(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str, str]]:
    """The name 'section.field' and both values, for messages, of every field in which two records differ."""
    found: list[tuple[str, str, str]] = []
    for key in sorted(old.keys() | new.keys()):
        before, now = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(now, Mapping) and "call" not in before:
            found += differing(before, now, f"{prefix}{key}.")
        elif before != now:
            # Two classes may share a name: torchvision and this package both have a RandomResizedCrop.
            is_clear = _shown(before) != _shown(now)
            found.append((f"{prefix}{key}", _shown(before, is_short=is_clear), _shown(now, is_short=is_clear)))
    return found


def class_summary(names: list[str]) -> str:
    """'10 classes (circle, ring, star, ...)': how messages tell class lists apart."""
    return f"{len(names)} classes ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def differing_classes(old: list[str], new: list[str]) -> str:
    """Two lists of classes that differ, for a message: 'fox, owl are gone, cat is new' where both begin alike."""
    parts = [f"{class_summary(old)} -> {class_summary(new)}"]
    for names, word in ((set(old) - set(new), "gone"), (set(new) - set(old), "new")):
        if names:
            parts.append(f"{word}: {first_few(sorted(names), 3)}")
    return "; ".join(parts if len(parts) > 1 else [*parts, "the same in another order"])


def _shown(value: Any, *, is_short: bool = True) -> str:
    """A recorded value for a message: calls as they are written in config.py, or with their class's whole name."""
    if isinstance(value, list):
        return f"({', '.join(_shown(one, is_short=is_short) for one in value)})"
    if isinstance(value, Mapping) and "call" in value:
        keywords = (f"{name}={_shown(one, is_short=is_short)}" for name, one in value["keywords"].items())
        name = value["call"].rpartition(".")[2] if is_short else value["call"]
        return f"{name}({', '.join(keywords)})"
    if isinstance(value, Mapping) and "scaled" in value:
        return str(Scaled(value["scaled"][0], of=value["scaled"][1]))
    return repr(value)


# ---- from objects to plain values ------------------------------------------------------------------------------------


def _recorded(value: Any, where: str, experiment: Experiment | None) -> Any:
    """A value as plain data; `where` it stands is for the message."""
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, tuple):
        return [_recorded(one, where, experiment) for one in value]
    if isinstance(value, Scaled):
        return {"scaled": [value.length, value.of]}
    if isinstance(value, Call):
        keywords = {name: _recorded(one, f"{where} {value}", experiment) for name, one in value.keywords}
        return {"call": recorded_type(value.type, where, experiment), "keywords": keywords}
    if isinstance(value, enum.Enum) and type(value).__name__ in _ENUMS:
        return {"enum": f"{type(value).__name__}.{value.name}"}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if is_dataclass(value) and not isclass(value):
        own = {
            f.name: _recorded(getattr(value, f.name), f"{where}.{f.name}".strip("."), experiment) for f in fields(value)
        }
        return {"type": recorded_type(type(value), where, experiment), **own}
    raise ValueError(
        f"{where}: {value!r} cannot be recorded in a checkpoint. Numbers, texts, enumerations of torchvision, dtypes, "
        "Calls and tuples of these can; write what computes it as a class in the experiment's config.py."
    )


def recorded_type(type_: type[Any], where: str, experiment: Experiment | None) -> str:
    """How a record names a class.

    Args:
        type_: the class.
        where: it is used, for the message.
        experiment: the folder that may define it.

    Raises:
        ValueError: the name would not lead back to it.
    """
    name = f"{type_.__module__}.{type_.__qualname__}"
    if type_.__module__.startswith(f"{_V2}."):
        name = f"{_V2}.{type_.__name__}"  # not the private module in which torchvision keeps it
    elif not type_.__module__.startswith("public.") and experiment is not None:
        name = experiment.name_of(type_) or name
    try:
        found = find_type(name, experiment)
    except ValueError as error:
        raise ValueError(f"{where or 'the config'}: {first_line(error)}.") from error
    if found is not type_:
        raise ValueError(f"{where}: {name} is another class of that name than the one that is used.")
    return name


# ---- and back --------------------------------------------------------------------------------------------------------


def _restored(value: Any, experiment: Experiment | None) -> Any:
    if isinstance(value, list):
        return tuple(_restored(one, experiment) for one in value)
    if not isinstance(value, Mapping):
        return value
    if "scaled" in value:
        return Scaled(value["scaled"][0], of=value["scaled"][1])
    if "enum" in value:
        return _enum_member(str(value["enum"]))
    if "dtype" in value:
        return _dtype(str(value["dtype"]))
    if "call" in value:
        keywords = {str(name): _restored(one, experiment) for name, one in value["keywords"].items()}
        return Call(find_type(str(value["call"]), experiment, transform=True), **keywords)
    return _restored_section(value, experiment)


def _restored_section(value: Mapping[str, Any], experiment: Experiment | None) -> Any:
    """A config, or a section of one; what the record does not state is left at its default."""
    if "type" not in value:
        raise ValueError(f"a record without a type was given, its keys are {', '.join(map(str, value)) or 'none'}.")
    type_ = find_type(str(value["type"]), experiment)
    known = [f.name for f in fields(type_)]
    given = {name: _restored(one, experiment) for name, one in value.items() if name not in ("type", "format")}
    for name in given:
        if name not in known:
            raise ValueError(f"{type_.__name__} has no setting {name!r} here; {nearest_names(str(name), known)}.")
    for name, hint in _type_hints(type_).items():
        if name in given and not _fits(given[name], hint):
            expected = hint.__name__ if isclass(hint) else str(hint)
            raise ValueError(f"{name} of the {type_.__name__} is {given[name]!r}, expected {expected}.")
    try:
        return type_(**given)
    except TypeError as error:  # a setting without a default is absent, or has a value of another type
        raise ValueError(f"the record of a {type_.__name__} is not whole: {first_line(error)}.") from error


def _type_hints(type_: type[Any]) -> dict[str, Any]:
    try:
        return get_type_hints(type_)
    except NameError:  # an experiment's own class may name what is imported for type checkers alone
        return {}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a section's class, or of a type made of plain ones; others are not looked at."""
    if isclass(hint) and is_dataclass(hint):
        return isinstance(value, hint)
    if not _is_plain(hint):
        return True
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError:
        return False
    return True


def _is_plain(hint: Any) -> bool:
    if get_origin(hint) in (tuple, UnionType, Union):
        return all(map(_is_plain, get_args(hint)))
    return hint in (int, float, str, bool, type(None), ...)


def find_type(name: str, experiment: Experiment | None = None, *, transform: bool | None = None) -> type[Any]:
    """The class that a record names.

    Args:
        name: see this module's docstring.
        experiment: the folder whose own classes may be named.
        transform: whether it is to be a transform (True); None: whatever may be recorded.

    Raises:
        ValueError: there is no such class, or it is none that a record may name.
    """
    if name.startswith(PREFIX):
        if experiment is None:
            raise ValueError(
                f"{name.removeprefix(PREFIX)} is a class of the experiment's own folder: give that folder, "
                "--experiment FOLDER (or run that experiment's own test.sh)"
            )
        return experiment.find(name)
    module, _, attribute = name.rpartition(".")
    is_v2, is_ours = module == _V2, module.startswith("public.") and _NAME.fullmatch(name) is not None
    found: Any = getattr(_import(module), attribute, None) if is_v2 or is_ours else None
    is_transform = is_v2 or module.startswith("public.transforms.")
    fits = isclass(found) and (is_v2 or found.__module__ == module)
    if not fits or not (is_transform or _is_section(found)) or (transform and not is_transform):
        raise ValueError(
            f"{name} is nothing that a config can hold: options and transforms of this package, torchvision's v2 "
            "transforms, and classes of the experiment's own folder can be recorded"
        )
    return found


def _is_section(type_: Any) -> bool:
    """Whether it is a dataclass that configs are made of: nothing else that this package defines may be recorded."""
    is_config = type_.__module__.startswith("public.config.") and type_.__name__.endswith("Config")
    return is_dataclass(type_) and (is_config or issubclass(type_, Options))  # pyright: ignore[reportArgumentType]


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def _enum_member(name: str) -> Any:
    kind, _, member = name.partition(".")
    if kind in _ENUMS:
        found = getattr(_import(_ENUMS[kind]), kind).__members__.get(member)
        if found is not None:
            return found
    raise ValueError(f"{name} is no member of an enumeration that a config can hold ({', '.join(_ENUMS)}).")


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise ValueError(f"{name!r} is no dtype of torch.")
    return found
