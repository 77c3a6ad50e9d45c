"""An ONNX file in int8, quantized by onnxruntime from pictures: QDQ nodes, uint8 activations, int8 weights by channel.

Quantized are the layers with weights and what lies between them. What follows the heads is not: decoding,
suppression, the choice of the best, and with them a second stage. Nor are the first layers: COCO's AP on the
blood cells (BCCD's val split, MobileNetV2) lost 0.57 and 0.30 points with them, RetinaNet and FCOS, and 0.49 and 0.08
without.
"""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

MOST_PICTURES = 300
"""That ranges are taken from."""
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_BETWEEN = ("Add", "AveragePool", "Clip", "GlobalAveragePool", "LeakyRelu", "MaxPool", "Relu", "Resize")
_ACTIVATIONS = ("Clip", "LeakyRelu", "Relu")
_NUM_FIRST = 3
"""Layers that stay in fp32, with what is before them and the activations behind them."""
_CHOOSING = ("NonMaxSuppression", "TopK")


def quantize(path: Path, inputs: Iterable[tuple[np.ndarray, ...]]) -> None:
    """Puts an int8 file in the place of one in fp32.

    Args:
        path: of the file, which keeps its inputs, outputs and metadata.
        inputs: arrays in the order of the file's inputs, one picture each; ranges are the largest seen.
    """
    import onnx
    import onnxruntime
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    model = onnx.load(path)
    source = path.with_suffix(".fp32.onnx")
    _rename_constants(model.graph)
    onnx.save(model, source)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it warns there of steps that our file does not need
    onnxruntime.set_default_logger_severity(3)  # and here of the input that has a default
    try:
        quantize_static(
            source,
            path,
            _reader([one.name for one in model.graph.input], iter(inputs)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[*_LAYERS, *_BETWEEN],
            nodes_to_exclude=_excluded(model.graph.node),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
    finally:
        root.setLevel(level)
        onnxruntime.set_default_logger_severity(2)  # as it begins
        source.unlink()
    written = onnx.load(path)
    del written.metadata_props[:]
    written.metadata_props.extend(model.metadata_props)
    onnx.save(written, path)


def _rename_constants(graph: Any) -> None:
    """Gives each constant a name that stays unique with a number behind it: so onnxruntime calls copies of a bias that
    several layers share, whether or not something has the name."""
    inputs = {one.name for one in graph.input}
    names = {one.name: f"{one.name}_constant" for one in graph.initializer if one.name not in inputs}
    for one in graph.initializer:
        one.name = names.get(one.name, one.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def _reader(names: list[str], inputs: Iterator[tuple[np.ndarray, ...]]) -> Any:
    """The inputs as onnxruntime takes them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def get_next(self) -> Any:
            arrays = next(inputs, None)
            return None if arrays is None else dict(zip(names, arrays, strict=True))

    return Reader()


def _excluded(nodes: Iterable[Any]) -> list[str]:
    """The names of nodes that are not quantized: the first layers, and what comes after a choice of the best or has no
    layer at or after it.

    Args:
        nodes: of a graph, each after those whose outputs it takes.
    """
    nodes = list(nodes)
    chosen: set[str] = set()  # values that depend on a choice
    for node in nodes:
        if node.op_type in _CHOOSING or not chosen.isdisjoint(node.input):
            chosen.update(node.output)
    used: set[str] = set()  # values that a layer depends on
    excluded = []
    for node in reversed(nodes):
        is_layer = node.op_type in _LAYERS and chosen.isdisjoint(node.output)
        if is_layer or not used.isdisjoint(node.output):
            used.update(node.input)
        else:
            excluded.append(node.name)
    first = [place for place, node in enumerate(nodes) if node.op_type in _LAYERS][:_NUM_FIRST]
    begin = nodes[: first[-1] + 1] if first else []
    given = {name for node in begin for name in node.output}
    behind = [node for node in nodes if node.op_type in _ACTIVATIONS and node.input[0] in given]
    return sorted({*excluded, *(node.name for node in (*begin, *behind))})
