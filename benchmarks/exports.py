"""Which networks can be exported: each is written as ONNX, run by onnxruntime and OpenVINO, and held against PyTorch.

    python -m benchmarks.exports                                    82 networks, then five detectors on three backbones
    python -m benchmarks.exports --only resnet18 fcos:darknet53     some of them
    python -m benchmarks.exports --output table.txt                 goes on where the table ends

Weights are new, with batch norms as after some pictures and last layers that are sure of something; pictures are
small. One line each: what was exported, its largest differences from PyTorch (see `public.apps.export_check`) by
onnxruntime and by OpenVINO, seconds of processor time. Where one is too large PyTorch's float64 is the referee: an
engine that is at most twice as far from it as what float32 leaves open has only rounded, of which deep networks with
new weights make much. That is the largest of what PyTorch's own float32 says (as trained; folded, in NHWC) and of what
float64 says where every weight moves by up to float32's epsilon, 1.2e-7 of itself.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import nn
from torch.overrides import TorchFunctionMode

from public.apps.export import ExportOptions, about_of, answer_of, fold, limits_of, module_of
from public.apps.export_check import BOX_TOLERANCE, SCORE_TOLERANCE, Difference, difference
from public.apps.export_graph import graph_of, save_openvino, to_onnx
from public.apps.export_inputs import BATCHES, Network, batches_of, generated_picture
from public.apps.exported import FILE_FORMATS, Run, on_arrays
from public.apps.predict_model import OpenedNetwork
from public.backbones.build import build_from_options as build_classifier
from public.backbones.catalog import list_backbones, options_of
from public.backbones.classifier import ImageClassifier
from public.backbones.trained import TrainedClassifier
from public.config.names import first_line
from public.detectors.catalog import DETECTOR_KIND
from public.detectors.catalog import build_from_options as build_detector
from public.detectors.centernet.network import CenterNet
from public.detectors.detector import ImageDetector
from public.detectors.trained import TrainedDetector
from public.test_scripts import classification, detection
from public.test_scripts.test_on_coco import COCO
from public.test_scripts.test_on_imagenet import IMAGENET

Answer = Sequence[np.ndarray]
"""The outputs of a batch."""
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
        if parameter.ndim > 1 and ".body." not in name:  # as it begins, all scores are alike and all offsets 0
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    if isinstance(network, CenterNet):  # what has a size below 0 is no box, and leaves a list that was full
        nn.init.constant_(network.wh_head[-1].bias, 4.0)  # pyright: ignore[reportArgumentType]
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
        said = " | ".join(differences(opened, (size, size)))
    except Exception as error:  # whatever it is, it belongs into the table
        said = f"not exported: {type(error).__name__} {first_line(error)}"
    return f"{name} | {said} | {time.process_time() - start:.0f} s"


def differences(opened: OpenedNetwork, canvas: tuple[int, int]) -> list[str]:
    """From PyTorch, of onnxruntime and of OpenVINO; and what the referee says."""
    if isinstance(opened.network, TrainedDetector):
        opened.network.canvas = canvas
    batches, limits, new = batches_of(opened.network, (), canvas), limits_of(opened), deepcopy(opened.network)
    expected = [answer_of(opened.network)(*batch) for batch in batches]
    about = about_of(opened, canvas, ExportOptions(weights="new.pth"))
    program = to_onnx(fold(opened.network, torch.float32), canvas, for_openvino=True)
    with tempfile.TemporaryDirectory() as folder:
        paths = {"onnxruntime": Path(folder) / "network.onnx", "openvino": Path(folder) / "network.xml"}
        program.save(paths["onnxruntime"])
        save_openvino(program.model_proto.SerializeToString(), paths["openvino"], about)
        answers = {engine: FILE_FORMATS[engine].read(path)[1] for engine, path in paths.items()}
    found = {engine: [answer(*batch) for batch in batches] for engine, answer in answers.items()}

    def apart(one: Sequence[Answer], other: Sequence[Answer]) -> Difference:
        return Difference.of([difference(a, b, limits) for a, b in zip(one, other, strict=True)])

    ours = {engine: apart(expected, answer) for engine, answer in found.items()}
    if all(one.is_small for one in ours.values()):
        return [*map(str, ours.values())]
    truth, *moved = ([in_float64(new, seed)(*batch) for batch in batches] for seed in (None, 0, 1))
    module = module_of(opened.network).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    module.normalize.memory_format = torch.channels_last
    folded = [answer_of(opened.network)(*batch) for batch in batches]
    own = largest([apart(truth, one) for one in (expected, folded, *moved)])
    theirs = {engine: apart(truth, answer) for engine, answer in found.items()}
    verdict = "rounding" if all(is_rounding(own, one) for one in theirs.values()) else "WRONG"
    distances = "; ".join(f"{name} {one}" for name, one in {"float32": own, **theirs}.items())
    return [*map(str, ours.values()), f"{verdict}: from float64 {distances}"]


def largest(parts: Sequence[Difference]) -> Difference:
    """Of each number."""
    return Difference(*map(max, zip(*parts, strict=True)))


def is_rounding(own: Difference, theirs: Difference) -> bool:
    """Whether an engine is about as far from float64 as PyTorch's float32 is.

    Args:
        own: what float32 leaves open.
        theirs: of the engine's.
    """
    pairs = zip(own[:3], theirs[:3], (SCORE_TOLERANCE, BOX_TOLERANCE, 0), strict=True)
    return all(there <= max(2 * here, allowed) for here, there, allowed in pairs)


class InFloat64(TorchFunctionMode):
    """Where something asks for float32 it gets float64, but for its bits."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.float or (func is torch.Tensor.to and torch.float32 in args):
            return args[0].double()
        if func is torch.Tensor.view and torch.int32 in args[1:]:
            args = (args[0].type(torch.float32), *args[1:])
        return func(*args, **(kwargs or {}))


def in_float64(network: Network, seed: int | None = None) -> Run:
    """What PyTorch says in float64.

    Args:
        network: of new weights, which stays as it is.
        seed: draws by how much each weight moves, up to float32's epsilon of itself; None: none does.
    """
    graph = graph_of(deepcopy(network)).double()
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        for weight in graph.parameters():
            draws = torch.rand(weight.shape, generator=generator, dtype=torch.float64)
            weight.data *= 1 + (2 * draws - 1) * torch.finfo(torch.float32).eps

    def run(*arrays: np.ndarray) -> list[np.ndarray]:
        with InFloat64():
            return on_arrays(graph)(*arrays)

    return run


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
