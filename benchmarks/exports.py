"""Which networks can be exported: each is written as ONNX, run by onnxruntime and OpenVINO, and held against PyTorch.

    python -m benchmarks.exports                                    82 networks, then five detectors on three backbones
    python -m benchmarks.exports --only resnet18 fcos:darknet53     some of them
    python -m benchmarks.exports --output table.txt                 goes on where the table ends

Weights are new, with batch norms as after some pictures and last layers that are sure of something; pictures are small.
One line each: what was exported, largest differences (see `public.apps.export_check`), seconds of processor time.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import nn

from public.apps.export import (
    BATCHES,
    ExportOptions,
    about_of,
    answer_of,
    batches_of,
    fold,
    generated_picture,
    limits_of,
)
from public.apps.export_check import Difference, difference
from public.apps.export_graph import save_openvino, to_onnx
from public.apps.exported import FILE_FORMATS
from public.apps.predict_model import OpenedNetwork
from public.backbones.build import build_from_options as build_classifier
from public.backbones.catalog import list_backbones, options_of
from public.backbones.classifier import ImageClassifier
from public.backbones.trained import TrainedClassifier
from public.config.names import first_line
from public.detectors.catalog import DETECTOR_KIND
from public.detectors.catalog import build_from_options as build_detector
from public.detectors.detector import ImageDetector
from public.detectors.trained import TrainedDetector
from public.test_scripts import classification, detection
from public.test_scripts.test_on_coco import COCO
from public.test_scripts.test_on_imagenet import IMAGENET

BACKBONES = ("resnet18", "darknet53", "mobilenet_v2")
"""Of the detectors."""
NUM_CLASSES = 5


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    only: tuple[str, ...] = ()
    """Networks, or detector:backbone; none: all."""
    size: int = 64
    """Height and width of pictures for classifiers, pixels; detectors have twice that."""
    output: str | None = None
    """A file that gets the lines; what stands in it already is not done again."""


def classifier(name: str, size: int) -> OpenedNetwork:
    """A classifier with new weights, whose batch norms have seen pictures."""
    config = classification.of_network(name, replace(IMAGENET, input_size=size))
    config = replace(config, network_options=options_of(name)())
    network = build_classifier(name, NUM_CLASSES, config.network_options)
    module = ImageClassifier(network, mean=IMAGENET.mean, std=IMAGENET.std)
    logits = _live(module, module, size)
    for layer in [one for one in network.modules() if isinstance(one, nn.Linear)][-1:]:
        layer.weight.data *= 2 / logits.std()  # sure of something, and not of everything
    return OpenedNetwork(TrainedClassifier(module, (), [str(n) for n in range(NUM_CLASSES)]), config, None)


def detector(kind: str, backbone: str, size: int) -> OpenedNetwork:
    """A detector with new weights, whose scores differ."""
    config = detection.of_network(kind, COCO)
    config = replace(config, detector=replace(config.detector, backbone=backbone, score_threshold=0.0))
    network = build_detector(NUM_CLASSES, config.detector)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1 and any(
            part in name for part in (*network.class_prefixes, "rpn.head.cls_logits", "bbox")
        ):
            nn.init.normal_(parameter, std=0.1)
    module = ImageDetector(network, mean=COCO.mean, std=COCO.std, dtype=torch.float32)
    _live(module, module.outputs, size)
    return OpenedNetwork(TrainedDetector(module, (), [str(n) for n in range(NUM_CLASSES)]), config, None)


@torch.no_grad()
def _live(module: nn.Module, run: Callable[[torch.Tensor], Any], size: int) -> Any:
    """Gives batch norms the statistics of some pictures, and what is then said of them."""
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # the mean of all that is seen
    module.train()
    # Those that it will be asked about: of others a deep network with new weights says what no float32 can hold.
    pictures = torch.from_numpy(np.stack([generated_picture(number, size, size) for number in range(sum(BATCHES))]))
    run(pictures.permute(0, 3, 1, 2))
    module.eval()
    return run(pictures.permute(0, 3, 1, 2))


def line(name: str, options: Options) -> str:
    """What became of a network."""
    torch.manual_seed(0)
    start = time.process_time()
    size = options.size * (2 if ":" in name else 1)
    try:
        kind, _, backbone = name.partition(":")
        opened = detector(kind, backbone, size) if backbone else classifier(name, size)
        said = " | ".join(str(one) for one in differences(opened, (size, size)))
    except Exception as error:  # whatever it is, it belongs into the table
        said = f"not exported: {type(error).__name__} {first_line(error)}"
    return f"{name} | {said} | {time.process_time() - start:.0f} s"


def differences(opened: OpenedNetwork, canvas: tuple[int, int]) -> list[Difference]:
    """From PyTorch, of onnxruntime and of OpenVINO."""
    if isinstance(opened.network, TrainedDetector):
        opened.network.canvas = canvas
    batches = batches_of(opened.network, (), canvas)
    expected = [answer_of(opened.network)(*batch) for batch in batches]
    about = about_of(opened, canvas, ExportOptions(weights="new.pth"))
    program = to_onnx(fold(opened.network, torch.float32), canvas, content_optional=False)
    with tempfile.TemporaryDirectory() as folder:
        paths = {"onnxruntime": Path(folder) / "network.onnx", "openvino": Path(folder) / "network.xml"}
        program.save(paths["onnxruntime"])
        save_openvino(program.model_proto.SerializeToString(), paths["openvino"], about)
        answers = [FILE_FORMATS[engine].read(path)[1] for engine, path in paths.items()]
    return [
        Difference.of([difference(e, answer(*b), limits_of(opened)) for e, b in zip(expected, batches, strict=True)])
        for answer in answers
    ]


def main(options: Options) -> None:
    """A line each."""
    names = [*list_backbones(), *(f"{kind}:{backbone}" for kind in DETECTOR_KIND.names for backbone in BACKBONES)]
    table = None if options.output is None else Path(options.output)
    done = (
        set() if table is None or not table.is_file() else {x.split(" | ")[0] for x in table.read_text().splitlines()}
    )
    for name in options.only or names:
        if name in done:
            continue
        said = line(name, options)
        print(said, flush=True)
        if table is not None:
            with table.open("a") as file:
                file.write(said + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
