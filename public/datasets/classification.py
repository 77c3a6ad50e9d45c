"""The loaders of a classification config, whatever its format."""

from public.config.classification import ClassificationConfig, ClassificationData
from public.config.record import class_summary
from public.datasets.batches import DataError, EvalData, TrainData
from public.datasets.image_formats import format_of
from public.datasets.locations import dataset_folder
from public.runtime.distributed import World


def build_train_data(config: ClassificationConfig, world: World) -> TrainData:
    """Both loaders of a run.

    Raises:
        DataError: the data set is missing, damaged, or not of the classes that the config states.
    """
    data = format_of(config.data).train(config, world)
    check_num_classes(config, data.class_names)
    return data


def build_eval_data(data: ClassificationData, *, batch_size: int, num_workers: int, world: World) -> EvalData:
    """The loader of the validation split alone; `batch_size` is that of one process."""
    return format_of(data).evaluate(data, batch_size, num_workers, world)


def check_num_classes(config: ClassificationConfig, class_names: list[str]) -> None:
    """Raises DataError where the config states another number of classes than the data set has."""
    if config.num_classes not in (None, len(class_names)):
        raise DataError(
            f"num_classes={config.num_classes}, and {dataset_folder(config.data.folder)} has "
            f"{class_summary(class_names)}."
        )
