"""Every network and detector as one graph: torch.compile without a break, over canvases of several sizes.

    python -m benchmarks.one_graph                          every network of the catalog, every detector
    python -m benchmarks.one_graph --only fcos resnet18     some of them

Of a network its logits and loss are compiled, of a detector network, targets and losses together, with
`fullgraph=True`, height and width symbolic and the objects filled up as a run does it. The backend needs no compiler.
Printed are the number of graphs, the operators in the last, the seconds of CPU time, and by how much the losses
differ at most from those without a graph, as a share. What cannot be compiled is printed, and the exit code 1.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import tyro
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from benchmarks.compare import append_result
from benchmarks.random_batches import NUM_CLASSES, random_batch
from public.backbones.catalog import build_backbone, list_backbones
from public.config.data import IMAGENET_MEAN, IMAGENET_STD
from public.detectors.catalog import build_detector, list_detectors
from public.detectors.detector import ImageDetector
from public.losses.classification import cross_entropy
from public.recipes.detection import of_any_size, with_common_rows


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line can set."""

    only: tuple[str, ...] = (*list_detectors(), *list_backbones())
    """Detectors and networks."""
    backbone: str = "resnet18"
    """Of the detectors."""
    canvases: tuple[tuple[int, int], ...] = ((256, 256), (320, 288), (288, 416))
    """Of detectors: heights and widths in pixels, one after another."""
    image_sizes: tuple[tuple[int, int], ...] = ((64, 64), (96, 64), (64, 128))
    """Of networks, likewise. What they compute takes most of the time, and a graph does not depend on it."""
    backend: str = "aot_eager"
    """Of torch.compile; eager takes a third of the time and leaves out the backward pass."""
    seed: int = 0
    """Of weights, images and boxes."""


def detector_step(name: str, backbone: str) -> Callable[[Any], dict[str, Tensor]]:
    """Network, targets and losses of a detector that trains."""
    detector = build_detector(name, NUM_CLASSES, backbone=backbone, frozen_batch_norm=True)
    model = ImageDetector(detector, mean=IMAGENET_MEAN, std=IMAGENET_STD, dtype=torch.float32)

    def step(batch: Any) -> dict[str, Tensor]:
        return detector.loss(model.outputs(batch.images), detector.targets(batch))

    return step


def network_step(name: str) -> Callable[[Any], dict[str, Tensor]]:
    """Logits and loss of a network that trains, with the same draws each time."""
    network = build_backbone(name, num_classes=10)

    def step(batch: Any) -> dict[str, Tensor]:
        return {"loss": cross_entropy(network(batch.images.float() / 255), batch.labels[:, 0] % 10)}

    return step


def measured(name: str, options: Options) -> dict[str, Any]:
    """The numbers of one network or detector."""
    torch.compiler.reset()
    torch.manual_seed(options.seed)
    is_detector = name in list_detectors()
    step = detector_step(name, options.backbone) if is_detector else network_step(name)
    graphs = CompileCounterWithBackend(options.backend)
    compiled = torch.compile(step, fullgraph=True, backend=graphs)
    begin, differences = time.process_time(), []
    for number, canvas in enumerate(options.canvases if is_detector else options.image_sizes):
        batch = random_batch(2, 5 + 6 * number, canvas, torch.device("cpu"))
        torch.manual_seed(options.seed)
        found = compiled(of_any_size(with_common_rows(batch)))
        torch.stack(list(found.values())).sum().backward()
        torch.manual_seed(options.seed)
        with torch.no_grad():
            differences += [abs(float(found[key] / value - 1)) for key, value in step(batch).items()]
    seconds = time.process_time() - begin
    operators = sum(node.op == "call_function" for node in graphs.graphs[-1].graph.nodes)
    return {
        "graphs": graphs.frame_count,
        "operators": operators,
        "seconds": round(seconds, 1),
        "difference": float(f"{max(differences):.1g}"),
    }


def main(options: Options) -> None:
    """Compiles one after another, prints, and appends to results.jsonl."""
    numbers, failed = {}, []
    for name in options.only:
        try:
            numbers[name] = measured(name, options)
            print(name, *(f"{key} {value}" for key, value in numbers[name].items()), sep="  ", flush=True)
        except Exception as error:  # torch's kinds of error are many, and the sweep goes on
            failed.append(name)
            print(name, f"NOT one graph: {type(error).__name__}: {str(error).strip().splitlines()[0]}", flush=True)
    append_result("one_graph", {"counts": numbers, "failed": failed}, torch.device("cpu"), options.backend)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
