"""What each engine and precision leaves of torchvision's MobileNetV2 on 1000 photos, as records for docs/results.md.

    DATA_ROOT=FOLDER python -m benchmarks.engine_accuracy --weights mobilenet_v2-b0353104.pth
    DATA_ROOT=FOLDER python -m benchmarks.engine_accuracy --weights FILE --only onnxruntime_int8

FOLDER/imagenet_like/val has a photo of each class of ImageNet. Each row is exported by `public.apps.export` and
evaluated as `public.apps.evaluate` does it. int8 takes its ranges from 250 of the same photos, without their labels.
"""

import json
import tempfile
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

import torch
import tyro
from torch import nn

from public.apps.export import FORMATS, ExportOptions, export
from public.apps.exported import ExportedClassifier, read_exported
from public.apps.predict_model import OpenedNetwork
from public.apps.results import EVALUATION_FILES
from public.backbones.trained import TrainedClassifier
from public.config.calls import build_all
from public.config.classification import ClassificationConfig
from public.config.record import to_record
from public.datasets.classification import build_eval_data
from public.datasets.locations import REPOSITORY, dataset_folder
from public.evaluation.classification import evaluate
from public.recipes.classification import ClassificationTask
from public.runtime.device import PRECISION_DTYPES, device_name
from public.runtime.distributed import DistributedContext
from public.runtime.environment import environment_record
from public.test_scripts.classification import of_network
from public.test_scripts.test_on_imagenet import IMAGENET
from public.weights.loading import load_weights

CPU = torch.device("cpu")
ROWS = {
    **{f"pytorch_{precision}": (None, precision) for precision in ("fp32", "bf16")},
    **{f"{one.engine}_{precision}": (name, precision) for name, one in FORMATS.items() for precision in one.precisions},
}
"""The format that is exported, None for none, and the precision."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    weights: Path
    """torchvision's MobileNetV2 weights of ImageNet, its first."""
    only: tuple[str, ...] = tuple(ROWS)
    """The rows."""
    results: Path = REPOSITORY / "results" / "mobilenet_v2_on_1000_photos"
    """Folder of the records."""


def opened(weights: Path, config: ClassificationConfig, names: list[str]) -> OpenedNetwork:
    """The network with its weights."""
    network = ClassificationTask.build_network(config, len(names))
    load_weights(network, str(weights))
    classifier = ClassificationTask.inference(network, config, PRECISION_DTYPES[config.precision]).eval()
    transforms = build_all(config.data.val_transforms, config.data.input_size)
    return OpenedNetwork(TrainedClassifier(classifier, transforms, names), config, None)  # pyright: ignore[reportArgumentType]


def exported(network: OpenedNetwork, format_name: str, precision: str, folder: Path) -> nn.Module:
    """The network as a file that its engine runs."""
    writer = FORMATS[format_name]
    photos = dataset_folder(network.config.data.folder) / "val"
    options = ExportOptions(
        weights="mobilenet_v2.pth",
        format=format_name,  # pyright: ignore[reportArgumentType]
        precision=precision,  # pyright: ignore[reportArgumentType]
        output=str(folder / f"mobilenet_v2{writer.ending}"),
        calibrate=str(photos / "*" / "*") if precision == "int8" else None,
    )
    path = export(network, options).path
    about, answer = read_exported(path, writer.engine)
    return ExportedClassifier(path, answer, about.input_size)


def environment(packages: tuple[str, ...]) -> dict[str, object]:
    """With the versions of what wrote and ran the file."""
    record = environment_record(device_name(CPU), 1)
    return record | {"packages": record["packages"] | {name: metadata.version(name) for name in packages}}


def main(options: Options) -> None:
    """Evaluates the rows and writes their records."""
    context = DistributedContext(rank=0, size=1, device=CPU)
    data = replace(IMAGENET, folder="imagenet_like")
    images = build_eval_data(data, batch_size=50, num_workers=1, context=context)
    for name in options.only:
        format_name, precision = ROWS[name]
        config = replace(of_network("mobilenet_v2", data), precision=precision if format_name is None else "fp32")
        network = opened(options.weights, config, images.class_names)
        with tempfile.TemporaryDirectory() as folder:
            model = network.network.image_classifier  # pyright: ignore[reportAttributeAccessIssue]
            if format_name is not None:
                model = exported(network, format_name, precision, Path(folder))
            metrics = evaluate(model, images.loader, context).metrics
        packages = () if format_name is None else FORMATS[format_name].packages
        written = replace(config, name=name, initial_weights="torchvision:mobilenet_v2.IMAGENET1K_V1")
        (options.results / name).mkdir(parents=True, exist_ok=True)
        for file, content in zip(EVALUATION_FILES, (to_record(written), metrics, environment(packages)), strict=True):
            (options.results / name / file).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        print(name, metrics, flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
