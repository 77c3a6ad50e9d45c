"""Every experiment folder: complete, of the agreed form, importable without data, and buildable."""

import ast
import importlib.util
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from public.backbones.build import build_network
from public.backbones.catalog import list_backbones
from public.config.classification import ClassificationConfig, NetworkConfig
from public.config.command_line import choose_row
from public.config.detection import DetectionConfig
from public.detectors.catalog import build_detector, list_detectors
from public.transforms import detection
from public.transforms.batch import BatchTransform
from public.transforms.detection import DetectionSample, DetectionTransform
from tests.published_rows import PUBLISHED, Published

assert v2  # what the configs import is imported before them, so that only their own files are seen to be opened

ROOT = Path(__file__).parents[1]
# Number of rows of each experiment.
EXPERIMENTS = {
    "cifar100_experiments/resnet50cifar": 5,
    "imagenet_experiments/resnet_imagenet_DataParallel_train_example": 7,
    "imagenet_experiments/resnet_imagenet_DistributedDataParallel_train_example": 2,
    "imagenet_experiments/resnet_sample_train_example": 1,
    "imagenet_experiments/efficientnet_imagenet_DataParallel_train_example": 8,
    "imagenet_experiments/darknet_imagenet_DataParallel_train_example": 3,
    "imagenet_experiments/vovnet_imagenet_DataParallel_train_example": 7,
    "imagenet_experiments/regnet_imagenet_DataParallel_train_example": 12,
    "imagenet_experiments/resnet_imagenet": 2,
    "imagenet_experiments/resnet_v2_imagenet": 5,
    "imagenet_experiments/resnext_imagenet": 2,
    "imagenet_experiments/wide_resnet_imagenet": 2,
    "imagenet_experiments/regnetx_imagenet": 12,
    "imagenet_experiments/regnety_imagenet": 2,
    "imagenet_experiments/resnest_imagenet": 1,
    "imagenet_experiments/octresnet_imagenet": 2,
    "imagenet_experiments/mobilenet_imagenet": 4,
    "imagenet_experiments/ghostnet_imagenet": 2,
    "imagenet_experiments/proxylessnas_imagenet": 3,
    "imagenet_experiments/detnet59_imagenet": 2,
    "imagenet_experiments/resnet50_tricks_imagenet": 30,
    "detection_experiments/resnet50_retinanet_coco_distributed_apex_resize667": 1,
    "detection_experiments/resnet101_retinanet_coco_distributed_apex_resize667": 1,
    "detection_experiments/resnet50_retinanet_coco_distributed_apex_resize1000": 1,
    "detection_experiments/resnet50_fcos_coco_distributed_apex_resize667": 1,
    "detection_experiments/resnet101_fcos_coco_distributed_apex_resize667": 1,
    "detection_experiments/resnet50_fcos_coco_distributed_apex_resize1000": 1,
    "detection_experiments/resnet18_centernet_coco_distributed_apex_resize512": 1,
    "detection_experiments/resnet101_centernet_coco_distributed_apex_resize512": 1,
    "detection_experiments/resnet50_retinanet_voc_distributed_apex_resize667": 1,
    "detection_experiments/resnet50_retinanet_voc_distributed_apex_resize667_usecocopre": 1,
    "detection_experiments/detnet59_faster_rcnn_voc": 2,
    "detection_experiments/resnet101_faster_rcnn_voc": 2,
    "detection_experiments/detnet59_cascade_rcnn_voc": 2,
    "detection_experiments/detnet59_faster_rcnn_coco": 1,
    "detection_experiments/resnet50_faster_rcnn_coco": 1,
    "detection_experiments/resnet50_retinanet_voc2012_finetune": 2,
    "detection_experiments/resnet18_fcos_sample_train_example": 1,
    "detection_experiments/mobilenet_v2_fcos_bloodcells_train_example": 2,
}
Row = ClassificationConfig | DetectionConfig
listeners: list[list[str]] = []


def _note_opened(event: str, arguments: tuple[Any, ...]) -> None:
    if listeners and event in ("open", "os.listdir", "os.scandir"):
        path = arguments[0]
        listeners[-1].append(os.fspath(path) if isinstance(path, str | os.PathLike) else repr(path))


sys.addaudithook(_note_opened)  # a hook cannot be taken away: this one is idle outside of `files_opened`


@contextmanager
def files_opened() -> Iterator[list[str]]:
    """Lists every file that python opens and every folder that it lists within the block."""
    listeners.append([])
    try:
        yield listeners[-1]
    finally:
        listeners.pop()


def load_rows(folder: str) -> dict[str, Row]:
    """CONFIGS, as a fresh import of the experiment's config.py gives them."""
    spec = importlib.util.spec_from_file_location("config_under_test", ROOT / folder / "config.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CONFIGS


ROWS = [(folder, name) for folder in EXPERIMENTS for name in load_rows(folder)]


def test_every_experiment_is_listed_here() -> None:
    """39 folders with 137 rows in all; a folder that holds more than old runs is an experiment."""
    holding = {path.parent for path in ROOT.glob("*_experiments/*/*") if path.name not in ("runs", "__pycache__")}
    assert sorted(str(folder.relative_to(ROOT)) for folder in holding) == sorted(EXPERIMENTS)
    assert {folder: len(load_rows(folder)) for folder in EXPERIMENTS} == EXPERIMENTS
    assert (len(EXPERIMENTS), len(ROWS)) == (39, 137)


@pytest.mark.parametrize("folder", EXPERIMENTS)
def test_a_config_opens_no_file(folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With DATA_ROOT pointing nowhere: python's own source files are all that is opened, and no GPU is woken."""
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "nowhere"))
    was_initialised = torch.cuda.is_initialized()
    with files_opened() as files:
        load_rows(folder)
    assert str(ROOT / folder / "config.py") in files or any("config.cpython" in name for name in files)
    assert [name for name in files if not re.search(r"\.pyc?(\.\d+)?$", name)] == []
    assert torch.cuda.is_initialized() == was_initialised


def test_the_guard_sees_what_is_opened(tmp_path: Path) -> None:
    """A file and a folder; nothing outside of the block."""
    (tmp_path / "data").touch()
    with files_opened() as files:
        (tmp_path / "data").read_bytes()
        os.listdir(tmp_path)
    (tmp_path / "data").read_bytes()
    assert files == [str(tmp_path / "data"), str(tmp_path)]


def card_of(folder: str) -> str:
    """The docstring of the experiment's config.py."""
    card = ast.get_docstring(ast.parse((ROOT / folder / "config.py").read_text(encoding="utf-8")))
    assert card is not None
    return card


@pytest.mark.parametrize("folder", EXPERIMENTS)
def test_the_first_row_is_the_default(folder: str) -> None:
    """And its name is one that the card's table can say `the default` of."""
    rows = load_rows(folder)
    row, rest = choose_row(rows, [])
    assert (row, rest) == (next(iter(rows.values())), [])
    card = card_of(folder)
    assert "python train.py" in card
    for line in card.splitlines():
        if "the default" in line:
            assert line.split()[0] == row.name


@pytest.mark.parametrize("folder", EXPERIMENTS)
def test_the_card_names_every_row(folder: str) -> None:
    """Once, in a table whose first column is the row, where there is more than one."""
    rows = load_rows(folder)
    if len(rows) > 1:
        first_words = [line.split()[0] for line in card_of(folder).splitlines() if line.startswith("    ")]
        assert sorted(word for word in first_words if word in rows) == sorted(rows)


def test_every_published_row_is_one_of_ours() -> None:
    """34 rows of 2020's tables, 28 of ModelZoo's, 4 of its last state, 3 of DetNet's; 66 different rows of ours."""
    counts = Counter(row.predecessor for row in PUBLISHED)
    assert sorted(counts.values()) == [3, 4, 28, 34]
    assert [row for row in PUBLISHED if row.name not in load_rows(row.folder)] == []
    assert len({(row.folder, row.name) for row in PUBLISHED}) == 66


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda row: f"{row.predecessor}: {row.row}")
def test_the_card_states_the_published_number(published: Published) -> None:
    """On the line of the row, digit for digit; `none` where there is none."""
    (line,) = [line for line in card_of(published.folder).splitlines() if line.split()[:1] == [published.name]]
    for number in published.numbers or ("none",):
        assert re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", line), line


def test_every_network_has_a_row() -> None:
    """Of the whole catalogue; torchvision's three variants of RegNets that the paper has too are left out."""
    used = {row.network for folder in EXPERIMENTS for row in load_rows(folder).values()}
    used |= {"regnet_x_400mf_tv", "regnet_y_800mf_tv", "regnet_y_8gf_tv"}
    assert [name for name in list_backbones() if name not in used] == []


def test_a_trick_is_one_setting() -> None:
    """Each of the 29 rows differs from the baseline in its name and one more field, and no two are alike."""
    baseline, *tricks = load_rows("imagenet_experiments/resnet50_tricks_imagenet").values()
    names = [f.name for f in fields(ClassificationConfig)]
    changes = [{name: getattr(row, name) for name in names} for row in (baseline, *tricks)]
    differing = [[name for name in names[1:] if change[name] != changes[0][name]] for change in changes[1:]]
    assert [len(found) for found in differing] == [1] * 29
    assert len({str([v for name, v in change.items() if name != "name"]) for change in changes}) == 30


@pytest.mark.parametrize(("folder", "name"), ROWS)
def test_a_row_is_called_what_its_key_says(folder: str, name: str) -> None:
    """The run folder and the command line use the same word; the network is one of the catalogue."""
    row = load_rows(folder)[name]
    assert row.name == name
    if isinstance(row, DetectionConfig):
        assert row.network in list_detectors()
        assert row.detector.backbone in list_backbones()
    else:
        assert row.network in list_backbones()
    assert not Path(row.data.folder).is_absolute()


@pytest.mark.parametrize(("folder", "name"), ROWS)
def test_weights_of_another_run_are_those_of_a_row(folder: str, name: str) -> None:
    """Where they are a path, training that row in that folder writes them."""
    row = load_rows(folder)[name]
    weights = row.initial_weights or (row.backbone_weights if isinstance(row, DetectionConfig) else None)
    if weights is not None and ":" not in weights:
        path = (ROOT / folder / weights).resolve().relative_to(ROOT)
        *experiment, runs, other, checkpoints, file = path.parts
        assert (runs, checkpoints, file) == ("runs", "checkpoints", "best.pth")
        assert other in load_rows("/".join(experiment))


@pytest.mark.parametrize(("folder", "name"), ROWS)
def test_a_rows_network_builds(folder: str, name: str) -> None:
    """On the meta device, where weights take neither time nor memory: outputs for its input size."""
    row = load_rows(folder)[name]
    if isinstance(row, DetectionConfig):
        with torch.device("meta"):
            detector = build_detector(row.network, num_classes=row.num_classes or 80, **row.detector.options()).eval()
            assert detector(torch.zeros(2, 3, *row.canvas_size)).canvas_size == row.canvas_size
        return
    num_classes = row.num_classes or 100
    assert logits_shape(row.network, num_classes, row.input_size, row.network_options) == (2, num_classes)


@cache
def logits_shape(name: str, num_classes: int, input_size: int, options: NetworkConfig) -> torch.Size:
    """Of two images; several rows have the same network, which is built once."""
    with torch.device("meta"):
        network = build_network(name, num_classes, **options.options()).eval()
        return network(torch.zeros(2, 3, input_size, input_size)).shape


@pytest.mark.parametrize(("folder", "name"), ROWS)
def test_a_row_fits_the_gpus_that_its_card_speaks_of(folder: str, name: str) -> None:
    """The global batch divides over 1, 2, 4 and 8 processes, or over as many of these as have an image each."""
    row = load_rows(folder)[name]
    numbers = [n for n in (1, 2, 4, 8) if n <= row.batch_size]
    assert [row.batch_size // row.local_batch_size(n) for n in numbers] == numbers


@pytest.mark.parametrize(("folder", "name"), ROWS)
def test_transforms_give_the_stated_input_size(folder: str, name: str) -> None:
    """uint8 images of another shape come out as uint8 [3, input_size, input_size]."""
    row = load_rows(folder)[name]
    if isinstance(row, DetectionConfig):
        check_canvas(row)
        return
    size = row.input_size
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    image = torch.zeros(3, 300, 260, dtype=torch.uint8)
    if row.data.dataset == "cifar100":
        for transform in row.data.train_transforms:
            kind: BatchTransform = transform  # pyright: ignore[reportAssignmentType]
            images = kind(images, torch.zeros(2, kind.num_draws, dtype=torch.float64))
        assert (images.shape, images.dtype) == ((2, 3, size, size), torch.uint8)
        return
    for transforms in (row.data.train_transforms, row.data.val_transforms):
        output = image
        for transform in transforms:
            output = transform(output)
        assert (output.shape, output.dtype) == ((3, size, size), torch.uint8)


def check_canvas(row: DetectionConfig) -> None:
    """A picture of 4 to 3 comes out on the stated canvas."""
    for transforms in (row.data.train_transforms, row.data.val_transforms):
        sample = DetectionSample(
            np.zeros((480, 640, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (480, 640)
        )
        for transform in transforms:
            kind: DetectionTransform = transform  # pyright: ignore[reportAssignmentType]
            assert isinstance(kind, vars(detection)[type(kind).__name__])
            sample = kind(sample, np.full(kind.num_draws, 0.99))  # of several sizes the last
        assert (sample.image.shape, sample.image.dtype) == ((*row.canvas_size, 3), np.uint8)


@pytest.mark.parametrize("folder", EXPERIMENTS)
def test_train_py_is_of_the_short_form(folder: str) -> None:
    """A docstring and three statements, so that there is nothing to drift."""
    statements = ast.parse((ROOT / folder / "train.py").read_text(encoding="utf-8")).body
    docstring, *code = [ast.unparse(statement) for statement in statements]
    assert "config.py" in docstring
    assert re.search(r"public/recipes/\w+\.py", docstring)
    assert code[0] == "from config import CONFIGS"
    assert re.fullmatch(r"from public\.recipes\.(classification|detection) import main", code[1])
    assert code[2:] == ["if __name__ == '__main__':\n    main(CONFIGS, __file__)"]


@pytest.mark.parametrize("folder", EXPERIMENTS)
def test_test_sh_evaluates_its_own_folder(folder: str) -> None:
    """Executable, and its one command is the test script of the rows' data set with this folder first."""
    path = ROOT / folder / "test.sh"
    assert os.access(path, os.X_OK)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    (command,) = [line for line in lines if line and not line.startswith("#")]
    (dataset,) = {row.data.dataset for row in load_rows(folder).values()}
    module = f"public.test_scripts.test_on_{dataset}"
    assert command == f'exec "${{PYTHON:-python}}" -m {module} "$(dirname "$0")" "$@"'
    assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()


@pytest.mark.parametrize("folder", EXPERIMENTS)
def test_test_sh_gives_a_row_that_exists(folder: str) -> None:
    """Its comment's example can be typed."""
    text = (ROOT / folder / "test.sh").read_text(encoding="utf-8")
    examples = re.findall(r"\./test\.sh (\w+)", text)
    assert examples
    assert set(examples) <= set(load_rows(folder))
