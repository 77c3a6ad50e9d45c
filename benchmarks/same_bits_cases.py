"""The runs that `same_bits` compares. A copy of this file in an empty folder is the train.py of all of them:

    python train.py fcos_coco

A case is described in words that belong to no version of the library. `config_of` translates them to the spelling of
the version on the path: `old_config` that of commit 20741d7, `new_config` the one since. Where the latter changes, this
is the place to follow.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

Transform = tuple[str, Mapping[str, Any]]
"""A class, behind the key of its module in MODULES, and its arguments."""
MODULES = {
    "batch": "public.transforms.batch",
    "image": "public.transforms.image",
    "boxes": "public.transforms.detection",
    "v2": "torchvision.transforms.v2",
}
SIZE = "the data's input_size"
"""As an argument of a transform."""
OUTPUT_OF = ("ImageClassifier", "ImageDetector")
"""The modules that are called in evaluation, whose outputs are kept: logits and detections."""


@dataclass(frozen=True, kw_only=True)
class Scaled:
    """An argument of a transform: `length` where the data's input_size is `of`, else in proportion."""

    length: int
    of: int


@dataclass(frozen=True, kw_only=True)
class Case:
    """A run of four epochs with five steps each. Pairs are a kind and its settings."""

    network: tuple[str, Mapping[str, Any]] | None = None
    """Of a classification run."""
    detector: tuple[str, Mapping[str, Any]] | None = None
    """Of a detection run."""
    data: tuple[str, Mapping[str, Any]]
    optimizer: tuple[str, Mapping[str, Any]]
    schedule: tuple[str, Mapping[str, Any]]
    mixing: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the run itself, beside those that all have."""
    processes: int = 1


SGD = ("sgd", {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-3})
ADAMW = ("adamw", {"lr": 1e-3, "weight_decay": 0.01, "decay_norm_and_bias": False})
COSINE = ("cosine", {"warmup_epochs": 1})
MULTISTEP = ("multistep", {"milestones": (2, 3.2), "gamma": 0.2, "warmup_epochs": 0.6})
CONSTANT = ("constant", {})
AVERAGED = {"accumulation_steps": 2, "ema_decay": 0.8}
CIFAR = {
    "folder": "CIFAR100",
    "input_size": 32,
    "train_transforms": (
        ("batch.BatchRandomHorizontalFlip", {}),
        ("batch.BatchRandomCrop", {"size": 32, "padding": 4}),
        ("batch.EachImage", {"transform": ("v2.RandomRotation", {"degrees": 15})}),
        ("batch.BatchCutout", {"size": 8}),
    ),
    "mean": (0.49, 0.48, 0.45),
    "std": (0.25, 0.24, 0.26),
}
IMAGES = {
    "folder": "ILSVRC2012",
    "input_size": 64,
    "train_transforms": (
        ("image.RandomResizedCrop", {"size": SIZE}),
        ("v2.RandomHorizontalFlip", {}),
        ("v2.ColorJitter", {"brightness": 0.4, "contrast": 0.4}),
        ("image.RandomErasing", {"probability": 0.5}),
    ),
    "val_transforms": (("v2.Resize", {"size": Scaled(length=256, of=224)}), ("v2.CenterCrop", {"size": SIZE})),
}
SQUARE = {
    "input_size": 96,
    "train_transforms": (
        ("boxes.RandomHorizontalFlip", {}),
        ("boxes.RandomCrop", {}),
        ("boxes.RandomTranslate", {}),
        ("boxes.PhotometricJitter", {}),
        ("boxes.RandomSquareResize", {"sizes": (64, SIZE, Scaled(length=4, of=3))}),
    ),
    "val_transforms": (("boxes.SquareResize", {"size": SIZE}),),
}
LONG_CAP = Scaled(length=1333, of=800)
SHORT_SIDE = {
    "input_size": 80,
    "train_transforms": (
        ("boxes.RandomHorizontalFlip", {"probability": 0.3}),
        ("boxes.ShortSideResize", {"short": SIZE, "long_cap": LONG_CAP}),
    ),
    "val_transforms": (("boxes.ShortSideResize", {"short": SIZE, "long_cap": LONG_CAP}),),
}
COCO = {"folder": "COCO2017", "train_splits": ("train2017",), "val_splits": ("val2017",)}
VOC = {"folder": "VOCdataset", "train_splits": ("VOC2012/train", "VOC2012/val"), "val_splits": ("VOC2007/test",)}
SHOWN = {"score_threshold": 1e-4, "max_detections": 20}
"""Detectors of 20 steps are sure of nothing: all the same, there shall be detections to compare."""
ONE_STAGE = {"backbone": "resnet18", "levels": ("p3", "p4", "p5"), "channels": 16, "num_convs": 1, **SHOWN}
TWO_STAGES = {
    "backbone": "resnet18",
    "levels": ("p3", "p4", "p5", "p6"),
    "channels": 16,
    "head_channels": 32,
    "num_proposals": (100, 50),
    "roi_samples": 64,
    **SHOWN,
}
SMALLEST = {"backbone": "mobilenet_v3_small"}
BY_COCO, BY_VOC = {"best_metric": "AP50"}, {"best_metric": "mAP50"}

CASES = {
    "cifar": Case(
        network=("resnet18cifar", {}),
        data=("cifar100", CIFAR),
        optimizer=("sgd", {"lr": 0.1, "weight_decay": 5e-4, "nesterov": True}),
        schedule=MULTISTEP,
        mixing={"cutmix_alpha": 1.0, "probability": 0.5},
        run={"channels_last": True, "label_smoothing": 0.1},
    ),
    "cifar_two_processes": Case(
        network=("resnet18cifar", {"dropout": 0.2}),
        data=("cifar100", CIFAR),
        optimizer=("adamw", {"lr": 1e-3, "weight_decay": 0.05, "betas": (0.9, 0.99)}),
        schedule=("cosine", {"warmup_epochs": 0.4, "final_factor": 0.1}),
        run={"best_metric": "loss", **AVERAGED},
        processes=2,
    ),
    "images": Case(
        network=("resnet18", {"dropout": 0.1, "drop_path": 0.1, "zero_init_residual": True}),
        data=("imagenet", IMAGES),
        optimizer=("sgd", {"lr": 0.05, "weight_decay": 1e-4, "gradient_centralization": True, "lookahead_steps": 3}),
        schedule=COSINE,
        mixing={"mixup_alpha": 0.2, "cutmix_alpha": 1.0},
        run={"batch_size": 16, "drop_block": 0.1, "drop_block_size": 3, **AVERAGED},
    ),
    "images_two_processes": Case(
        network=("mobilenet_v2", {"activation": "swish"}),
        data=("imagenet", {**IMAGES, "repeated_augmentation": 2, "decoder": "pil"}),
        optimizer=ADAMW,
        schedule=CONSTANT,
        mixing={"mixup_alpha": 0.2},
        run={"batch_size": 16, "start_size": 32, "clip_grad_norm": 1.0, **AVERAGED},
        processes=2,
    ),
    "retinanet_coco": Case(
        detector=("retinanet", {**ONE_STAGE, **SMALLEST, "frozen_batch_norm": True}),
        data=("coco", {**COCO, **SQUARE}),
        optimizer=ADAMW,
        schedule=COSINE,
        run={**BY_COCO, **AVERAGED},
        processes=2,
    ),
    "retinanet_voc": Case(
        detector=(
            "retinanet",
            {
                **{**ONE_STAGE, "levels": ("p3", "p4", "p5", "p6", "p7"), "p6_from": "p5", "box_loss": "giou"},
                **{"anchors": "torchvision", "normalise": "image", "batch_norm_eps": 0.0, "focal_gamma": 1.5},
            },
        ),
        data=("voc", {**VOC, **SHORT_SIDE, "group_by_aspect": 1}),
        optimizer=SGD,
        schedule=MULTISTEP,
        run={**BY_VOC, "clip_grad_norm": 5.0},
    ),
    "fcos_coco": Case(
        detector=("fcos", {**ONE_STAGE, **SMALLEST, "frozen_stages": 1}),
        data=("coco", {**COCO, **SHORT_SIDE, "group_by_aspect": 0}),
        optimizer=SGD,
        schedule=MULTISTEP,
        run={**BY_COCO, **AVERAGED, "clip_grad_norm": 1.0},
        processes=2,
    ),
    "fcos_voc": Case(
        detector=("fcos", {**ONE_STAGE, "focal_alpha": 0.6, "focal_gamma": 1.0, "iou_threshold": 0.5}),
        data=("voc", {**VOC, **SQUARE, "metrics": "coco", "mean": (0.5, 0.5, 0.5)}),
        optimizer=ADAMW,
        schedule=CONSTANT,
        run={**BY_COCO, "channels_last": True},
    ),
    "centernet_coco": Case(
        detector=("centernet", {**SMALLEST, "upsample_channels": (32, 16, 8), "head_channels": 8, **SHOWN}),
        data=("coco", {**COCO, **SQUARE}),
        optimizer=ADAMW,
        schedule=COSINE,
        run={**BY_COCO, **AVERAGED},
        processes=2,
    ),
    "centernet_voc": Case(
        detector=(
            "centernet",
            {
                "backbone": "resnet18",
                "deformable": False,
                "upsample_channels": (32, 16, 8),
                "iou_threshold": 0.5,
                **SHOWN,
            },
        ),
        data=("voc", {**VOC, **SQUARE}),
        optimizer=SGD,
        schedule=CONSTANT,
        run={**BY_VOC, "clip_grad_norm": 5.0},
    ),
    "faster_rcnn_coco": Case(
        detector=("faster_rcnn", {**TWO_STAGES, **SMALLEST, "frozen_stages": 2, "frozen_batch_norm": True}),
        data=("coco", {**COCO, **SHORT_SIDE}),
        optimizer=ADAMW,
        schedule=COSINE,
        run={**BY_COCO, **AVERAGED},
        processes=2,
    ),
    "faster_rcnn_voc": Case(
        detector=(
            "faster_rcnn",
            {
                **{**TWO_STAGES, "pool_size": 3, "aligned": False, "sampling_ratio": 0, "class_agnostic": True},
                **{"anchors": "torchvision", "soft_nms": "gaussian", "soft_nms_sigma": 0.4, "smooth_l1_beta": 1.0},
            },
        ),
        data=("voc", {**VOC, **SHORT_SIDE, "group_by_aspect": 3}),
        optimizer=SGD,
        schedule=MULTISTEP,
        run={**BY_VOC, "clip_grad_norm": 5.0},
    ),
    "cascade_rcnn_coco": Case(
        detector=("cascade_rcnn", {**TWO_STAGES, **SMALLEST, "pool_size": 5, "soft_nms": "linear"}),
        data=("coco", {**COCO, **SHORT_SIDE, "metrics": "voc"}),
        optimizer=SGD,
        schedule=COSINE,
        run={**BY_VOC, **AVERAGED, "clip_grad_norm": 5.0},
        processes=2,
    ),
    "cascade_rcnn_voc": Case(
        detector=("cascade_rcnn", {**TWO_STAGES, "num_candidates": (200, 100), "rpn_samples": 64}),
        data=("voc", {**VOC, **SHORT_SIDE}),
        optimizer=ADAMW,
        schedule=CONSTANT,
        run=BY_VOC,
    ),
}


def config_of(name: str) -> Any:
    """The config of a case, in the spelling of the library on the path."""
    case = CASES[name]
    run = {"name": name, "epochs": 4, "batch_size": 4, "precision": "fp32", "evaluate_every": 2, **case.run}
    runtime = {"device": "cpu", "processes": case.processes, "num_workers": 0, "log_every": 1}
    is_new = find_spec("public.config.calls") is not None
    return new_config(case, run, runtime) if is_new else old_config(case, run, runtime)


def of(module: str, name: str) -> Any:
    """A name of a module that only one of the two spellings has."""
    return getattr(import_module(module), name)


def class_of(transform: Transform) -> Any:
    """The class of a transform."""
    module, name = transform[0].split(".")
    return of(MODULES[module], name)


# ---- the spelling of commit 20741d7 ---------------------------------------------------------------------------------


def old_config(case: Case, run: Mapping[str, Any], runtime: Mapping[str, Any]) -> Any:
    """One config class for all kinds, transforms as objects, the input's size beside the data."""
    sections = "public.config.sections"
    shared = {
        "optimizer": of(sections, "OptimizerConfig")(name=case.optimizer[0], **case.optimizer[1]),
        "schedule": of(sections, "ScheduleConfig")(kind=case.schedule[0], **case.schedule[1]),
        "runtime": of(sections, "RuntimeConfig")(**runtime),
        **run,
    }
    dataset, settings = case.data
    settings = dict(settings)
    size = settings.pop("input_size")
    for key in ("train_transforms", "val_transforms"):
        settings[key] = tuple(old_transform(one, size) for one in settings.get(key, ()))
    if case.network is not None:
        module = "public.config.classification"
        return of(module, "ClassificationConfig")(
            network=case.network[0],
            network_options=of(module, "NetworkConfig")(**case.network[1]),
            mixing=of(module, "MixingConfig")(**case.mixing),
            input_size=size,
            data=of(module, "ClassificationDataConfig")(dataset=dataset, **settings),
            **shared,
        )
    assert case.detector is not None
    module = "public.config.detection"
    return of(module, "DetectionConfig")(
        network=case.detector[0],
        detector=of(module, "DetectorConfig")(**case.detector[1]),
        canvas_size=(size, size),
        data=of(module, "DetectionDataConfig")(dataset=dataset, **settings),
        **shared,
    )


def old_transform(transform: Transform, size: int) -> Any:
    """The transform itself."""
    return class_of(transform)(**{name: old_argument(value, size) for name, value in transform[1].items()})


def old_argument(value: Any, size: int) -> Any:
    """A number for each length that follows the size."""
    if value == SIZE:
        return size
    if isinstance(value, Scaled):
        return size * value.length // value.of
    if isinstance(value, tuple):
        is_transform = len(value) == 2 and isinstance(value[1], Mapping)
        return old_transform(value, size) if is_transform else tuple(old_argument(one, size) for one in value)
    return value


# ---- the spelling since ---------------------------------------------------------------------------------------------

NEW_KINDS = {
    "sgd": ("public.optim.options", "SGDOptions"),
    "adamw": ("public.optim.options", "AdamWOptions"),
    "multistep": ("public.optim.options", "MultistepOptions"),
    "cosine": ("public.optim.options", "CosineOptions"),
    "constant": ("public.optim.options", "ConstantOptions"),
    "cifar100": ("public.datasets.cifar100", "Cifar100Data"),
    "imagenet": ("public.datasets.imagenet", "ImageFolderData"),
    "coco": ("public.datasets.coco", "CocoData"),
    "voc": ("public.datasets.voc", "VocData"),
    "retinanet": ("public.detectors.retinanet.options", "RetinaNetOptions"),
    "fcos": ("public.detectors.fcos.options", "FCOSOptions"),
    "centernet": ("public.detectors.centernet.options", "CenterNetOptions"),
    "faster_rcnn": ("public.detectors.faster_rcnn.options", "FasterRCNNOptions"),
    "cascade_rcnn": ("public.detectors.cascade_rcnn.options", "CascadeRCNNOptions"),
}
NEW_NAMES = {"normalise": "normalize"}
"""Of settings that were renamed; taken where the options have the new name."""


def new_config(case: Case, run: Mapping[str, Any], runtime: Mapping[str, Any]) -> Any:
    """A class of options for each kind, transforms as calls, the input's size within the data."""
    shared = {
        "optimizer": new_options(*case.optimizer),
        "schedule": new_options(*case.schedule),
        "runtime": of("public.config.run", "RuntimeConfig")(**runtime),
        **run,
    }
    dataset, settings = case.data
    calls = {
        key: tuple(map(new_call, settings[key])) for key in ("train_transforms", "val_transforms") if key in settings
    }
    data = new_options(dataset, {**settings, **calls})
    if case.network is not None:
        module = "public.config.classification"
        return of(module, "ClassificationConfig")(
            network=case.network[0],
            network_options=of("public.backbones.catalog", "options_of")(case.network[0])(**case.network[1]),
            mixing=of(module, "MixingConfig")(**case.mixing),
            data=data,
            **shared,
        )
    assert case.detector is not None
    return of("public.config.detection", "DetectionConfig")(detector=new_options(*case.detector), data=data, **shared)


def new_options(kind: str, settings: Mapping[str, Any]) -> Any:
    """The options of a kind. What they do not have is refused by their class, with its name; CIFAR has one size."""
    options = of(*NEW_KINDS[kind])
    known = options.__dataclass_fields__
    named = {name if name in known else NEW_NAMES.get(name, name): value for name, value in settings.items()}
    if kind == "cifar100" and "input_size" not in known:
        del named["input_size"]
    return options(**named)


def new_call(transform: Transform) -> Any:
    """The transform as a call."""
    arguments = {name: new_argument(value) for name, value in transform[1].items()}
    return of("public.config.calls", "Call")(class_of(transform), **arguments)


def new_argument(value: Any) -> Any:
    """The library's own SIZE and Scaled."""
    if value == SIZE:
        return of("public.config.calls", "SIZE")
    if isinstance(value, Scaled):
        return of("public.config.calls", "Scaled")(value.length, of=value.of)
    if isinstance(value, tuple):
        is_transform = len(value) == 2 and isinstance(value[1], Mapping)
        return new_call(value) if is_transform else tuple(map(new_argument, value))
    return value


# ---- the program ----------------------------------------------------------------------------------------------------


def kept_outputs() -> list[Any]:
    """A list into which go the outputs of every evaluated batch from now on."""
    outputs: list[Any] = []

    def keep(module: nn.Module, _inputs: Any, output: Any) -> None:
        if type(module).__name__ in OUTPUT_OF and not module.training:
            outputs.append(plain(output))

    nn.modules.module.register_module_forward_hook(keep)
    return outputs


def plain(value: Any) -> Any:
    """Tensors, and lists of them, in whatever they came."""
    return value.detach().clone() if isinstance(value, torch.Tensor) else [plain(one) for one in value]


if __name__ == "__main__":
    torch.set_num_threads(1)  # as the launcher sets it for several processes: sums are then taken in the same order
    kept = kept_outputs()
    recipe = "detection" if CASES[sys.argv[1]].detector is not None else "classification"
    try:
        of(f"public.recipes.{recipe}", "main")({sys.argv[1]: config_of(sys.argv[1])}, __file__)
    finally:
        if kept:  # not in the process that only starts the others
            torch.save(kept, f"outputs_{os.environ.get('RANK', '0')}.pth")
