"""Weights that torchvision and timm publish, downloaded, verified and kept by those libraries themselves.

torchvision:resnet50                     the weights torchvision calls DEFAULT, its best
torchvision:resnet50.IMAGENET1K_V1       others by name
timm:mobilenetv2_100                     timm's default tag
timm:resnet18.a1_in1k                    others by tag
"""

from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torchvision import models

from public.config.data import DataOptions
from public.config.names import first_line, nearest_names


def fetch_published(library: str, model: str) -> dict[str, Any]:
    """The state dict of `torchvision:<model>[.<weights>]` or `timm:<model>`, downloaded the first time.

    Raises:
        ValueError: the library has no such model or weights, or is not installed.
        FileNotFoundError: the download failed, or what came was not the published file.
    """
    return {"torchvision": _from_torchvision, "timm": _from_timm}[library](model)


class PublishedInput(NamedTuple):
    """The images that published weights were trained and evaluated on."""

    size: tuple[int, int]
    """Height and width, pixels."""
    mean: tuple[float, ...]
    """Of pixels scaled to 0..1, red green blue."""
    std: tuple[float, ...]


def published_input(source: Any) -> PublishedInput | None:
    """What the images of `torchvision:<model>[.<weights>]` or `timm:<model>` were like, as these libraries state it.

    None for a source of another kind, and where the library does not say it (torchvision's detectors).
    """
    library, _, model = str(source).partition(":")
    if library == "timm":
        config = import_timm(str(source)).get_pretrained_cfg(model)
        return PublishedInput(tuple(config.input_size[1:]), tuple(config.mean), tuple(config.std))
    if library == "torchvision":
        name, _, tag = model.partition(".")
        images = models.get_model_weights(name)[tag or "DEFAULT"].transforms()
        if hasattr(images, "crop_size"):
            return PublishedInput((images.crop_size[0],) * 2, tuple(images.mean), tuple(images.std))
    return None


def note_on_input(source: Any, data: DataOptions) -> list[str]:
    """A line on the images of published weights beside those of a run; no line for other sources of weights.

    A network does not change what is done to a run's images: the line says what to give where the two differ.
    """
    theirs = published_input(source)
    if theirs is None:
        return []
    line = f"{source} was made for images of {theirs.size[0]}x{theirs.size[1]}, mean {theirs.mean}, std {theirs.std}; "
    if theirs.mean == data.mean and theirs.std == data.std:
        return [line + f"this run has the same mean and std, and data.input_size={data.input_size}"]
    mean, std = (" ".join(map(str, values)) for values in (theirs.mean, theirs.std))
    return [
        line + f"this run has data.input_size={data.input_size}, data.mean={data.mean}, data.std={data.std}: to follow "
        f"the weights, give --data.mean {mean} --data.std {std}"
    ]


def _from_torchvision(model: str) -> dict[str, Any]:
    name, _, tag = model.partition(".")
    if name not in models.list_models():
        raise ValueError(f"torchvision has no model {name!r}; {nearest_names(name, models.list_models())}.")
    published = models.get_model_weights(name).__members__
    if (tag or "DEFAULT") not in published:
        raise ValueError(f"torchvision has no weights {tag!r} of {name}; {nearest_names(tag, published)}.")
    weights = published[tag or "DEFAULT"]
    try:
        return weights.get_state_dict(progress=True, check_hash=True, map_location="cpu", weights_only=True)
    except Exception as error:  # no network, wrong hash, a broken file in the cache: the remedy is the same
        cached = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
        raise FileNotFoundError(
            f"torchvision:{model} could not be had from {weights.url} ({first_line(error)}); "
            f"download it by hand to {cached}, or give the path of the file instead."
        ) from error


def _from_timm(model: str) -> dict[str, Any]:
    timm = import_timm(f"timm:{model}", " Without it, give the path of a file.")
    if not timm.is_model(model):
        raise ValueError(f"timm has no model {model!r}; {nearest_names(model, timm.list_models())}.")
    tags = timm.list_pretrained(f"{model.partition('.')[0]}.*")
    if not tags or ("." in model and model not in tags):
        raise ValueError(f"timm publishes no weights {model!r}; there are: {', '.join(tags) or 'none'}.")
    try:
        return timm.create_model(model, pretrained=True).state_dict()
    except Exception as error:  # the hub's client has its own family of errors, of which the remedy is the same
        page = f"https://huggingface.co/{timm.get_pretrained_cfg(model).hf_hub_id}"
        raise FileNotFoundError(
            f"timm:{model} could not be had from {page} ({first_line(error)}); "
            "download model.safetensors from there by hand, and give the path of the file instead."
        ) from error


def import_timm(what: str, otherwise: str = "") -> Any:
    """The package timm, which is optional.

    Args:
        what: needs it, for the message.
        otherwise: what one could do without it, for the message.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return import_module("timm")
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{what} needs the package timm: pip install timm, or pip install -e .[timm].{otherwise}"
        ) from error
