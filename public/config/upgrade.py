"""Records of older formats as records of the present one; nothing else knows what they looked like.

Format 1 (until commit 20741d7) named kinds by a field (`optimizer.name`, `schedule.kind`, `data.dataset`, a detector by
`network`), stated the size of the input beside the data, left what was not chosen at None, and held transforms as their
repr. Format 2 named the classes of VOC's format alone, by `data.class_names` or a file. The same table of renames
refuses old options on the command line by their new name.
"""

import ast
import importlib
import re
from collections.abc import Mapping, Sequence
from inspect import isclass, signature
from typing import Any

from public.config.checks import require

FORMAT = 3
"""Of the records that `to_record` writes."""

RENAMED = {
    "canvas_size": "data.input_size",
    "input_size": "data.input_size",
    "detector.normalise": "detector.normalize",
    "data.class_names": "data.classes",
    "data.class_file": "data.classes",
}
"""Settings of older formats that are called otherwise now, as the command line spells them (but for hyphens)."""

_OPTIMIZERS = {"sgd": "public.optim.options.SGDOptions", "adamw": "public.optim.options.AdamWOptions"}
_SCHEDULES = {
    "multistep": "public.optim.options.MultistepOptions",
    "cosine": "public.optim.options.CosineOptions",
    "constant": "public.optim.options.ConstantOptions",
}
_DETECTORS = {
    "retinanet": "public.detectors.retinanet.options.RetinaNetOptions",
    "fcos": "public.detectors.fcos.options.FCOSOptions",
    "centernet": "public.detectors.centernet.options.CenterNetOptions",
    "faster_rcnn": "public.detectors.faster_rcnn.options.FasterRCNNOptions",
    "cascade_rcnn": "public.detectors.cascade_rcnn.options.CascadeRCNNOptions",
}
_DATA = {
    "coco": "public.datasets.coco.CocoData",
    "voc": "public.datasets.voc.VocData",
    "imagenet": "public.datasets.imagenet.ImageFolderData",
    "cifar100": "public.datasets.cifar100.Cifar100Data",
}
_RENAMED_VALUES = {"centred": "centered"}
_TRANSFORM_MODULES = (
    "public.transforms.image",
    "public.transforms.batch",
    "torchvision.transforms.v2",
)
_PIXELS = ("size", "sizes", "short", "shorts", "long_cap")
"""Arguments that are lengths in pixels and follow the size of the input..."""
_OF_THEIR_OWN = ("Cutout", "BatchCutout")
"""... but for these transforms'."""


def upgraded(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of any format in the present one.

    Raises:
        ValueError: it is no record, or one of a format that is newer than this version knows.
    """
    require(isinstance(record, Mapping), f"a {type(record).__name__} was given as the record of a config.")
    number = record.get("format", 1)
    require(
        isinstance(number, int) and 1 <= number <= FORMAT,
        f"the record has format {number!r}, and this version reads 1 to {FORMAT}: it was written by a newer version.",
    )
    present = _from_format_1(record) if number == 1 else dict(record)
    return present if number == FORMAT else _from_format_2(present)


def renamed_option(option: str) -> str | None:
    """The present name of an option, as it was typed without its dashes; None where it has not been renamed."""
    new = RENAMED.get(option.replace("-", "_"))
    return None if new is None else new.replace("_", "-")


# ---- format 2 --------------------------------------------------------------------------------------------------------


def _from_format_2(record: Mapping[str, Any]) -> dict[str, Any]:
    """A file that named the classes is not looked for: a checkpoint knows them, and data is matched to it by name."""
    data = record.get("data")
    if not isinstance(data, Mapping):
        return {**record, "format": FORMAT}
    own = {name: value for name, value in data.items() if name not in ("class_names", "class_file")}
    if data.get("class_names") is not None:
        own["classes"] = data["class_names"]
    return {**record, "format": FORMAT, "data": own}


# ---- format 1 --------------------------------------------------------------------------------------------------------


def _from_format_1(record: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return _of_detection(record) if "detector" in record else _of_classification(record)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the record of the config is damaged: it lacks {error}.") from error


def _of_run(record: Mapping[str, Any]) -> dict[str, Any]:
    """What both tasks have."""
    own = _given(record)
    own["optimizer"] = _kind(record["optimizer"], "name", _OPTIMIZERS)
    own["schedule"] = _kind(record["schedule"], "kind", _SCHEDULES)
    own["runtime"] = {"type": "public.config.run.RuntimeConfig", **_given(record.get("runtime", {}))}
    return {"format": FORMAT, **own}


def _of_classification(record: Mapping[str, Any]) -> dict[str, Any]:
    own = _of_run(record)
    size = own.pop("input_size")
    own["data"] = _data(record["data"], size)
    own["mixing"] = {"type": "public.config.classification.MixingConfig", **_given(record.get("mixing", {}))}
    options = _given(record.get("network_options", {}))
    own["network_options"] = {"type": _family_options(record["network"]), **options}
    return {"type": "public.config.classification.ClassificationConfig", **own}


def _of_detection(record: Mapping[str, Any]) -> dict[str, Any]:
    own = _of_run(record)
    canvas = own.pop("canvas_size")
    kind = own.pop("network")
    last = _call_parts(record["data"]["val_transforms"][-1])[1]
    size = last.get("size", last.get("short", min(canvas)))
    own["data"] = _data(record["data"], size, ("public.transforms.detection",))
    detector = {}
    for name, value in _given(record["detector"]).items():
        new_name = RENAMED.get(f"detector.{name}", name).removeprefix("detector.")
        detector[new_name] = _RENAMED_VALUES.get(value, value) if isinstance(value, str) else value
    if kind == "cascade_rcnn":
        detector.pop("class_agnostic", None)  # it could be stated, as what it always is
    own["detector"] = {"type": _DETECTORS[kind], **detector}
    return {"type": "public.config.detection.DetectionConfig", **own}


def _given(section: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that were chosen: None and empty lists stood for the kind's own."""
    return {name: value for name, value in section.items() if value is not None and value != []}


def _kind(section: Mapping[str, Any], field: str, types: Mapping[str, str]) -> dict[str, Any]:
    given = _given(section)
    return {"type": types[given.pop(field)], **given}


def _family_options(network: str) -> str:
    """The options of a network's family, as the catalog has it."""
    catalog = importlib.import_module("public.backbones.catalog")  # by name: a later folder
    options = catalog.options_of(network)
    return f"{options.__module__}.{options.__qualname__}"


def _data(section: Mapping[str, Any], size: int, modules: Sequence[str] = _TRANSFORM_MODULES) -> dict[str, Any]:
    own = _kind(section, "dataset", _DATA)
    for name in ("train_transforms", "val_transforms"):
        own[name] = [_call(text, size, modules) for text in section.get(name, [])]
    return own if section["dataset"] == "cifar100" else own | {"input_size": size}


# ---- a transform's repr ----------------------------------------------------------------------------------------------


def _call(text: str, size: int, modules: Sequence[str]) -> dict[str, Any]:
    """A transform's repr as a recorded Call: arguments at their default skipped, lengths in relation to the size.

    One that is not understood (of an experiment's own, say) becomes a call that says so when it is to be made: what
    trains otherwise can still be evaluated.
    """
    try:
        name, values = _call_parts(text)
        type_ = _transform_type(name, values, modules)
        defaults = {n: p.default for n, p in signature(type_).parameters.items()}
    except (LookupError, ValueError, SyntaxError):
        return {"call": "public.transforms.forgotten.Forgotten", "keywords": {"text": text}}
    keywords = {}
    for argument, value in values.items():
        value = _shortened(name, argument, value)
        if argument not in defaults or _is_default(value, defaults[argument]):
            continue
        is_length = argument in _PIXELS and name not in _OF_THEIR_OWN
        keywords[argument] = _length(name, value, size) if is_length else _plain(value, size, modules)
    module = next(m for m in modules if getattr(importlib.import_module(m), name, None) is type_)
    return {"call": f"{module}.{name}", "keywords": keywords}


def _transform_type(name: str, values: Mapping[str, Any], modules: Sequence[str]) -> type[Any]:
    """The first class of that name that can be given such arguments; two libraries have a RandomErasing.

    Ours show the arguments of the class that they derive from too, which stand at their defaults there.
    """
    for module in modules:
        found = getattr(importlib.import_module(module), name, None)
        if isclass(found):
            own, above = signature(found).parameters, signature(found.__base__ or object).parameters
            others = {argument: value for argument, value in values.items() if argument not in own}
            if all(one in above and _is_default(value, above[one].default) for one, value in others.items()):
                return found
    raise LookupError(name)


def _call_parts(text: str) -> tuple[str, dict[str, Any]]:
    """'Resize(size=[256], interpolation=bilinear)' -> ('Resize', {'size': [256], 'interpolation': 'bilinear'})."""
    found = re.fullmatch(r"(\w+)\((.*)\)", text, flags=re.DOTALL)
    if found is None:
        raise ValueError(text)
    pairs = (part.split("=", 1) for part in _split(found[2]))
    return found[1], {name.strip(): _value(value.strip()) for name, value in pairs}


def _split(text: str) -> list[str]:
    """At the commas that stand in no brackets."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    return [part for part in [*parts, text[start:]] if part.strip()]


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text  # a word, an enumeration's member, another transform


def _shortened(name: str, argument: str, value: Any) -> Any:
    """A value as one would write it: torchvision shows what its constructor made of it."""
    if not isinstance(value, list | tuple) or not value:
        return value
    if name == "ColorJitter" and len(value) == 2 and abs(value[0] + value[1] - 2) < 1e-9 and argument != "hue":
        return round(value[1] - 1, 9)
    if name == "ColorJitter" and argument == "hue" and value[0] == -value[1]:
        return value[1]
    if argument == "padding" and len(set(value)) == 1:
        return value[0]
    if argument == "size" and (len(value) == 1 or (name != "Resize" and len(set(value)) == 1)):
        return value[0]
    return value


def _is_default(value: Any, default: Any) -> bool:
    as_tuple = tuple(value) if isinstance(value, list) else value
    return as_tuple == default or (isinstance(value, str) and value in (str(default), getattr(default, "value", None)))


def _length(name: str, value: Any, size: int) -> Any:
    """Pixels as a recorded Scaled."""
    if isinstance(value, list | tuple):
        return [_length(name, one, size) for one in value]
    if value == size:
        return {"scaled": [1, 1]}
    usual = name == "Resize" and value == size * 256 // 224
    return {"scaled": [256, 224] if usual else [value, size]}


def _plain(value: Any, size: int, modules: Sequence[str]) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(one, size, modules) for one in value]
    if not isinstance(value, str):
        return value
    if re.fullmatch(r"\w+\(.*\)", value, flags=re.DOTALL):
        return _call(value, size, modules)
    if value.startswith(("AutoAugmentPolicy.", "InterpolationMode.")):
        return {"enum": value}
    if value in ("nearest", "nearest-exact", "bilinear", "bicubic", "box", "hamming", "lanczos"):
        return {"enum": f"InterpolationMode.{value.replace('-', '_').upper()}"}
    return value
