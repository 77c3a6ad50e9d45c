"""Weights that torchvision and timm publish, downloaded, verified and kept by those libraries themselves.

torchvision:resnet50                     the weights torchvision calls DEFAULT, its best
torchvision:resnet50.IMAGENET1K_V1       others by name
timm:mobilenetv2_100                     timm's default tag
timm:resnet18.a1_in1k                    others by tag
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torchvision import models

from public.config.names import first_line, nearest_names


def fetch_published(library: str, model: str) -> dict[str, Any]:
    """The state dict of `torchvision:<model>[.<weights>]` or `timm:<model>`, downloaded the first time.

    Raises:
        ValueError: the library has no such model or weights, or is not installed.
        FileNotFoundError: the download failed, or what came was not the published file.
    """
    return {"torchvision": _from_torchvision, "timm": _from_timm}[library](model)


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
    timm = _import_timm(model)
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


def _import_timm(model: str) -> ModuleType:
    """timm is optional: it is here for its weights only, and a file can be given instead."""
    try:
        return import_module("timm")
    except ModuleNotFoundError as error:
        raise ValueError(
            f"timm:{model} needs the package timm (pip install timm); without it, give the path of a file."
        ) from error
