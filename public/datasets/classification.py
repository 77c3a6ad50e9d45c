"""The loaders of a classification config, whatever the format of its data."""

from public.config.classification import ClassificationConfig, ClassificationData
from public.config.record import class_summary
from public.datasets.batches import DataError, EvalData, TrainData
from public.datasets.image_folder import nothing_to_tell_apart
from public.datasets.image_formats import image_format_of
from public.datasets.locations import dataset_folder
from public.runtime.distributed import DistributedContext


def build_train_data(config: ClassificationConfig, context: DistributedContext) -> TrainData:
    """Both loaders of a run.

    Raises:
        DataError: the data set is missing, damaged, of one class alone, or not of those that the config states.
    """
    data = image_format_of(config.data).train_data(config, context)
    if config.num_classes not in (None, len(data.class_names)):
        raise DataError(
            f"num_classes={config.num_classes}, and {dataset_folder(config.data.folder)} has "
            f"{class_summary(data.class_names)}."
        )
    too_few = nothing_to_tell_apart(data.class_names)
    if too_few:
        raise DataError(f"{dataset_folder(config.data.folder)}: {too_few}.")
    return data


def build_eval_data(
    data: ClassificationData,
    *,
    batch_size: int,
    num_workers: int,
    context: DistributedContext,
    class_names: list[str] | None = None,
) -> EvalData:
    """The loader of the validation split alone.

    Args:
        data: which.
        batch_size: of one process.
        num_workers: processes that load.
        context: this process's place.
        class_names: those of a trained network, by which the labels are numbered; None: the split's own.

    Raises:
        DataError: it is missing or damaged, or has classes that are not among `class_names`.
    """
    eval_data = image_format_of(data).eval_data
    return eval_data(data, batch_size=batch_size, num_workers=num_workers, context=context, class_names=class_names)
