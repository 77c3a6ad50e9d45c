"""A trained network as one graph of tensors, and the graph as a file of each format.

A classifier's graph:  images uint8 [B, 3, H, W] -> probabilities float32 [B, C]
A detector's graph:    images uint8 [B, 3, H, W], content int64 [B, 2] -> boxes float32 [B, D, 4],
                       scores float32 [B, D], labels int64 [B, D]; see `Detections`, with boxes on the canvas

B is free, H and W are the file's. `content` is the height and width in pixels that the picture fills of the canvas from
its top left corner; an ONNX file may be run without it, which means all of it. Normalization, decoding and suppression
are inside. ONNX has the suppression as NonMaxSuppression with scores [B, C, N].
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from public.apps.exported import KEY, About
from public.backbones.classifier import ImageClassifier
from public.backbones.trained import TrainedClassifier
from public.config.checks import require
from public.config.names import first_line
from public.datasets.batches import ImageSizes
from public.detectors.detector import Detections, ImageDetector
from public.detectors.trained import TrainedDetector

OPSET = 20
"""Of ONNX: from 19 on it has deformable convolution."""
_FREE = "batch"


class ClassifierGraph(nn.Module):
    """See the module."""

    inputs = ("images",)
    outputs = ("probabilities",)

    def __init__(self, classifier: ImageClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] -> float32 [B, C]."""
        return self.classifier(images).softmax(dim=1)


class DetectorGraph(nn.Module):
    """See the module."""

    inputs = ("images", "content")
    outputs = Detections._fields

    def __init__(self, detector: ImageDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor, content: Tensor) -> tuple[Tensor, ...]:
        """uint8 [B, 3, H, W], int64 [B, 2] or [1, 2] -> the fields of `Detections`, on the canvas."""
        content = content.expand(images.shape[0], 2)
        return tuple(self.detector(images, ImageSizes(content, content)))


Graph = ClassifierGraph | DetectorGraph


def graph_of(network: TrainedClassifier | TrainedDetector) -> Graph:
    """The graph of a network, in evaluation mode."""
    if isinstance(network, TrainedClassifier):
        return ClassifierGraph(network.image_classifier).eval()
    return DetectorGraph(network.image_detector).eval()


def trace(graph: Graph, canvas: tuple[int, int], *, one_content: bool = False) -> ExportedProgram:
    """The graph as torch.export has it.

    Args:
        graph: in evaluation mode, on the CPU.
        canvas: height and width.
        one_content: all pictures fill the canvas alike: `content` is [1, 2].

    Raises:
        ValueError: it is in training mode, or it holds something that cannot be exported.
    """
    training = [name or "the network" for name, module in graph.named_modules() if module.training]
    require(not training, f"{', '.join(training[:1])} is in training mode, which no file can have: call eval() first.")
    # Two pictures: of one, torch.export takes it that there is always one.
    images = torch.zeros(2, 3, *canvas, dtype=torch.uint8)
    content = torch.tensor(canvas).expand(1 if one_content else 2, 2).contiguous()
    example, free = (images, content)[: len(graph.inputs)], {0: Dim(_FREE)}
    shapes = (free, None if one_content else free)[: len(graph.inputs)]
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        graph(*example)  # anchors and points of this canvas are kept from here on: in the graph they are constants
        try:
            return torch.export.export(graph, example, dynamic_shapes=shapes, strict=False)
        except Exception as error:  # torch.export has dozens of kinds
            raise ValueError(f"torch.export cannot take the network: {_reason(error)}.") from error


def _reason(error: BaseException) -> str:
    """What it began with, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


# ---- our operators in ONNX -------------------------------------------------------------------------------------------


def _translations(reaching_goes: bool) -> dict[Any, Callable[..., Any]]:
    """What the nodes of our own operators become; they take and give values of an ONNX graph.

    Args:
        reaching_goes: whether what runs them also drops boxes that only reach the threshold.
    """
    import onnx.numpy_helper
    import onnxscript

    op: Any = onnxscript.opset20
    lowest = float(torch.finfo(torch.float32).min)

    def ints(*values: int) -> Any:
        return op.Constant(value_ints=list(values))

    def suppress(boxes: Any, scores: Any, labels: Any, iou_threshold: float, num_labels: int) -> Any:
        iou_threshold = _just_above(iou_threshold) if reaching_goes else iou_threshold
        classes = np.arange(num_labels, dtype=np.int64).reshape(1, -1, 1)
        classes = op.Constant(value=onnx.numpy_helper.from_array(classes))
        own = op.Equal(op.Unsqueeze(labels, ints(1)), classes)  # [B, C, N]
        scores = op.Where(own, op.Unsqueeze(scores, ints(1)), op.Constant(value_float=lowest))  # [B, C, N]
        every = op.Shape(labels, start=1, end=2)
        chosen = op.NonMaxSuppression(
            boxes, scores, every, [iou_threshold], [lowest / 2]
        )  # [n, 3]: image, class, place
        places = op.Gather(chosen, [0, 2], axis=1)  # [n, 2]
        ones = op.Expand(op.Constant(value_int=1), op.Shape(places, start=0, end=1))
        nothing = op.Expand(op.Constant(value_int=0), op.Shape(labels))
        return op.Cast(op.ScatterND(nothing, places, ones), to=onnx.TensorProto.BOOL)

    def best_places(scores: Any, limit: int, order: Any = None) -> Any:
        # Of equals the first of the row, not the first in `order`: which of two equals comes first is all that differs.
        return op.TopK(scores, op.Min(op.Shape(scores, start=1, end=2), ints(limit)))[1]

    operators = torch.ops.public
    return {operators.suppress.default: suppress, operators.best_places.default: best_places}


def _just_above(iou_threshold: float) -> float:
    """The next float32: an overlap that reaches it is above the threshold. That of 0 would be flushed to 0."""
    return max(float(np.nextafter(np.float32(iou_threshold), np.float32(2))), 1e-30)


def to_onnx(graph: Graph, canvas: tuple[int, int], *, for_openvino: bool) -> Any:
    """The graph as an ONNX program of torch's, whose inputs and outputs have the graph's names.

    Args:
        graph: as `trace` takes it.
        canvas: height and width.
        for_openvino: `content` has a row for each picture and is no optional input; and OpenVINO's suppression (2026.4)
            drops boxes that only reach the threshold, with one of 0 all but one of a class (findings/).

    Raises:
        ValueError: there is something that ONNX, or its exporter, does not have.
    """
    program = trace(graph, canvas, one_content=not for_openvino)
    with warnings.catch_warnings(action="ignore"):
        try:
            exported = torch.onnx.export(
                program,
                (),
                dynamo=True,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                opset_version=OPSET,
                custom_translation_table=_translations(reaching_goes=for_openvino),
                verbose=False,
            )
        except Exception as error:  # torch.onnx has many kinds
            raise ValueError(f"torch.onnx cannot take the network: {_reason(error)}.") from error
    assert exported is not None
    return exported


def write_onnx(graph: Graph, canvas: tuple[int, int], path: Path, about: About) -> None:
    """The graph as an ONNX file. Raises ValueError as `to_onnx` does."""
    model = to_onnx(graph, canvas, for_openvino=False).model
    if "content" in graph.inputs:
        _make_optional(model, canvas)
    model.metadata_props.update(about.texts())
    _ir().save(model, path)


def _make_optional(model: Any, canvas: tuple[int, int]) -> None:
    """Gives the input `content` the whole canvas as its default, and lets it have a row for each picture."""
    ir = _ir()
    content = next(one for one in model.graph.inputs if one.name == "content")
    content.const_value = ir.tensor(torch.tensor([canvas]).numpy(), name="content")
    content.shape = ir.Shape(["contents", 2])
    model.graph.register_initializer(content)


def write_openvino(graph: Graph, canvas: tuple[int, int], path: Path, about: About) -> None:
    """The graph as OpenVINO's pair of files. Raises ValueError as `to_onnx` does."""
    save_openvino(to_onnx(graph, canvas, for_openvino=True).model_proto.SerializeToString(), path, about)


def save_openvino(onnx: bytes, path: Path, about: About) -> None:
    """An ONNX file as OpenVINO's pair of files; with weights in fp16 where bf16 computes."""
    import openvino
    from openvino.frontend.onnx import ConversionExtension

    core = openvino.Core()
    core.add_extension(ConversionExtension("DeformConv", _deform_conv))
    model = core.read_model(onnx, b"")
    for name, text in about.texts().items():
        model.set_rt_info(text, [KEY, name])
    openvino.save_model(model, path, compress_to_fp16=about.precision != "fp32")


def _deform_conv(node: Any) -> Any:
    """ONNX's deformable convolution, which OpenVINO has but does not read."""
    import openvino

    ops: Any = openvino.opset8
    x, weight, offsets, bias, mask = (node.get_input(place) for place in range(5))
    pads, (groups, offset_groups) = node.get_attribute("pads"), map(node.get_attribute, ("group", "offset_group"))
    said = ops.deformable_convolution(
        x, offsets, weight, node.get_attribute("strides"), pads[:2], pads[2:], node.get_attribute("dilations"), mask,
        group=groups, deformable_group=offset_groups, bilinear_interpolation_pad=True,
    )  # fmt: skip
    return ops.add(said, ops.unsqueeze(bias, ops.constant([0, 2, 3]))).outputs()


def write_torch(graph: Graph, canvas: tuple[int, int], path: Path, about: About) -> None:
    """The graph as a file of torch.export. Raises ValueError as `trace` does."""
    with warnings.catch_warnings(action="ignore"):
        torch.export.save(trace(graph, canvas), path, extra_files=about.texts())


def _ir() -> Any:
    import onnx_ir

    return onnx_ir
