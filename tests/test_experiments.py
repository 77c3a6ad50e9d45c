"""Every experiment folder: complete, of the agreed form, importable without data, and buildable."""

import ast
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from public.backbones import build as backbones
from public.backbones.catalog import list_backbones
from public.backbones.options import given
from public.config.calls import build_all
from public.config.classification import ClassificationConfig
from public.config.command_line import choose_row, parse_config, with_kinds
from public.config.detection import DetectionConfig
from public.config.experiment import PREFIX, Experiment, load_configs
from public.config.options import DetectorOptions, Kind, NetworkOptions
from public.config.record import from_record, to_record
from public.datasets.cifar100 import Cifar100Data
from public.datasets.detection import canvas_size
from public.datasets.detection_loaders import checked_transforms
from public.detectors import catalog as detectors
from public.detectors.catalog import list_detectors
from public.recipes.classification import ClassificationTask
from public.recipes.detection import DetectionTask
from public.transforms.detection import DetectionSample
from public.transforms.mixing_boxes import MixingTransform
from tests.old_runs.make import old_records
from tests.published_rows import PUBLISHED, Published

assert v2  # what the configs import is imported before them, so that only their own files are seen to be opened

ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted(str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*_experiments/*/config.py"))
TRAINED_AT = {"a3": 160, "torchvision_v2": 176, "resnet18_centernet_coco": 512}
"""Rows and folders that train with another size than they are evaluated with: height and width."""
OLD = old_records()
"""Of the rows that there were at commit 20741d7, by folder/row."""
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


def load_rows(folder: str) -> Mapping[str, Row]:
    """CONFIGS of the experiment's config.py."""
    return load_configs(ROOT / folder)


ROWS = [(folder, name) for folder in EXPERIMENTS for name in load_rows(folder)]


def test_every_folder_is_an_experiment() -> None:
    """One that holds more than old runs has a config.py; the rows of old are all there, under their names."""
    holding = {path.parent for path in ROOT.glob("*_experiments/*/*") if path.name not in ("runs", "__pycache__")}
    assert sorted(str(folder.relative_to(ROOT)) for folder in holding) == EXPERIMENTS
    assert OLD.keys() <= {f"{folder}/{name}" for folder, name in ROWS}


@pytest.mark.parametrize("folder", EXPERIMENTS)
def test_a_folder_holds_what_it_needs(folder: str) -> None:
    """config.py, train.py and test.sh; other modules are the folder's own classes, which one of the two imports."""
    files = {path.name for path in (ROOT / folder).iterdir() if path.name not in ("runs", "__pycache__")}
    modules = {path.stem for path in (ROOT / folder).glob("*.py")}
    assert {"config.py", "train.py", "test.sh"} <= files
    assert files == {"test.sh", *(f"{stem}.py" for stem in modules)}
    imported = {"train"}
    for name in ("config.py", "train.py"):
        tree = ast.parse((ROOT / folder / name).read_text(encoding="utf-8"))
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert modules <= imported


@pytest.mark.parametrize("folder", EXPERIMENTS)
def test_a_config_opens_no_file(folder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With DATA_ROOT pointing nowhere: python's own source files are all that is opened, and no GPU is woken."""
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "nowhere"))
    was_initialized = torch.cuda.is_initialized()
    for path in (ROOT / folder).glob("*.py"):
        monkeypatch.delitem(sys.modules, path.stem, raising=False)
    with files_opened() as files:
        load_rows(folder)
    assert str(ROOT / folder / "config.py") in files or any("config.cpython" in name for name in files)
    others = [name for name in files if not re.search(r"\.pyc?(\.\d+)?$", name)]
    assert [name for name in others if name not in sys.path] == [], "but for the folders that imports are looked for in"
    assert torch.cuda.is_initialized() == was_initialized


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_every_network_has_a_row() -> None:
    """Of the whole catalog; torchvision's three variants of RegNets that the paper has too are skipped."""
    used = {row.network for folder in EXPERIMENTS for row in load_rows(folder).values()}
    used |= {"regnet_x_400mf_tv", "regnet_y_800mf_tv", "regnet_y_8gf_tv"}
    assert [name for name in list_backbones() if name not in used] == []


def test_a_trick_is_one_setting() -> None:
    """Each row differs from the baseline in its name and one more field, and no two are alike."""
    baseline, *tricks = load_rows("imagenet_experiments/resnet50_tricks_imagenet").values()
    names = [f.name for f in fields(ClassificationConfig)]
    changes = [{name: getattr(row, name) for name in names} for row in (baseline, *tricks)]
    differing = [[name for name in names[1:] if change[name] != changes[0][name]] for change in changes[1:]]
    assert [len(found) for found in differing] == [1] * len(tricks)
    assert len({str([v for name, v in change.items() if name != "name"]) for change in changes}) == len(changes)


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "name"), ROWS)
def test_a_row_is_called_what_its_key_says(folder: str, name: str) -> None:
    """The run folder and the command line use the same word; the network is one of the catalog."""
    row = load_rows(folder)[name]
    assert row.name == name
    if isinstance(row, DetectionConfig):
        assert row.network in list_detectors()
        assert row.detector.backbone in list_backbones()
    else:
        assert row.network in list_backbones()
    assert not Path(row.data.folder).is_absolute()


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "name"), ROWS)
def test_a_rows_network_builds(folder: str, name: str) -> None:
    """On the meta device, where weights take neither time nor memory: outputs for its input size."""
    row = load_rows(folder)[name]
    if isinstance(row, DetectionConfig):
        canvas = canvas_size(row.data)
        assert outputs_canvas(row.num_classes or 80, row.detector, canvas) == canvas
        return
    num_classes = row.num_classes or 100
    assert logits_shape(row.network, num_classes, row.data.input_size, row.network_options) == (2, num_classes)


@cache
def outputs_canvas(num_classes: int, options: DetectorOptions, canvas: tuple[int, int]) -> tuple[int, int]:
    """The canvas that the outputs for two images speak of; several rows have the same detector, which is built once."""
    with torch.device("meta"):
        detector = detectors.build_from_options(num_classes, options).eval()
        return detector(torch.zeros(2, 3, *canvas)).canvas_size


@cache
def logits_shape(name: str, num_classes: int, input_size: int, options: NetworkOptions) -> torch.Size:
    """Of two images; several rows have the same network, which is built once."""
    with torch.device("meta"):
        network = backbones.build_from_options(name, num_classes, options).eval()
        return network(torch.zeros(2, 3, input_size, input_size)).shape


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "name"), ROWS)
def test_a_row_fits_the_gpus_that_its_card_speaks_of(folder: str, name: str) -> None:
    """The global batch divides over 1, 2, 4 and 8 processes, or over as many of these as have an image each."""
    row = load_rows(folder)[name]
    numbers = [n for n in (1, 2, 4, 8) if n <= row.batch_size]
    assert [row.batch_size // row.local_batch_size(n) for n in numbers] == numbers


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "name"), ROWS)
def test_a_row_comes_back_from_its_record(folder: str, name: str) -> None:
    """As it stands and as the command line makes it: equal, however often it was written as JSON."""
    experiment = Experiment(ROOT / folder)
    row = load_rows(folder)[name]
    for config in (row, with_kinds(row, kinds_of(row))):
        again = from_record(json.loads(json.dumps(to_record(config, experiment))), experiment)
        assert again == config
        assert to_record(again, experiment) == to_record(config, experiment)


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "name"), ROWS)
def test_a_row_is_what_its_command_makes(folder: str, name: str) -> None:
    """`python train.py <row>` trains the row; only the kind of its network's options is the parser's to choose."""
    row = load_rows(folder)[name]
    parsed, fresh = parse_config({name: row}, [name], kinds_of(row))
    assert (parsed, fresh) == (with_kinds(row, kinds_of(row)), False)
    if isinstance(row, ClassificationConfig):
        assert isinstance(parsed, ClassificationConfig)
        assert given(parsed.network_options) == given(row.network_options)
        parsed = replace(parsed, network_options=row.network_options)
    assert parsed == row


def kinds_of(row: Row) -> Sequence[Kind]:
    """Of the row's task."""
    return DetectionTask.kinds if isinstance(row, DetectionConfig) else ClassificationTask.kinds


@pytest.mark.slow
@pytest.mark.parametrize("key", OLD)
def test_a_rows_size_is_what_it_was(key: str) -> None:
    """What was stated beside the data, and checked against it, follows from the transforms now."""
    folder, _, name = key.rpartition("/")
    row = load_rows(folder)[name]
    if isinstance(row, DetectionConfig):
        assert list(canvas_size(row.data)) == OLD[key]["canvas_size"]
    else:
        assert row.data.input_size == OLD[key]["input_size"]


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "name"), ROWS)
def test_transforms_give_the_stated_input_size(folder: str, name: str) -> None:
    """uint8 images of another shape come out as uint8 [3, input_size, input_size]."""
    row = load_rows(folder)[name]
    if isinstance(row, DetectionConfig):
        check_canvas(row, TRAINED_AT.get(Path(folder).name))
        return
    size, trained_at = row.data.input_size, TRAINED_AT.get(name, row.data.input_size)
    train, val = (build_all(calls, size) for calls in (row.data.train_transforms, row.data.val_transforms))
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    image = torch.zeros(3, 300, 260, dtype=torch.uint8)
    if isinstance(row.data, Cifar100Data):
        for transform in train:
            images = transform(images, torch.zeros(2, transform.num_draws, dtype=torch.float64))
        assert (images.shape, images.dtype) == ((2, 3, size, size), torch.uint8)
        return
    for transforms, side in ((train, trained_at), (val, size)):
        output = image
        for transform in transforms:
            output = transform(output)
        assert (output.shape, output.dtype) == ((3, side, side), torch.uint8)


def check_canvas(row: DetectionConfig, trained_at: int | None) -> None:
    """A picture of 4 to 3 comes out on the stated canvas; a training picture on a square one where that is stated."""
    canvas = canvas_size(row.data)
    trained_on = canvas if trained_at is None else (trained_at, trained_at)
    for calls, expected in ((row.data.train_transforms, trained_on), (row.data.val_transforms, canvas)):
        sample = DetectionSample(
            np.zeros((480, 640, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (480, 640)
        )
        for transform in checked_transforms("data", build_all(calls, row.data.input_size)):
            draws = np.full(transform.num_draws, 0.99)  # of several sizes the last
            is_mixed = isinstance(transform, MixingTransform)  # by these draws not: the sample stays as it is
            assert not (is_mixed and transform.others(draws, 5))
            sample = sample if is_mixed else transform(sample, draws)
        assert (sample.image.shape, sample.image.dtype) == ((*expected, 3), np.uint8)


@pytest.mark.parametrize("folder", EXPERIMENTS)
def test_train_py_is_of_the_short_form(folder: str) -> None:
    """A docstring and three statements, so that there is nothing to drift; one more where the task is the folder's."""
    statements = ast.parse((ROOT / folder / "train.py").read_text(encoding="utf-8")).body
    docstring, *code = [ast.unparse(statement) for statement in statements]
    assert "config.py" in docstring
    assert re.search(r"public/recipes/\w+\.py", docstring)
    assert code[0] == "from config import CONFIGS"
    recipe = re.fullmatch(r"from public\.recipes\.(classification|detection) import main", code[-2])
    assert recipe is not None
    if len(code) == 3:
        assert code[-1] == "if __name__ == '__main__':\n    main(CONFIGS, __file__)"
        return
    own = re.fullmatch(r"from (\w+) import (\w+)", code[1])
    assert own is not None
    assert (len(code), code[-1]) == (4, f"if __name__ == '__main__':\n    main(CONFIGS, __file__, task={own[2]})")
    usual = {"classification": ClassificationTask, "detection": DetectionTask}[recipe[1]]
    task = Experiment(ROOT / folder).find(f"{PREFIX}{own[1]}.{own[2]}")
    assert issubclass(task, usual)
    assert Experiment(ROOT / folder).name_of(task) == f"{PREFIX}{own[1]}.{own[2]}", "what checkpoints call it"


@pytest.mark.parametrize("folder", EXPERIMENTS)
def test_test_sh_evaluates_its_own_folder(folder: str) -> None:
    """Executable, and its one command is the test script of the rows' data set with this folder first."""
    path = ROOT / folder / "test.sh"
    assert os.access(path, os.X_OK)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    (command,) = [line for line in lines if line and not line.startswith("#")]
    (dataset,) = {row.data.kind for row in load_rows(folder).values()}
    module = f"public.test_scripts.test_on_{dataset if dataset != 'auto' else 'coco'}"  # by whose rules it is judged
    assert command == f'exec "${{PYTHON:-python}}" -m {module} "$(dirname "$0")" "$@"'
    assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file()


@pytest.mark.parametrize("folder", EXPERIMENTS)
def test_test_sh_gives_a_row_that_exists(folder: str) -> None:
    """Its comment's example can be typed."""
    text = (ROOT / folder / "test.sh").read_text(encoding="utf-8")
    examples = re.findall(r"\./test\.sh (\w+)", text)
    assert examples
    assert set(examples) <= set(load_rows(folder))
