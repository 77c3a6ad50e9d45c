"""The loaders of a detection config, and what is checked between the files and the first batch."""

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from public.config.calls import build_all
from public.config.detection import DetectionConfig, DetectionData
from public.config.names import first_few
from public.config.record import class_summary
from public.datasets.annotations import DetectionAnnotations, describe_treated
from public.datasets.balance import repeated
from public.datasets.batches import DataError, DetectionBatch, EvalLoader, TrainLoader
from public.datasets.decoding import Reading
from public.datasets.detection_loaders import (
    DetectionDataset,
    DetectionEvalLoader,
    DetectionTrainLoader,
    checked_transforms,
)
from public.datasets.digests import annotations_digest
from public.datasets.formats import format_of
from public.datasets.locations import dataset_folder
from public.datasets.scan import RawAnnotations, clean
from public.datasets.splits import Purpose, is_divided, scan_split, scan_undivided
from public.runtime.distributed import DistributedContext
from public.transforms.detection import DetectionTransform

logger = logging.getLogger(__name__)


class DetectionEvalData(NamedTuple):
    """What an evaluation reads."""

    loader: EvalLoader[DetectionBatch]
    annotations: DetectionAnnotations


class DetectionTrainData(NamedTuple):
    """What a training run reads."""

    train: TrainLoader[DetectionBatch]
    val: EvalLoader[DetectionBatch]
    annotations: DetectionAnnotations
    """Of the training split."""
    val_annotations: DetectionAnnotations
    settled: DetectionData | None = None
    """The data's options with what was found out when it was opened, which a run keeps; None: nothing was."""

    @property
    def class_names(self) -> list[str]:
        """The name of each label."""
        return self.annotations.class_names

    @property
    def category_ids(self) -> list[int]:
        """The data set's own number of each label."""
        return self.annotations.category_ids

    @property
    def num_images(self) -> int:
        """Training images of the whole data set."""
        return self.annotations.num_images

    @property
    def digests(self) -> dict[str, str]:
        """See `Data`."""
        return {
            "training": annotations_digest(self.annotations),
            "validation": annotations_digest(self.val_annotations),
        }


def build_train_data(config: DetectionConfig, context: DistributedContext) -> DetectionTrainData:
    """Both loaders of a run; the main process logs what they will give and what was skipped.

    Raises:
        DataError: the data set is missing, damaged, without objects, or not of the classes that the config states; or
            the transforms make no batches.
    """
    data = config.data
    transforms = _transforms(data, training=True)
    val_transforms = _transforms(data, training=False)  # before the minutes of reading
    _download(data, (*data.train_splits, *data.val_splits), context)
    undivided = scan_undivided(data)
    annotations = replace(_read(data, "train", None, undivided), truth=None)  # only evaluation asks for it
    _check_num_classes(config.num_classes, annotations)
    _check_objects(annotations, "learn", data)
    val_annotations = _read(data, "val", annotations.class_names, undivided)
    _check_objects(val_annotations, "find", data)
    _tell_unseen_classes(annotations, "training object", "they will not be learnt", context)
    _tell_unseen_classes(val_annotations, "validation object", "they have no AP", context)
    _report("training", annotations, context)
    train = DetectionTrainLoader(
        DetectionDataset(annotations, transforms, seed=config.seed, epochs=config.epochs),
        batch_size=config.batch_size,
        num_workers=config.runtime.num_workers,
        rank=context.rank,
        num_processes=context.size,
        pin_memory=context.device.type == "cuda",
        group_by_aspect=data.group_by_aspect,
        factors=repeated(annotations, data, context),
    )
    local_batch_size = config.local_batch_size(context.size)
    val = _eval_loader(val_annotations, val_transforms, local_batch_size, config.runtime.num_workers, context)
    return DetectionTrainData(train, val, annotations, val_annotations, _settled(data, val_annotations, context))


def _settled(data: DetectionData, val: DetectionAnnotations, context: DistributedContext) -> DetectionData | None:
    """The options with the validation images, where these are a part of the only split; it is logged."""
    if not is_divided(data):
        return None
    if context.is_main:
        logger.info(
            f"{val.source} has no validation split: {val.num_images} of its images become one, by a hash of their "
            "names; the run keeps the list in its config.json"
        )
    names = data.val_images or tuple(os.fsdecode(file) for file in val.files.tolist())
    return replace(data, val_images=names)


def build_eval_data(
    data: DetectionData,
    *,
    batch_size: int,
    num_workers: int,
    context: DistributedContext,
    class_names: Sequence[str] | None = None,
) -> DetectionEvalData:
    """The loader of the validation splits alone.

    Args:
        data: the options.
        batch_size: of one process.
        num_workers: of one process; 0: none beside it.
        context: this process's place.
        class_names: of the labels of what is evaluated, to which the data's classes are matched by name; None: the
            data's own.

    Raises:
        DataError: they are missing or damaged, have none of these classes, or the transforms make no batches.
    """
    transforms = _transforms(data, training=False)
    _download(data, data.val_splits, context)
    annotations = _read(data, "val", class_names)
    if class_names is not None:
        _tell_unseen_classes(annotations, "object to find", "they have no AP", context)
    return DetectionEvalData(_eval_loader(annotations, transforms, batch_size, num_workers, context), annotations)


def canvas_size(data: DetectionData) -> tuple[int, int]:
    """Height and width, in pixels, of the canvas that a picture of 640 x 480 (width x height) has in evaluation.

    Before a batch pads it: a detector's multiply-adds are stated for it.

    Raises:
        DataError: the transforms make no batches.
    """
    resize: Any = _transforms(data, training=False)[-1]
    return resize.canvas_size(480, 640)


def smallest_canvas(data: DetectionData, annotations: DetectionAnnotations) -> tuple[int, int]:
    """Height and width, in pixels, of the smallest canvas that an image has by itself in training, if none is cropped.

    Raises:
        DataError: the transforms make no batches.
    """
    canvases = DetectionDataset(annotations, _transforms(data, training=True), seed=0).canvases()
    height, width = canvases[canvases.prod(1).argmin()].tolist()
    return height, width


def _transforms(data: DetectionData, *, training: bool) -> list[DetectionTransform]:
    """The transforms that the data lists, made and checked."""
    name = "train_transforms" if training else "val_transforms"
    return checked_transforms(f"data.{name}", build_all(getattr(data, name), data.input_size), random=training)


def _download(data: DetectionData, splits: Sequence[str], context: DistributedContext) -> None:
    """Fetches what is missing, in the main process alone, while the others wait."""
    if not data.download:
        return
    published, folder = format_of(data).published, dataset_folder(data.folder)
    if published is None:
        raise DataError(
            f"data.download=True: nothing is published in the format {data.kind}. Put the splits in {folder}."
        )
    if context.is_main:
        published.download(folder, splits)
    context.barrier()


def _read(
    data: DetectionData,
    split: Purpose,
    class_names: Sequence[str] | None = None,
    undivided: RawAnnotations | None = None,
) -> DetectionAnnotations:
    annotations = clean(scan_split(data, split, class_names, undivided))
    return replace(annotations, reading=Reading(data.orientation, data.max_pixels))


def _eval_loader(
    annotations: DetectionAnnotations,
    transforms: Sequence[DetectionTransform],
    batch_size: int,
    num_workers: int,
    context: DistributedContext,
) -> DetectionEvalLoader:
    _report("evaluation", annotations, context)
    return DetectionEvalLoader(
        DetectionDataset(annotations, transforms, seed=0),
        batch_size=batch_size,
        num_workers=num_workers,
        rank=context.rank,
        num_processes=context.size,
        pin_memory=context.device.type == "cuda",
    )


def _check_num_classes(num_classes: int | None, train: DetectionAnnotations) -> None:
    """Raises DataError unless the data has as many classes as the config states."""
    if num_classes not in (None, len(train.class_names)):
        raise DataError(f"num_classes={num_classes}, and {train.source} has {class_summary(train.class_names)}.")


def _check_objects(annotations: DetectionAnnotations, purpose: str, data: DetectionData) -> None:
    """Raises DataError for a split without objects: nothing can be learnt, or no epoch is the best."""
    if annotations.ignored.all():
        treated = describe_treated(annotations)
        treated = f"{treated}; each is named by python -m public.datasets.check" if treated else "; skipped: nothing"
        source = str(annotations.source)
        if is_divided(data) and not data.val_images:
            source = f"the part of {source} by data.val_fraction={data.val_fraction} (another share has other images)"
        raise DataError(
            f"{source} holds no object to {purpose}: {annotations.num_images} images, {annotations.num_boxes} boxes "
            f"that are ignored{treated}."
        )


def _tell_unseen_classes(annotations: DetectionAnnotations, what: str, so: str, context: DistributedContext) -> None:
    """Warns of classes without an object."""
    seen = set(annotations.labels[~annotations.ignored].tolist())
    unseen = [name for label, name in enumerate(annotations.class_names) if label not in seen]
    if unseen and context.is_main:
        logger.warning(
            f"{annotations.source} holds no {what} of {len(unseen)} of {len(annotations.class_names)} classes "
            f"({first_few(unseen, 10)}): {so}."
        )


def _report(purpose: str, annotations: DetectionAnnotations, context: DistributedContext) -> None:
    """One line about a split, with what reading skipped of it."""
    if not context.is_main:
        return
    logger.info(
        f"{purpose}: {annotations.num_images} images, {annotations.num_boxes} boxes ({int(annotations.ignored.sum())} "
        f"of them ignored), {class_summary(annotations.class_names)} from {annotations.source}"
        + describe_treated(annotations)
    )
