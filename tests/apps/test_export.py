"""Exported files: they answer what PyTorch answers, or there is no file; what they say of themselves; bad input."""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import Sequential

from benchmarks import exports
from public.apps import evaluate, export, exported
from public.apps.engine_choice import notes_of, ready_files
from public.apps.export import ExportOptions, main, run
from public.apps.export_check import Difference, Limits, difference
from public.apps.export_graph import ClassifierGraph, save_openvino, to_onnx, trace, write_onnx, write_openvino
from public.apps.exported import About, about_of, engine_of, read_exported
from public.apps.predict_engines import load
from public.apps.predict_model import DetectionPredictor, simplify
from public.apps.predict_results import Classified, Detected
from public.backbones import ghostnet, mobilenet_v2, mobilenet_v3
from public.backbones.build import build_from_options as build_classifier
from public.backbones.classifier import ImageClassifier
from public.backbones.efficientnet import MBConv
from public.backbones.lambda_resnet import LambdaBottleneck
from public.backbones.lip_resnet import PoolingBottleneck
from public.backbones.oct_resnet import OctaveLayer, OctBottleneck
from public.backbones.resnest import SplitAttentionBottleneck
from public.config.calls import SIZE, Call
from public.config.record import to_record
from public.config.run import RunConfig
from public.detectors.catalog import build_from_options as build_detector
from public.detectors.suppression import suppress
from public.layers.deform_conv import DeformConv
from public.layers.evo_norm import EvoNormB0
from public.layers.preactivation import PreactivationBottleneck
from public.layers.residual import Bottleneck
from public.runtime.checkpoint import save_checkpoint
from public.transforms.detection import ShortSideResize
from tests.apps.networks import CLASSIFIER, IDS, NAMES, lived, write_pictures
from tests.recipes.tiny_detection import TINY

CANVAS = (64, 96)
ABOUT = About(
    task="classification", network="x", class_names=NAMES, category_ids=None, input_size=(9, 12), score_threshold=None,
    precision="fp32", config={}, versions={},
)  # fmt: skip
EXTRA = {"onnx": "onnxscript", "openvino": "openvino"}


def saved(path: Path, config: RunConfig, module: torch.nn.Module, **entries: Any) -> Path:
    """A checkpoint of three classes."""
    state = {"config": to_record(config), "class_names": NAMES, "model": lived(module).state_dict()}
    assert save_checkpoint(path, state | entries)
    return path


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of few layers, on canvases of many sizes; every score from 0 on counts."""
    torch.manual_seed(0)
    data = replace(TINY.data, val_transforms=(Call(ShortSideResize, short=SIZE, long_cap=90),))
    chosen = replace(TINY.detector, backbone="darknet_tiny", score_threshold=0.0, max_detections=20)
    config = replace(TINY, data=data, detector=chosen)
    path = tmp_path_factory.mktemp("detector") / "best.pth"
    return saved(path, config, build_detector(3, chosen), category_ids=IDS, score_threshold=0.25)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of few layers."""
    torch.manual_seed(0)
    config = replace(CLASSIFIER, network="darknet_tiny")
    network = build_classifier(config.network, 3, config.network_options)
    return saved(tmp_path_factory.mktemp("classifier") / "best.pth", config, network)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of three sizes, of which the tall ones do not fit on the canvas."""
    return write_pictures(tmp_path_factory.mktemp("pictures"))


# ---- what is written -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize("form", ["onnx", "torch"])
def test_a_detector(detector: Path, pictures: list[Path], tmp_path: Path, form: str) -> None:
    """It is tried with 2, 1 and 5 pictures; as weights it predicts what the checkpoint does on the same canvas,
    and is worth the same."""
    pytest.importorskip(EXTRA.get(form, "torch"))
    (tmp_path / "deep").mkdir()
    detector = Path(shutil.copy(detector, tmp_path / "deep/best.pth"))
    output = detector.with_suffix(export.FORMATS[form].ending)
    written = run(ExportOptions(weights=str(detector), format=form, canvas=CANVAS))
    assert written.difference.is_small
    assert written.difference.detections == 8 * 20
    assert {path.name for path in output.parent.iterdir()} == {output.name, "best.pth", "best.engines.json"}

    expected, found = load(detector, device="cpu", engine="torch"), load(output)
    assert isinstance(expected, DetectionPredictor)
    assert isinstance(found, DetectionPredictor)
    assert found.score_threshold == expected.score_threshold == 0.25, "the checkpoint states it"
    assert found.network.category_ids == IDS
    expected.score_threshold = found.score_threshold = 0
    expected.network.canvas = CANVAS
    _check_choice(detector, output, pictures)
    wide = [path for path in pictures if path.stem in "023"]
    for one, other in zip(found(wide), expected(wide), strict=True):
        assert isinstance(one, Detected)
        assert isinstance(other, Detected)
        assert (one.height, one.width, one.names) == (other.height, other.width, other.names)
        np.testing.assert_allclose(one.scores, other.scores, rtol=0, atol=1e-4)
        np.testing.assert_allclose(one.boxes, other.boxes, rtol=0, atol=0.05)
    with pytest.raises(ValueError, match=r"takes canvases of 64x96 .* a picture of 90x70 is resized to 82x64"):
        found(pictures[1])
    if form == "onnx":
        _check_onnx(output)
        write_found(tmp_path / "data", detector, pictures)
        assert 0.1 < check_evaluation(detector, output, tmp_path / "data", ["--time-steps", "0"])["AP50"] < 0.95


def _check_choice(weights: Path, file: Path, pictures: list[Path]) -> None:
    """auto takes the file if it was faster, for pictures with its canvas; of other weights nothing is taken."""
    notes = notes_of(weights)

    def chosen(speed: float) -> Any:
        said = json.loads(notes.read_text())
        said["files"][file.name]["speed"] = speed
        notes.write_text(json.dumps(said))
        return load(weights, device="cpu", score_threshold=0)

    own = chosen(0.9)
    assert own.computed_by == "torch"
    again: Any = load(weights, device="cpu", score_threshold=0, engine=engine_of(file))
    taken = chosen(1.1)
    assert taken.computed_by == f"{engine_of(file)} ({file.name}) on canvases of 64x96, else torch"
    for picture, is_wide in ((pictures[0], True), (pictures[1], False)):
        (one,), (two,), (eager,) = taken(picture), again(picture), own(picture)
        assert np.array_equal(one.boxes, two.boxes)
        assert np.array_equal(one.scores, two.scores)
        assert np.array_equal(one.scores, eager.scores) is not is_wide
        np.testing.assert_allclose(one.scores, eager.scores, rtol=0, atol=1e-4)
    content = weights.read_bytes()
    weights.write_bytes(content + b"trained on")
    assert ready_files(weights) == []
    weights.write_bytes(content)
    assert [ready.path for ready in ready_files(weights)] == [file]


def _check_onnx(path: Path) -> None:
    """What other people's programs see: one suppression by class, metadata, an input that may be left out."""
    import onnx
    import onnxruntime

    model = onnx.load(path)
    (suppression,) = (node for node in model.graph.node if node.op_type == "NonMaxSuppression")
    shapes = {
        one.name: [d.dim_param or d.dim_value for d in one.type.tensor_type.shape.dim] for one in model.graph.value_info
    }
    assert shapes[suppression.input[1]][1] == 3, "scores are [B, C, N]"
    texts = {one.key: json.loads(one.value) for one in model.metadata_props}
    assert (texts["class_names"], texts["input_size"], texts["score_threshold"]) == (NAMES, [*CANVAS], 0.25)
    assert (texts["network"], texts["precision"]) == ("fcos on darknet_tiny", "fp32")
    assert texts["versions"]["torch"] == version("torch")
    images = np.random.default_rng(0).integers(0, 256, (3, 3, *CANVAS), dtype=np.uint8)
    session: Any = onnxruntime.InferenceSession(path)
    whole = session.run(None, {"images": images})
    stated = session.run(None, {"images": images, "content": np.array([CANVAS] * 3)})
    assert all(np.array_equal(one, other) for one, other in zip(whole, stated, strict=True))
    assert [one.shape for one in whole] == [(3, 20, 4), (3, 20), (3, 20)]


@pytest.mark.slow
@pytest.mark.usefixtures("no_plots")
def test_a_classifier(
    classifier: Path, pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By OpenVINO, from the command line; the files lie beside the weights; evaluated, it is worth the same."""
    pytest.importorskip("openvino")
    classifier = Path(shutil.copy(classifier, tmp_path))
    main(["--weights", str(classifier), "--format", "openvino", "--images", str(pictures[0].parent)])
    said = capsys.readouterr().out
    assert re.search(
        r"takes +uint8 \[B, 3, 64, 64\]\ncompared .*: scores by \d\.\de-\d\d\nspeed +\d+\.\d\d times PyTorch's", said
    )
    path = classifier.with_suffix(".xml")
    assert classifier.with_suffix(".bin").is_file()
    found, own = load(path, top_k=2)(pictures), load(classifier, top_k=2, device="cpu", engine="openvino")(pictures)
    for one, other in zip(found, own, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, rtol=0, atol=1e-6)
    notes_of(classifier).unlink()
    with pytest.raises(ValueError, match=r"engine='openvino': .*best\.xml is there, and best\.engines\.json does not"):
        load(classifier, engine="openvino", device="cpu")
    for one, other in zip(found, load(classifier, device="cpu", top_k=2)(pictures), strict=True):
        assert isinstance(one, Classified)
        assert isinstance(other, Classified)
        assert one.names == other.names
        np.testing.assert_allclose(one.probabilities, other.probabilities, rtol=0, atol=1e-4)
    write_classes(tmp_path, pictures)
    assert 0.1 < check_evaluation(classifier, path, tmp_path)["top1"] < 0.95
    assert "computed   on 1 x CPU by openvino in fp32\n" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["regnet_y_200mf", "vovnet19_slim_dw_se"])
def test_other_families(name: str) -> None:
    """By both engines: squeeze-excite by sigmoid and hard sigmoid, ceil-mode pooling, concatenation, grouped and
    depthwise convolution. All networks: `python -m benchmarks.exports`."""
    for package in export.FORMATS["openvino"].packages:
        pytest.importorskip(package)
    said = exports.line(name, exports.Options(size=32))
    found = re.fullmatch(rf"{name} \| scores by (\S+) \| scores by (\S+) \|( rounding: .* \|)? \d+ s", said)
    assert found is not None, said
    assert all(1e-9 < float(score) < 1e-3 for score in found.groups()[:2]), "they are sure of something, and rounded"


class OneOfEach(torch.nn.Module):
    """Images -> the means of what each block makes of 16 channels, side by side."""

    def __init__(self, blocks: Sequence[torch.nn.Module]) -> None:
        super().__init__()
        self.stem, self.blocks = torch.nn.Conv2d(3, 16, 3), torch.nn.ModuleList(blocks)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] -> [B, C]."""
        x = self.stem(images)
        return torch.cat([block(x).mean((2, 3)) for block in self.blocks], 1)


@pytest.mark.slow
def test_a_block_of_each_other_family(tmp_path: Path) -> None:
    """All that the networks above do not have, in one file, by both engines; whole networks take minutes."""
    for package in (*export.FORMATS["openvino"].packages, "onnxruntime"):
        pytest.importorskip(package)
    torch.manual_seed(0)
    dilated = Bottleneck(16, 4)
    dilated.conv2 = torch.nn.Conv2d(4, 4, 3, padding=2, dilation=2)  # detnet's, whose own has 1024 channels
    wide = OctBottleneck(16, 8, 1, 0.0, 0.25)
    blocks = [
        mobilenet_v2.InvertedResidual(16, 16, 1, 2),
        SplitAttentionBottleneck(16, 8, 2),
        OctaveLayer(wide, OctBottleneck(32, 16, 2, 0.25, 0.25), low_in=0),
        LambdaBottleneck(16, 8, 2),
        PreactivationBottleneck(16, 8, 2, EvoNormB0, torch.nn.Identity),
        PreactivationBottleneck(16, 8, 2, torch.nn.BatchNorm2d, torch.nn.ReLU),
        PoolingBottleneck(16, 4),
        dilated,
        mobilenet_v3.InvertedResidual(16, mobilenet_v3.Row(5, 24, 16, True, torch.nn.Hardswish, 1)),
        MBConv(16, 16, 3, 1, 2),
        ghostnet.GhostBottleneck(16, ghostnet.Row(3, 24, 24, True, 2), 1.0),
    ]
    network = ImageClassifier(lived(OneOfEach(blocks)), mean=[0.5] * 3, std=[0.2] * 3).eval()
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 33, 30), dtype=np.uint8)
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).log_softmax(1).numpy()
    assert expected.std() > 0.2, "its blocks say something"
    simplify(network, network, torch.device("cpu"), torch.float32)
    program = to_onnx(ClassifierGraph(network).eval(), (33, 30), for_openvino=True)
    program.save(tmp_path / "a.onnx")
    save_openvino(program.model_proto.SerializeToString(), tmp_path / "a.xml", ABOUT)
    for engine, path in (("onnxruntime", tmp_path / "a.onnx"), ("openvino", tmp_path / "a.xml")):
        found = np.log(exported.FILE_FORMATS[engine].read(path)[1](images)[0])
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5, err_msg=engine)


class Suppressing(torch.nn.Module):
    """Boxes that lie apart, or reach the threshold, or are above it, of one class."""

    inputs, outputs = ("images",), ("stays",)

    def __init__(self, boxes: list[list[float]], iou_threshold: float) -> None:
        super().__init__()
        self.boxes, self.iou_threshold = torch.tensor(boxes), iou_threshold

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [B, 3, H, W] -> bool [B, N]."""
        nothing = images.flatten(1).sum(1).mul(0.0)[:, None]
        scores = torch.arange(len(self.boxes), 0, -1) / 10 + nothing
        return suppress(self.boxes + nothing[:, :, None], scores, scores.long().mul(0), self.iou_threshold, 2)


@pytest.mark.parametrize(("iou_threshold", "stays"), [(0.5, [1, 1, 1, 0]), (0.0, [1, 0, 1, 0]), (1.0, [1, 1, 1, 1])])
def test_suppression_of_equal_overlaps(tmp_path: Path, iou_threshold: float, stays: list[int]) -> None:
    """A box goes for more than the threshold alone, by OpenVINO too, which drops those that reach it (findings/)."""
    pytest.importorskip("onnxscript")
    pytest.importorskip("openvino")
    boxes = [[0.0, 0, 10, 10], [0, 0, 10, 5], [20, 20, 30, 30], [0, 0, 10, 9]]
    graph: Any = Suppressing(boxes, iou_threshold).eval()
    images = np.zeros((2, 3, 8, 8), np.uint8)
    assert graph(torch.from_numpy(images)).int().tolist() == [stays] * 2
    for name, write in (("a.onnx", write_onnx), ("a.xml", write_openvino)):
        write(graph, (8, 8), tmp_path / name, ABOUT)
        engine = {"a.onnx": "onnxruntime", "a.xml": "openvino"}[name]
        found = exported.FILE_FORMATS[engine].read(tmp_path / name)[1](images)[0]
        assert found.astype(int).tolist() == [stays] * 2, engine


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classifier", "detector"])
def test_int8(
    classifier: Path, detector: Path, pictures: list[Path], tmp_path: Path, task: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Layers but the first three have int8 weights by channel, decoding has none; the answers are near."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    (tmp_path / "wide").mkdir()
    wide = [shutil.copy(path, tmp_path / "wide") for path in pictures if path.stem in "02"]
    weights, canvas = (classifier, None) if task == "classifier" else (detector, CANVAS)
    output, shown = tmp_path / "a.onnx", str(Path(wide[0]).parent)
    asked = {"precision": "int8", "calibrate": shown, "images": shown, "canvas": canvas}
    if task == "classifier":
        write_classes(tmp_path, pictures)
        asked["split"] = str(tmp_path)
    written = run(ExportOptions(weights=str(weights), output=str(output), **asked))
    assert 1e-4 < written.difference.score < 0.05, "rounded, and not much"
    said = capsys.readouterr().out
    if task == "classifier":
        assert written.worth is not None
        assert f"top1 {written.worth[0]:.4f} by PyTorch in fp32, {written.worth[1]:.4f} by the file (" in said
        assert 0.1 < written.worth[0] < 0.95
    else:
        assert "worth      not known: --split FOLDER says the change in AP50\n" in said
    assert [path.name for path in tmp_path.glob("*.onnx")] == ["a.onnx"]
    assert read_exported(output, "onnxruntime")[0].precision == "int8"
    graph = onnx.load(output).graph
    makers = {name: node for node in graph.node for name in node.output}
    constants = {one.name: one for one in graph.initializer}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    of_first = {makers[name].op_type for node in layers[:3] for name in node.input if name in makers}
    assert "DequantizeLinear" not in of_first
    for node in graph.node:
        if node.op_type == "Conv" and node not in layers[:3]:
            weight = constants[makers[node.input[1]].input[0]]
            scale = constants[makers[node.input[1]].input[1]]
            assert (weight.data_type, [*scale.dims]) == (onnx.TensorProto.INT8, [weight.dims[0]])
            assert makers[node.input[0]].op_type == "DequantizeLinear"
        if node.op_type in ("NonMaxSuppression", "TopK", "Exp"):
            assert makers[node.input[0]].op_type != "DequantizeLinear"


@pytest.mark.slow
def test_deformable_convolution_in_openvino(tmp_path: Path) -> None:
    """Taps between pixels and beyond the border; OpenVINO has no rule of its own to read it from ONNX."""
    form = "openvino"
    for package in export.FORMATS[form].packages:
        pytest.importorskip(package)
    torch.manual_seed(0)
    layer = DeformConv(3, 4)
    torch.nn.init.normal_(layer.conv_offset_mask.weight, std=0.5)
    torch.nn.init.normal_(layer.bias)
    network = Sequential(layer, torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    graph = ClassifierGraph(ImageClassifier(network, mean=[0.5] * 3, std=[0.2] * 3)).eval()
    path = tmp_path / f"a{export.FORMATS[form].ending}"
    export.FORMATS[form].write(graph, (9, 12), path, ABOUT)
    read, answer = read_exported(path, export.FORMATS[form].engine)
    assert read == ABOUT
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 9, 12), dtype=np.uint8)
    with torch.no_grad():
        expected = graph(torch.from_numpy(images)).numpy()
    assert expected.std() > 0.05
    np.testing.assert_allclose(answer(images)[0], expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_another_answer_is_no_file(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One probability is wrong by 0.001: exit code 1, and nothing is left."""

    def read_wrong(path: Path, engine: str) -> Any:
        about, answer = read_exported(path, engine)

        def wrong(*arrays: np.ndarray) -> list[np.ndarray]:
            (said,) = answer(*arrays)
            said[0, 0] += 0.001
            return [said]

        return about, wrong

    monkeypatch.setattr(export, "read_exported", read_wrong)
    with pytest.raises(SystemExit, match="1"):
        main(["--weights", str(classifier), "--format", "torch", "--output", str(tmp_path / "a.pt2")])
    assert "a.pt2 is not written: beside PyTorch it differs in scores by 1.0e-03; allowed" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_training_mode_is_refused() -> None:
    """An exporter would only warn, and write batch norms that normalize by the batch."""
    network = ImageClassifier(Sequential(torch.nn.Flatten(), torch.nn.Dropout()), mean=[0.5] * 3, std=[0.5] * 3)
    graph = ClassifierGraph(network).eval()
    network.network[1].train()  # pyright: ignore[reportIndexIssue]
    with pytest.raises(ValueError, match=r"classifier\.network\.1 is in training mode"):
        trace(graph, (8, 8))


def check_evaluation(checkpoint: Path, file: Path, data: Path, timing: Sequence[str] = ()) -> dict[str, float]:
    """The exported file has the metrics of the checkpoint, which are given."""
    metrics = []
    for path, more in ((checkpoint, ["--device", "cpu", "--precision", "fp32", *timing]), (file, [])):
        output = data / f"evaluated{path.suffix}"
        asked = ["--data.folder", str(data), "--output", str(output), "--num-workers", "0", "--batch-size", "2"]
        evaluate.main(["--weights", str(path), *asked, *more])
        written = json.loads((output / "metrics.json").read_text())
        metrics.append({name: value for name, value in written.items() if isinstance(value, float)})
    expected, found = metrics
    assert found.keys() == expected.keys()
    np.testing.assert_allclose([*found.values()], [*expected.values()], rtol=0, atol=1e-4)
    return expected


def write_classes(folder: Path, pictures: list[Path]) -> None:
    """The validation split of a classifier's three classes, in turn."""
    for number, picture in enumerate(pictures):
        place = folder / "val" / NAMES[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, place)


def write_found(folder: Path, weights: Path, pictures: list[Path]) -> None:
    """Wide pictures, on which every third of the detector's best detections is an object."""
    wide = [path for path in pictures if path.stem in "02"]
    truth: dict[str, Any] = {"images": [], "annotations": []}
    truth["categories"] = [{"id": number, "name": name} for number, name in zip(IDS, NAMES, strict=True)]
    (folder / "annotations").mkdir(parents=True)
    (folder / "images/val2017").mkdir(parents=True)
    for image_id, said in enumerate(load(weights, device="cpu", score_threshold=0)(wide)):
        assert isinstance(said, Detected)
        shutil.copy(wide[image_id], folder / "images/val2017")
        size = {"height": said.height, "width": said.width}
        truth["images"].append({"id": image_id, "file_name": wide[image_id].name, **size})
        for (x1, y1, x2, y2), label in zip(said.boxes[::3].tolist(), said.labels[::3].tolist(), strict=True):
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
            number = len(truth["annotations"]) + 1
            truth["annotations"].append({"id": number, "image_id": image_id, "category_id": IDS[label], **box})
    (folder / "annotations/instances_val2017.json").write_text(json.dumps(truth))


# ---- what is compared ------------------------------------------------------------------------------------------------

LIMITS = Limits(score_threshold=0.05, iou_threshold=0.5)
Row = tuple[Sequence[float], float, int]


def answer(*rows: Row, size: int = 4) -> list[np.ndarray]:
    """Of one picture, filled up."""
    rows += (([0, 0, 0, 0], 0.0, -1),) * (size - len(rows))
    boxes, scores, labels = zip(*rows, strict=True)
    return [np.array([boxes], np.float32), np.array([scores], np.float32), np.array([labels], np.int64)]


ONE: Row = ([0, 0, 10, 10], 0.9, 0)
TWO: Row = ([20, 20, 30, 40], 0.8, 0)


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        ([ONE, TWO], Difference(0, 0, 0, 2)),
        ([TWO, ONE], Difference(0, 0, 0, 2)),
        ([ONE, ([20, 20.25, 30, 40], 0.75, 0)], Difference(0.05, 0.25, 0, 2)),
        ([ONE, (TWO[0], 0.8, 1)], Difference(0, 0, 2, 3)),  # another class: each has one that the other has not
        ([ONE], Difference(0, 0, 1, 2)),
        ([ONE, TWO, ([50, 50, 60, 60], 0.05005, 0)], Difference(0, 0, 0, 3)),  # just above the threshold
        ([ONE, TWO, ([50, 50, 60, 60], 0.0502, 0)], Difference(0, 0, 1, 3)),
        ([ONE, TWO, ([0, 0, 10, 5], 0.5, 0)], Difference(0, 0, 0, 3)),  # IoU 0.5 with the first
        ([ONE, TWO, ([0, 0, 10, 5], 0.5, 1)], Difference(0, 0, 1, 3)),  # ... of another class
        ([ONE, TWO, ([0, 0, 10, 4.9], 0.5, 0)], Difference(0, 0, 1, 3)),
    ],
)
def test_the_differences_of_detections(theirs: list[Row], expected: Difference) -> None:
    """Two boxes against others."""
    np.testing.assert_allclose(difference(answer(ONE, TWO), answer(*theirs), LIMITS), expected, atol=1e-6)


def test_the_last_place_may_be_anybodys() -> None:
    """Where there is no more room, equals of the last one are left out by either side."""
    third, fourth = ([50, 50, 60, 60], 0.7, 0), ([70, 50, 80, 60], 0.7, 0)
    ours, theirs = answer(ONE, TWO, third, size=3), answer(ONE, TWO, fourth, size=3)
    assert difference(ours, theirs, LIMITS) == Difference(0, 0, 0, 4)
    assert difference(answer(ONE, TWO, third), answer(ONE, TWO, fourth), LIMITS).alone == 2


def test_what_one_side_alone_found_is_of_what_either_found() -> None:
    """Not of what PyTorch found, of which there may be less, or nothing."""
    assert str(difference(answer(), answer(ONE, TWO), LIMITS)) == (
        "scores by 0.0e+00, boxes by 0.0e+00 px, 2 of 2 boxes found by one side alone"
    )


def test_what_is_no_number_is_no_answer() -> None:
    """It is as far away as can be."""
    assert difference([np.array([[0.5]])], [np.array([[np.nan]])], None).score == np.inf


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--weights", "absent.pth"], "there is no absent.pth"),
        (["--weights", ""], "'' is the name of no file"),
        (["--weights", "{detector}", "--output", "a.pt2"], "output='a.pt2': files of format='onnx' end in .onnx"),
        (
            ["--weights", "{detector}", "--precision", "bf16"],
            "precision='bf16' with format='onnx': that is computed by",
        ),
        (
            ["--weights", "{detector}", "--precision", "int8", "--calibrate", "x", "--format", "openvino"],
            "precision='int8' with format='openvino': that is computed by onnx.",
        ),
        (["--weights", "{detector}", "--precision", "int8"], "takes its ranges from pictures: --precision int8 --cal"),
        (["--weights", "{detector}"], "give --canvas HEIGHT WIDTH, or --images"),
        (["--weights", "{detector}", "--canvas", "60", "96"], "canvas=(60, 96) must be multiples of 32"),
        (["--weights", "{detector}", "--canvas", "64", "64", "--images", "{pictures}"], "need one of 96 96"),
        (["--weights", "{detector}", "--network", "fcos"], "is a checkpoint of ours"),
        (["--weights", "{detector}", "--format", "tflite"], "tflite"),
        (["--weights", "{detector}", "--canvas", "64", "96", "--output", "{detector}/a.onnx"], "can be written to"),
        (["--weights", "{classifier}", "--canvas", "64", "64"], "a classifier's size is what its transforms"),
        (["--weights", "{classifier}", "--images", "absent/"], "no image at 'absent/'"),
        (["--weights", "{classifier}", "--images", "{text}"], "text.pth cannot be read as an image"),
        (["--weights", "a.onnx"], "weights='a.onnx' was exported already"),
        (["--weights", "{text}", "--network", "resnet18"], "text.pth"),
        (["--weights", "{text}"], "need its name beside them: --network NAME"),
    ],
)
def test_what_cannot_be_exported(
    detector: Path, classifier: Path, pictures: list[Path], tmp_path: Path,
    args: list[str], message: str, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """One sentence, exit code 2."""
    (tmp_path / "text.pth").write_text("no weights")
    places = {"detector": detector, "classifier": classifier, "pictures": pictures[0].parent}
    with pytest.raises(SystemExit, match="2"):
        main([one.format(text=tmp_path / "text.pth", **places) for one in args])
    said = capsys.readouterr().err
    assert message in " ".join(said.split())
    assert "Traceback" not in said


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It is named, with the command that brings it."""
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(SystemExit, match="2"):
        main(["--weights", "best.pth"])
    assert 'needs onnxscript, which this Python has not: pip install -e ".[export]"' in capsys.readouterr().err


class Fail(Exception):
    """As onnxruntime has one, which is no RuntimeError."""


def run_out(*_: Any) -> Any:
    """In onnxruntime's words."""
    raise Fail(
        "[ONNXRuntimeError] : 1 : FAIL : bfc_arena.cc:360 Failed to allocate memory for requested buffer of size 9"
    )


def test_memory_that_does_not_suffice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence and exit code 1; whoever reads or runs a file is told of it by Python's own kind of error."""
    monkeypatch.setattr(export, "run", run_out)
    with pytest.raises(SystemExit, match="1"):
        main(["--weights", "best.pth"])
    assert capsys.readouterr().err == (
        "error: memory does not suffice for writing this network and trying the file (Failed to allocate memory for "
        "requested buffer of size 9): a smaller --canvas, and fewer pictures for --calibrate, need less.\n"
    )
    path, texts = tmp_path / "a.pt2", ABOUT.texts()
    path.touch()
    for read in (run_out, lambda _: (texts, run_out)):
        monkeypatch.setitem(exported.FILE_FORMATS, "torch.export", exported.FileFormat((".pt2",), "torch", read))
        with pytest.raises(MemoryError, match="Failed to allocate memory"):
            read_exported(path, "torch.export")[1]()


@pytest.mark.slow
def test_files_that_openvino_cannot_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """What is wrong is said, without the places in OpenVINO's source before it, and nothing else is printed."""
    pytest.importorskip("openvino", reason='OpenVINO is not installed: pip install -e ".[export]"')
    path = tmp_path / "a.xml"
    for text, reason in {
        "<a/>": "it is no network of OpenVINO's.",
        '<net name="x" version="11"><layers><lay': "Error parsing start element tag",
    }.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=re.escape(f"{path} cannot be read by openvino: {reason}")):
            load(path)
    assert not capfd.readouterr().err


@pytest.mark.slow
def test_files_that_are_none_of_ours(
    classifier: Path, image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Damaged, written by something else, or asked for something that they are not."""
    path = tmp_path / "a.pt2"
    with pytest.raises(FileNotFoundError, match=r"there is no .*a\.pt2"):
        load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"a\.pt2 cannot be read by torch\.export: it is no archive, or its end is"):
        load(path)
    assert not capsys.readouterr().err, "torch would print a traceback"
    run(ExportOptions(weights=str(classifier), format="torch", output=str(path)))
    with pytest.raises(ValueError, match=r"precision='bf16': .*a\.pt2 computes in fp32; leave it out"):
        load(path, precision="bf16")
    with pytest.raises(ValueError, match=r"knows its network, classes and size: leave out network='resnet18'"):
        load(path, network="resnet18")
    with pytest.raises(ValueError, match=r"device='cuda': .*a\.pt2 is computed on the CPU"):
        load(path, device="cuda")
    with pytest.raises(ValueError, match=r"engine='openvino' does not take weights='.*a\.pt2'"):
        load(path, engine="openvino")
    with pytest.raises(ValueError, match=r"does not say its task, network"):
        about_of(path, {"class_names": "[]"})
    with pytest.raises(ValueError, match=r"what it says of itself cannot be read"):
        about_of(path, dict.fromkeys(read_exported(path, "torch.export")[0].texts(), "no JSON"))

    for args, message in {
        ("folder",): "an exported file knows its network and its data: leave out 'folder'",
        ("--data.folder", str(image_folder)): "classes that are not trained on: bird; expected some or all of cat, dog",
        ("--data.dataset", "none"): "there is no such one",
    }.items():
        with pytest.raises(SystemExit, match="2"):
            evaluate.main([*args, "--weights", str(path), "--num-workers", "0"])
        assert message in capsys.readouterr().err
    monkeypatch.setattr(exported, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"a\.onnx needs onnxruntime, which this Python has not: pip install"):
        exported.read_exported(tmp_path / "a.onnx", "onnxruntime")
