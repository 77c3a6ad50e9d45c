"""Pictures in, typed results out: the same bits whichever way it is asked, and what the evaluation computes."""

import io
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from public.apps import predict_engines
from public.apps.predict import predictions
from public.apps.predict_engines import Engine, load
from public.apps.predict_model import DetectionPredictor, Predictor, pixels_of
from public.apps.predict_results import Classified, Detected, Result
from public.apps.predict_sources import file_frame
from public.backbones.catalog import build_backbone
from public.backbones.trained import load_classifier
from public.datasets.decoding import read_pixels
from public.detectors.catalog import build_from_options as build_detector
from public.detectors.retinanet.options import RetinaNetOptions
from public.detectors.trained import load_detector
from tests.apps.networks import IDS, NAMES, save_classifier, save_detector, write_pictures


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of three sizes."""
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint."""
    return save_detector(tmp_path_factory.mktemp("detector") / "best.pth")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint."""
    return save_classifier(tmp_path_factory.mktemp("classifier") / "best.pth")


@pytest.fixture(params=["detector", "classifier"])
def predict(request: pytest.FixtureRequest) -> Predictor:
    """Of either task; every detection counts."""
    of_task = {"score_threshold": 0.0} if request.param == "detector" else {}
    return load(request.getfixturevalue(request.param), device="cpu", **of_task)


def numbers(result: Result) -> list[bytes]:
    """All that was computed, bit for bit."""
    arrays = [getattr(result, name) for name in ("labels", "scores", "boxes", "probabilities") if hasattr(result, name)]
    assert len(arrays) == 3
    assert all(len(array) for array in arrays)
    return [array.tobytes() for array in arrays]


# ---- the same numbers ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_same_bits_however_it_is_asked(predict: Predictor, pictures: list[Path]) -> None:
    """Alone or with others of any size, as path, text, array or tensor, from OpenCV's order, in a batch."""
    together = predict(pictures)
    expected = [numbers(result) for result in together]
    assert len({tuple(one) for one in expected}) == len(pictures), "the pictures do matter"
    assert [result.source for result in together] == [str(path) for path in pictures]
    assert [numbers(one) for path in pictures for one in predict(path)] == expected
    assert [numbers(one) for one in predict([str(path) for path in reversed(pictures)])] == expected[::-1]
    arrays = [read_pixels(path) for path in pictures]
    assert [numbers(one) for one in predict(arrays)] == expected
    assert [one.source for one in predict(arrays[:2])] == ["picture 0", "picture 1"]
    bgr = cv2.imread(str(pictures[0]))
    assert bgr is not None
    assert numbers(predict(bgr[..., ::-1])[0]) == expected[0]
    tensors = [torch.from_numpy(array).permute(2, 0, 1) for array in arrays]
    assert [numbers(one) for one in predict(tensors)] == expected
    assert [numbers(one) for one in predict(torch.stack([tensors[0], tensors[2]]))] == [expected[0], expected[2]]
    images = [Image.open(path) for path in pictures]
    assert [numbers(one) for one in predict(images)] == expected
    assert numbers(predict(images[1])[0]) == expected[1]
    assert predict([]) == []


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
@pytest.mark.parametrize("is_opened", [True, False])
def test_a_pil_image_has_the_pixels_of_its_file(tmp_path: Path, mode: str, is_opened: bool) -> None:
    """Whatever its mode, as it is opened or as it is held in memory; it stays what it was."""
    rng = np.random.default_rng(0)
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, (5, 6), dtype=np.uint16))
    else:
        image = Image.fromarray(rng.integers(0, 256, (5, 6, 4), dtype=np.uint8)).convert("RGB").convert(mode)
    image.save(tmp_path / "a.png")
    if is_opened:
        image = Image.open(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels_of(image), read_pixels(tmp_path / "a.png"))
    assert image.mode == mode


def test_a_pil_image_is_turned_upright(tmp_path: Path, pictures: list[Path]) -> None:
    """As its file is; PIL and OpenCV decode a JPEG file alike."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(pictures[0]).save(tmp_path / "turned.jpg", exif=exif)
    pixels = pixels_of(Image.open(tmp_path / "turned.jpg"))
    assert pixels.shape == (90, 70, 3)
    np.testing.assert_allclose(pixels.astype(int), read_pixels(tmp_path / "turned.jpg").astype(int), atol=4)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """PyTorch has two, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("network", ["resnet18", "mobilenet_v2", "efficientnet_b0", "regnet_x_400mf", "vovnet19_dw_se"])
def test_several_at_the_same_time(network: str, pictures: list[Path], tmp_path: Path) -> None:
    """A classifier's pictures on a CPU, each by one thread: the bits of each alone, and of the command."""
    torch.manual_seed(0)
    torch.save(build_backbone(network, 3).state_dict(), tmp_path / "some.pth")
    given: dict[str, Any] = {"network": network, "classes": ("3",), "input_size": 64, "device": "cpu"}
    predict = load(tmp_path / "some.pth", **given)
    threads = set()
    run = predict._run

    def note(samples: list[Any]) -> Any:
        threads.add((threading.get_ident(), torch.get_num_threads()))
        return run(samples)

    predict._run = note
    expected = [numbers(one) for path in pictures for one in predict(path)]
    assert threads == {(threading.get_ident(), 2)}
    threads.clear()
    assert [numbers(one) for one in predict(pictures)] == expected
    assert {number for _, number in threads} == {1}
    assert threading.get_ident() not in {thread for thread, _ in threads}
    threads.clear()
    told = [result for _, _, result in predictions(predict, map(file_frame, pictures))]
    assert ([numbers(one) for one in told], {number for _, number in threads}) == (expected, {1})
    one_by_one = load(tmp_path / "some.pth", batch_size=1, **given)
    assert (one_by_one.at_once, predict.at_once, torch.get_num_threads()) == (1, 2, 2)


@pytest.mark.slow
def test_batches_of_one_canvas_always_full(predict: Predictor, pictures: list[Path]) -> None:
    """As on a GPU: three at once. Those of a canvas go together, what is missing is filled up, the order stays."""
    expected = predict(pictures)
    run, batches = predict._run, []

    def note(samples: list[Any]) -> Any:
        batches.append(len(samples))
        return run(samples)

    predict.batch_size, predict.by_threads, predict._run = 3, False, note
    found = predict(pictures)
    assert batches == ([3, 3, 3] if isinstance(predict, DetectionPredictor) else [3, 3])
    assert [one.source for one in found] == [one.source for one in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
        assert (one.height, one.width, one.names) == (other.height, other.width, other.names)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_detections_as_in_the_evaluation(detector: Path, pictures: list[Path], precision: str) -> None:
    """`load_detector` has the network as test.sh has it: batch norms are layers, memory is NCHW."""
    predict = load(detector, device="cpu", precision=precision, score_threshold=0.0)
    assert isinstance(predict, DetectionPredictor)
    assert not any(isinstance(one, nn.BatchNorm2d) for one in predict.network.image_detector.modules())
    evaluated = load_detector(detector, device="cpu", precision=precision)
    bounds = {"fp32": (1e-4, 0.05), "bf16": (0.02, 4.0)}[precision]
    for result, path in zip(predict(pictures), pictures, strict=True):
        expected = evaluated(path)
        assert isinstance(result, Detected)
        assert len(result) == len(expected.labels) == 20
        if precision == "fp32":
            assert result.labels.tolist() == expected.labels.tolist()
            assert result.names == expected.names
        np.testing.assert_allclose(result.scores, expected.scores, rtol=0, atol=bounds[0])
        if precision == "fp32":
            np.testing.assert_allclose(result.boxes, expected.boxes, rtol=0, atol=bounds[1])
        assert (result.boxes.dtype, result.scores.dtype, result.labels.dtype) == (np.float32, np.float32, np.int64)


@pytest.mark.slow
def test_classes_as_in_the_evaluation(classifier: Path, pictures: list[Path]) -> None:
    """All probabilities, and the likeliest classes by name, best first."""
    evaluated = load_classifier(classifier, device="cpu")
    for result, path in zip(load(classifier, device="cpu", top_k=2)(pictures), pictures, strict=True):
        assert isinstance(result, Classified)
        expected = evaluated(path)
        np.testing.assert_allclose(result.probabilities, expected, rtol=0, atol=1e-4)
        assert result.labels.tolist() == np.argsort(-expected)[:2].tolist()
        assert result.scores.tolist() == result.probabilities[result.labels].tolist()
        assert result.names == [NAMES[label] for label in result.labels]
    assert len(load(classifier, device="cpu")(pictures)[0]) == 3, "no more classes than there are"


@pytest.mark.slow
def test_the_threshold(detector: Path, pictures: list[Path], tmp_path: Path) -> None:
    """What is asked for, else what the checkpoint states, else 0.3; a score equal to it counts."""
    scores = load(detector, device="cpu", score_threshold=0)(pictures[0])[0].scores
    stated = save_detector(tmp_path / "best.pth", score_threshold=float(scores[4]))
    assert load(stated, device="cpu")(pictures[0])[0].scores.tolist() == scores[:5].tolist()
    assert len(load(stated, device="cpu", score_threshold=float(scores[1]))(pictures[0])[0]) == 2
    assert len(load(stated, device="cpu", score_threshold=0)(pictures[0])[0]) == 20
    usual: Any = load(detector, device="cpu")
    assert usual.score_threshold == 0.3


# ---- from other weights ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_weights_of_a_classifier(tmp_path: Path, pictures: list[Path]) -> None:
    """The network by its name; classes by names, a file of them, or their number."""
    torch.manual_seed(0)
    torch.save(build_backbone("darknet_tiny", num_classes=3).state_dict(), tmp_path / "bare.pth")
    (tmp_path / "names.txt").write_text("cat\n\ndog\nowl\n")
    named = {
        ("cat", "dog", "owl"): {"cat", "dog", "owl"},
        (str(tmp_path / "names.txt"),): {"cat", "dog", "owl"},
        ("3",): {"0", "1", "2"},
    }
    found = []
    for classes, names in named.items():
        predict = load(tmp_path / "bare.pth", network="darknet_tiny", classes=classes, input_size=96, device="cpu")
        (result,) = predict(pictures[0])
        assert set(result.names) == names
        found.append(numbers(result))
        assert predict.prepare(read_pixels(pictures[0]), "").canvas == (96, 96)
    assert found[0] == found[1] == found[2]
    expected = (
        r"of another number of classes than the 5 that are named \(0, 1, 2, \.\.\.\): .*\[3.*given.*\[5.*expected\.$"
    )
    with pytest.raises(ValueError, match=expected):
        load(tmp_path / "bare.pth", network="darknet_tiny", classes=("5",), input_size=96, device="cpu")


@pytest.mark.slow
def test_weights_of_a_detector(tmp_path: Path, pictures: list[Path]) -> None:
    """COCO's classes with its own numbers; settings of the detector; the size of the canvas."""
    options = RetinaNetOptions(backbone="mobilenet_v2", levels=("p4", "p5"), channels=32, num_convs=1)
    torch.save(build_detector(80, options).state_dict(), tmp_path / "bare.pth")
    where = {"network": "retinanet", "detector": options, "device": "cpu", "score_threshold": 0.0}
    predict = load(tmp_path / "bare.pth", **where, input_size=64)
    assert isinstance(predict, DetectionPredictor)
    assert (len(predict.class_names), predict.class_names[0], predict.class_names[-1]) == (80, "person", "toothbrush")
    assert (predict.network.category_ids[0], predict.network.category_ids[-1]) == (1, 90)
    assert predict.prepare(read_pixels(pictures[0]), "").canvas == (64, 64)
    assert isinstance(predict(pictures[0])[0], Detected)
    with pytest.raises(
        ValueError, match=r"than the 2 that are named \(cat, dog\).*cls_logits.*\[720, .*given.*\[18, .*expected"
    ):
        load(tmp_path / "bare.pth", **where, classes=("cat", "dog"))


@pytest.mark.slow
def test_what_cannot_be_loaded(detector: Path, classifier: Path, tmp_path: Path) -> None:
    """No file, a damaged one, weights that do not say what they fit, and settings that contradict them."""
    torch.save({"weight": torch.zeros(1)}, tmp_path / "bare.pth")
    (tmp_path / "half.pth").write_bytes(detector.read_bytes()[:3000])
    (tmp_path / "none.txt").write_text("\n")
    expected: list[tuple[dict[str, Any], str]] = [
        ({"weights": tmp_path / "missing.pth"}, r"there is no .*missing\.pth"),
        ({"weights": tmp_path / "half.pth"}, r"half\.pth cannot be read as a checkpoint"),
        ({"weights": tmp_path / "bare.pth"}, r"it may be bare weights\. Weights that do not .*: --network NAME\."),
        ({"weights": "timm:resnet50"}, r"no checkpoint at timm:resnet50\. Weights that do not .*: --network NAME\."),
        ({"weights": detector, "network": "fcos"}, r"knows its network.*: leave out network='fcos'\."),
        ({"weights": classifier, "classes": ("2",)}, r"knows its network.*: leave out classes=\('2',\)\."),
        ({"weights": tmp_path / "bare.pth", "network": "resnet5"}, r"resnet5.*nearest.*resnet50"),
        ({"weights": tmp_path / "bare.pth", "network": "resnet50"}, r"not one of the 1 keys"),
        ({"weights": tmp_path / "bare.pth", "network": "fcos", "classes": ("a", "b", "a")}, "a stands there twice"),
        (
            {"weights": tmp_path / "bare.pth", "network": "fcos", "classes": (str(tmp_path / "none.txt"),)},
            r"there is no name of a class",
        ),
        (
            {"weights": detector, "engine": "tensorflow"},
            r"engine='tensorflow': there are: auto, torch, onnxruntime, openvino, torch\.export",
        ),
        ({"weights": detector, "score_threshold": 30}, r"score_threshold=30 must lie in 0\.\.1"),
        ({"weights": detector, "batch_size": 0}, r"batch_size=0 must be 1 or more"),
        ({"weights": detector, "top_k": 0}, r"top_k=0 must be 1 or more"),
        ({"weights": detector, "input_size": 0}, r"input_size=0 must lie within 1\.\.8192"),
        ({"weights": classifier, "score_threshold": 0.5}, r"^score_threshold=0\.5 is for detection; the .* classif"),
        ({"weights": detector, "top_k": 3}, r"^top_k=3 is for classification; the weights are for detection\.$"),
        ({"weights": detector, "device": "gpu"}, r"^device='gpu' must be one of auto, cpu, cuda; another GPU"),
        ({"weights": "a.onnx", "device": "gpu"}, r"^device='gpu' must be one of auto, cpu, cuda; another GPU"),
        ({"weights": detector, "precision": "int8"}, r"^precision='int8' must be one of auto, fp32, bf16, fp16\.$"),
        ({"weights": detector, "threshold": 0.5}, r"^load\(\) has no setting 'threshold'; the nearest: score_thr"),
    ]
    for settings, message in expected:
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            load(**settings)


def test_the_table_of_engines(monkeypatch: pytest.MonkeyPatch, detector: Path) -> None:
    """auto: PyTorch, or what runs the file; what was asked for says which package it lacks."""
    used: list[str] = []

    def engine(name: str, ending: str, missing: str | None) -> Engine:
        return Engine(lambda weights: weights.endswith(ending), lambda: missing, lambda options: used.append(name))  # type: ignore[arg-type]

    table = {"torch": engine("torch", ".pth", None), "onnxruntime": engine("onnxruntime", ".onnx", None)}
    table |= {"absent": engine("absent", "", "thing")}
    monkeypatch.setattr(predict_engines, "ENGINES", table)
    load("a.onnx")
    load("a.pth")
    assert used == ["onnxruntime", "torch"]
    with pytest.raises(ValueError, match=r"'absent' needs the package thing, which is not installed: pip install"):
        load("a.onnx", engine="absent")
    with pytest.raises(ValueError, match=r"engine='onnxruntime' does not take weights='a\.pth'"):
        load("a.pth", engine="onnxruntime")
    table["onnxruntime"] = engine("onnxruntime", ".onnx", "thing")
    with pytest.raises(ValueError, match=r"^weights='a\.onnx' needs the package thing, which is not installed: pip"):
        load("a.onnx")  # nobody asked for an engine


# ---- pictures that are none ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_is_no_picture(predict: Predictor, tmp_path: Path) -> None:
    """The file is named, the kind of the array or tensor, and what it should be."""
    (tmp_path / "text.jpg").write_text("not an image")
    with pytest.raises(FileNotFoundError, match=r"there is no image .*missing\.png"):
        predict(tmp_path / "missing.png")
    with pytest.raises(OSError, match=r"text\.jpg cannot be read as an image"):
        predict([str(tmp_path / "text.jpg")])
    for array in (np.zeros((5, 6), np.uint8), np.zeros((5, 6, 3)), np.zeros((3, 5, 6), np.uint8)):
        with pytest.raises(ValueError, match=r"given as \w+ \[.*\]; expected is uint8 \[height, width, 3\]"):
            predict(array)
    for tensor in (torch.zeros(3, 5, 6), torch.zeros(5, 6, 3, dtype=torch.uint8), torch.zeros(3, dtype=torch.uint8)):
        with pytest.raises(ValueError, match=r"given as a tensor \w+ \[.*\]; expected is uint8 \[3, height, width\]"):
            predict(tensor)


@pytest.mark.parametrize("given", [None, b"\xff\xd8\xff", 3, [None], [b""], [3]])
def test_what_is_no_kind_of_picture(classifier: Path, given: Any) -> None:
    """What it is, and what it might be."""
    kind = type(given[0] if isinstance(given, list) else given).__name__
    expected = rf"^a picture was given as {kind}; expected is a path, a PIL image, an array .* or a tensor uint8 \[3, "
    with pytest.raises(ValueError, match=expected):
        load(classifier, device="cpu")(given)


def test_a_pil_image_that_is_no_picture() -> None:
    """Its file is cut short, its numbers are no colors, or there are none."""
    whole = io.BytesIO()
    Image.new("RGB", (50, 50), "red").save(whole, "PNG")
    refused = {
        "truncated|damaged": Image.open(io.BytesIO(whole.getvalue()[:60])),
        "floating-point numbers": Image.fromarray(np.zeros((5, 6), np.float32)),
        "signed or 32-bit whole numbers": Image.fromarray(np.zeros((5, 6), np.int32)),
    }
    for message, image in refused.items():
        with pytest.raises(OSError, match=rf"^a picture was given as a PIL image that cannot be read: .*({message})"):
            pixels_of(image)
    with pytest.raises(ValueError, match=r"given as uint8 \[0, 0, 3\]; expected"):
        pixels_of(Image.new("RGB", (0, 0)))


def test_sources_of_the_command_line(tmp_path: Path) -> None:
    """What only it takes is called what it is; a file whose name looks like a glob is a file."""
    refused: dict[str | Path, str] = {
        "https://example.com/a.jpg": "'https://example.com/a.jpg' is an address",
        Path("HTTP://example.com/a.jpg"): "'HTTP:/example.com/a.jpg' is an address",
        tmp_path: f"{str(tmp_path)!r} is a folder",
        str(tmp_path / "*.jpg"): f"{str(tmp_path / '*.jpg')!r} is a glob",
        "street.MP4": "'street.MP4' is a video",
        "photos.txt": "'photos.txt' is a list",
    }
    for given, message in refused.items():
        with pytest.raises(ValueError, match=rf"^{re.escape(message)}; .* \(python -m public\.apps\.predict --source"):
            pixels_of(given)
    Image.new("RGB", (6, 5)).save(tmp_path / "a[1].png")
    assert pixels_of(tmp_path / "a[1].png").shape == (5, 6, 3)


# ---- results ---------------------------------------------------------------------------------------------------------


def detected(num: int = 2) -> Detected:
    """Numbers that float32 has exactly."""
    boxes = np.array([[1, 2, 30, 40], [0, 0, 5.5, 6.25]], np.float32)[:num]
    scores, labels = np.array([0.75, 0.5], np.float32)[:num], np.array([2, 0])[:num]
    return Detected(
        source="a.jpg", height=50, width=60, labels=labels, scores=scores, names=["owl", "cat"][:num], boxes=boxes
    )


def classified() -> Classified:
    """Two of three classes."""
    probabilities = np.array([0.25, 0.125, 0.625], np.float32)
    labels = np.array([2, 0])
    return Classified(
        source="a.jpg",
        height=50,
        width=60,
        labels=labels,
        scores=probabilities[labels],
        names=["owl", "cat"],
        probabilities=probabilities,
    )


def test_plain_values() -> None:
    """As JSON has them."""
    owl = {"class": "owl", "label": 2, "score": 0.75, "x1": 1.0, "y1": 2.0, "x2": 30.0, "y2": 40.0}
    cat = {"class": "cat", "label": 0, "score": 0.5, "x1": 0.0, "y1": 0.0, "x2": 5.5, "y2": 6.25}
    picture = {"image": "a.jpg", "height": 50, "width": 60}
    assert detected().to_dict() == picture | {"predictions": [owl, cat]}
    assert [str(detected()), str(detected(0)), len(detected(0))] == ["owl 0.75, cat 0.50", "nothing", 0]
    rows = [{"class": "owl", "label": 2, "score": 0.625}, {"class": "cat", "label": 0, "score": 0.25}]
    assert classified().to_dict() == picture | {"predictions": rows}


@pytest.mark.parametrize("library", ["pandas", "supervision"])
@pytest.mark.parametrize("result", [detected(), classified()], ids=["detected", "classified"])
def test_a_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch, result: Result, library: str) -> None:
    """One sentence, whatever else works."""
    monkeypatch.setitem(sys.modules, library, None)
    message = f"to_{library}() needs the package {library}, which is not installed: pip install {library}."
    with pytest.raises(ModuleNotFoundError, match=re.escape(message)):
        getattr(result, f"to_{library}")()


def test_what_other_libraries_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the names of their own arguments."""
    fake = ModuleType("supervision")
    fake.Detections = fake.Classifications = SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "supervision", fake)
    objects, classes = detected().to_supervision(), classified().to_supervision()
    assert objects.xyxy.tolist() == [[1, 2, 30, 40], [0, 0, 5.5, 6.25]]
    assert (objects.confidence.tolist(), objects.class_id.tolist()) == ([0.75, 0.5], [2, 0])
    assert objects.data["class_name"].tolist() == ["owl", "cat"]
    assert (classes.class_id.tolist(), classes.confidence.tolist()) == ([2, 0], [0.625, 0.25])


def test_pandas() -> None:
    """A line a label; the columns are there also without any."""
    pytest.importorskip("pandas")
    table = detected().to_pandas()
    assert table.columns.tolist() == ["image", "class", "label", "score", "x1", "y1", "x2", "y2"]
    assert table.loc[1].tolist() == ["a.jpg", "cat", 0, 0.5, 0, 0, 5.5, 6.25]
    assert detected(0).to_pandas().columns.tolist() == table.columns.tolist()
    assert classified().to_pandas()["class"].tolist() == ["owl", "cat"]


def test_supervision() -> None:
    """Its own objects."""
    supervision = pytest.importorskip("supervision")
    assert isinstance(detected().to_supervision(), supervision.Detections)
    assert len(detected(0).to_supervision()) == 0
    assert classified().to_supervision().get_top_k(1)[0].tolist() == [2]


@pytest.mark.slow
def test_category_numbers_come_with_the_checkpoint(detector: Path) -> None:
    """For files of results."""
    predict = load(detector, device="cpu")
    assert isinstance(predict, DetectionPredictor)
    assert (predict.class_names, predict.network.category_ids) == (NAMES, IDS)
