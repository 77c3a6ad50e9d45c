"""CONTRIBUTING.md: each thing that it says how to add is added to a copy of the tree, in the files that it names alone.

What is added lies in `tests/added/` (and `tests/datasets/lines_format.py`). Each test then runs it in one program,
which takes some seconds: torch is imported anew.
"""

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import warm_python
from tests.datasets.written import coco_content, write_coco, write_image

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ADDED = ROOT / "tests" / "added"
EXAMPLE = "imagenet_experiments/resnet_sample_train_example"
TRICKS = "imagenet_experiments/resnet50_tricks_imagenet"
COPIED = ("public", EXAMPLE, TRICKS, "docs/networks.md", "docs/results.md")

IMAGES = """\
from public.recipes.classification import main
from config import CONFIGS
def train(*args):
    try:
        main(CONFIGS, "train.py", ["--epochs", "1", "--batch-size", "4", "--runtime.num-workers", "0",
             "--runtime.device", "cpu", "--precision", "fp32", "--schedule.warmup-epochs", "0", "--num-classes", "None",
             "--no-channels-last", *args])
    except SystemExit as end:
        assert end.code == 0, end.code
"""
BOXES = (
    IMAGES.replace("recipes.classification", "recipes.detection")
    .replace('"--batch-size", "4"', '"--batch-size", "2"')
    .replace(', "--num-classes", "None"', "")
)
"""Beginnings of programs: `train` is what train.py of the folder does with options."""


class Addition(NamedTuple):
    """A row of the page's table."""

    files: list[str]
    """With <placeholders>."""
    num_before: int
    num_now: int


def additions() -> dict[str, Addition]:
    """The table of the page."""
    rows = re.findall(r"^\| (an? [\w ]+) \| (`.*`) \| (\d+) \| (\d+) \|$", PAGE, flags=re.MULTILINE)
    return {what: Addition(re.findall(r"`([^`]+)`", files), int(before), int(now)) for what, files, before, now in rows}


class Tree:
    """A copy of the tree, and a folder beside it for an experiment and its data."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.outside = folder / "tree", folder / "outside"
        self.outside.mkdir()
        unwanted = shutil.ignore_patterns("runs")  # compiled files are good for the copy too, and save it seconds
        for name in COPIED:
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.folder / name, ignore=unwanted)
            else:
                shutil.copy(ROOT / name, self.folder / name)

    def write(self, name: str, text: str) -> None:
        """A new file."""
        path = self.folder / name
        assert not path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def change(self, name: str, old: str, new: str) -> None:
        """What stands once in a file becomes something else."""
        text = (self.folder / name).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {name}"
        (self.folder / name).write_text(text.replace(old, new), encoding="utf-8")

    def changed(self) -> set[str]:
        """Every file that is new or another."""
        files = [path for path in self.folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        names = [path.relative_to(self.folder).as_posix() for path in files]
        return {
            n for n in names if not (ROOT / n).is_file() or (ROOT / n).read_bytes() != (self.folder / n).read_bytes()
        }

    def assert_only(self, what: str, **placeholders: str) -> None:
        """Exactly the files of the page's row have been touched."""
        names = set()
        for name in additions()[what].files:
            for placeholder, value in placeholders.items():
                name = name.replace(f"<{placeholder}>", value)
            names.add(name)
        assert self.changed() == names

    def run(self, program: str, cwd: Path | None = None) -> str:
        """Runs a program with the copy as its package; gives what it prints."""
        path = self.outside / "program.py"
        path.write_text(f"import torch\ntorch.set_num_threads(1)\n{program}", encoding="utf-8")
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{self.folder}:{cwd or self.outside}"}
        environment |= {"OMP_NUM_THREADS": "1", "TINY_DATA": str(self.outside / "coco")}
        command = [warm_python.executable(), str(path)]
        done = subprocess.run(
            command, cwd=cwd or self.outside, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stdout

    def put_experiment(self) -> None:
        """A tiny experiment beside the tree: detection on two pictures in COCO's format."""
        text = (ROOT / "tests/recipes/tiny_detection.py").read_text(encoding="utf-8")
        (self.outside / "config.py").write_text(f'{text}\nCONFIGS = {{"tiny": TINY}}\n', encoding="utf-8")
        content = coco_content([(7, 3, 1, 2, 20, 20), (7, 90, 4, 4, 9, 9), (2, 3, 0, 0, 9, 9)])
        for split in ("train2017", "val2017"):
            write_coco(self.outside / "coco", content, split)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A copy of its own for each test."""
    return Tree(tmp_path)


def test_the_table_is_whole() -> None:
    """Nine additions, each with as many files as it says, none with more than before, and each explained below."""
    assert len(additions()) == 9
    for files, num_before, num_now in additions().values():
        assert len(set(files)) == len(files) == num_now <= num_before
    explained = {title.lower() for title in re.findall(r"^- \*\*(An? [\w ]+)\.\*\*", PAGE, flags=re.MULTILINE)}
    formats = {"a detection format", "a classification format"}
    assert explained == (additions().keys() - formats) | {"a data format", "a speed claim"}


@pytest.mark.slow
def test_a_network(tree: Tree, image_folder: Path) -> None:
    """Builds through the catalog as its card says, is a backbone, and trains by --network with a setting of its own."""
    tree.write("public/backbones/plainnet.py", (ADDED / "plainnet.py").read_text())
    family = '    "public.backbones.mobilenet_v1": ('
    tree.change("public/backbones/catalog.py", family, f'    "public.backbones.plainnet": ("plainnet",),\n{family}')
    card = "    # mobilenet_v1.py\n"
    ours = '    "plainnet": Card(42_016, 6_128_384, (8, 8, 16, 16, 32), "arithmetic", None, ""),\n'
    tree.change("public/backbones/cards.py", card, f"    # plainnet.py\n{ours}{card}")
    levels = "c1-c5: 8, 8, 16, 16, 32 | 2, 4, 8, 16, 32"
    row = f"| `plainnet` | 0.042 M | 0.006 G | 224 | {levels} | arithmetic | - | not stated |\n"
    tree.change("docs/networks.md", "| `mobilenet_v1` | 4.232", f"{row}| `mobilenet_v1` | 4.232")
    tree.assert_only("a network", family="plainnet")
    shutil.copy(ROOT / EXAMPLE / "config.py", tree.outside)
    tree.run(f"""{IMAGES}
from pathlib import Path
from public.backbones.cards import CARDS
from public.backbones.catalog import build_backbone, table
from public.detectors.catalog import build_detector
from public.evaluation.complexity import count
assert count(build_backbone("plainnet"), 224) == (CARDS["plainnet"].parameters, CARDS["plainnet"].macs)
assert build_detector("fcos", 3, backbone="plainnet", levels=("p4", "p5"), channels=32)
assert table() in Path({str(tree.folder / "docs/networks.md")!r}).read_text()
train("--network", "plainnet", "--network-options.slope", "0.1", "--data.folder", {str(image_folder)!r})
""")
    assert '"slope": 0.1' in (tree.outside / "runs/resnet18/config.json").read_text()


@pytest.mark.slow
def test_a_detector(tree: Tree) -> None:
    """Builds, trains, and is evaluated, by --network and with a setting of its own."""
    tree.write("public/detectors/presence/__init__.py", "")
    tree.write("public/detectors/presence/options.py", (ADDED / "presence_options.py").read_text())
    network = (ADDED / "presence_network.py").read_text().replace("tests.added.presence_", "public.detectors.presence.")
    tree.write("public/detectors/presence/network.py", network)
    catalog = "public/detectors/catalog.py"
    last = "from public.detectors.retinanet.options import RetinaNetOptions\n"
    tree.change(catalog, last, f"from public.detectors.presence.options import PresenceOptions\n{last}")
    entry = "        Entry(RetinaNetOptions, "
    ours = '        Entry(PresenceOptions, "public.detectors.presence.network", "Presence"),\n'
    tree.change(catalog, entry, f"{ours}{entry}")
    tree.assert_only("a detector", kind="presence")
    tree.put_experiment()
    tree.run(f"""{BOXES}
train("--network", "presence", "--detector.margin", "0.2", "--detector.level", "c4")
from public.detectors.trained import load_detector
found = load_detector("runs/tiny/checkpoints/best.pth", device="cpu")("coco/images/val2017/a.jpg")
assert [round(x) for x in found.boxes[0].tolist()] == [8, 6, 32, 24], found
""")


@pytest.mark.slow
def test_a_detection_format(tree: Tree) -> None:
    """Is read, checked and trained on, and the results are written in it."""
    tree.write("public/datasets/lines.py", (ROOT / "tests/datasets/lines_format.py").read_text())
    table = "public/datasets/formats.py"
    imported = "from public.datasets.voc import VOC\n"
    tree.change(table, imported, f"from public.datasets.lines import LINES\n{imported}")
    tree.change(table, "(COCO, VOC, YOLO)", "(COCO, VOC, YOLO, LINES)")
    tree.assert_only("a detection format", format="lines")
    tree.put_experiment()
    folder = tree.outside / "lines"
    for name in ("a.png", "b.png"):
        write_image(folder / name, 40, 30)
    lines = "a.png;40;30;dog;1;2;21;22\nb.png;40;30;cat;0;0;9;9\n"
    for split in ("train", "val"):
        (folder / f"{split}.txt").write_text(lines)
    (folder / "damaged.txt").write_text(f"{lines}a.png;40\n")
    output = tree.run(f"""{BOXES}
from public.datasets.check import main as check
data = ["--data.dataset", "lines", "--data.separator", ";", "--data.folder", {str(folder)!r},
        "--data.val-splits", "val", "--best-metric", "mAP50", "--runtime.num-workers", "0"]
assert check([".", *data, "--data.train-splits", "damaged"]) == 1
train(*data, "--data.train-splits", "train", "--detector.score-threshold", "0")
""")
    assert "needs 8 entries" in output
    assert (tree.outside / "runs/tiny/report/detections.txt").read_text().startswith("a.png,")


@pytest.mark.slow
def test_a_classification_format(tree: Tree) -> None:
    """Is read, checked and trained on."""
    tree.write("public/datasets/numbered_images.py", (ADDED / "numbered_images.py").read_text())
    table = "public/datasets/image_formats.py"
    imported = "from public.datasets.imagenet import IMAGENET\n"
    tree.change(table, imported, f"{imported}from public.datasets.numbered_images import NUMBERED\n")
    tree.change(table, "(IMAGENET, CIFAR100)", "(IMAGENET, CIFAR100, NUMBERED)")
    tree.assert_only("a classification format", format="numbered_images")
    shutil.copy(ROOT / EXAMPLE / "config.py", tree.outside)
    for split in ("train", "val"):
        for name in ("cat-1", "cat-2", "dog-1", "dog-2"):
            write_image(tree.outside / "images" / split / f"{name}.png", 40, 30)
    output = tree.run(f"""{IMAGES}
from public.datasets.check import main as check
data = ["--data.dataset", "numbered", "--data.separator=-", "--data.folder", {str(tree.outside / "images")!r}]
assert check([".", *data, "--num-classes", "2", "--batch-size", "4"]) == 0
train(*data, "--data.input-size", "32", "--network", "mobilenet_v2")
""")
    assert "2 classes (cat, dog)" in output
    assert (tree.outside / "runs/resnet18/checkpoints/best.pth").is_file()


@pytest.mark.slow
def test_a_metric(tree: Tree) -> None:
    """Judges a run by --data.metrics, chooses its best epoch, and writes its own file."""
    tree.write("public/evaluation/hits.py", (ADDED / "hits.py").read_text())
    table = "public/evaluation/detection.py"
    imported = "from public.evaluation.voc import VocEvaluator\n"
    tree.change(table, imported, f"from public.evaluation.hits import HitEvaluator\n{imported}")
    tree.change(table, "(CocoEvaluator, VocEvaluator)", "(CocoEvaluator, VocEvaluator, HitEvaluator)")
    tree.assert_only("a metric", rules="hits")
    tree.put_experiment()
    tree.run(f"""{BOXES}
train("--data.metrics", "hits", "--best-metric", "hit_rate", "--detector.score-threshold", "0")
""")
    assert '"hit_rate": ' in (tree.outside / "runs/tiny/metrics.jsonl").read_text()
    assert re.fullmatch(r"[01]\.\d{3}\n", (tree.outside / "runs/tiny/report/hits.txt").read_text())


@pytest.mark.slow
def test_a_setting(tree: Tree) -> None:
    """Is shown in --help, refused out of range, recorded, restored, and does what it says."""
    owner, reader = "public/detectors/fcos/options.py", "public/detectors/fcos/decode.py"
    field = "    centerness_weighted: bool = True\n"
    ours = '    score_factor: float = 1.0\n    """What every score is multiplied by."""\n'
    tree.change(owner, field, f"{ours}{field}")
    first = "        require(self.box_weight > 0, "
    check = '        require(0 < self.score_factor <= 1, "detector.score_factor must lie within (0, 1].")\n'
    tree.change(owner, first, f"{check}{first}")
    tree.change(reader, "    return pack(boxes, scores, ", "    return pack(boxes, options.score_factor * scores, ")
    tree.assert_only("a setting", kind="fcos")
    tree.put_experiment()
    output = tree.run("""
import contextlib
from config import CONFIGS
from public.config.command_line import parse_config
from public.config.record import from_record, to_record
from public.detectors.catalog import build_from_options
from public.datasets.batches import ImageSizes
from public.recipes.detection import DetectionTask
def parsed(*args):
    return parse_config(CONFIGS, args, DetectionTask.kinds)[0]
def best_score(config):
    torch.manual_seed(0)
    detector = build_from_options(2, config.detector).eval()
    sizes = torch.tensor([[64, 64]])
    with torch.inference_mode():
        return detector.decode(detector(torch.zeros(1, 3, 64, 64)), ImageSizes(sizes, sizes)).scores.max()
plain, halved = parsed(), parsed("--detector.score-factor", "0.5")
assert from_record(to_record(halved)) == halved != plain
assert to_record(halved)["detector"]["score_factor"] == 0.5
assert torch.isclose(best_score(halved), best_score(plain) / 2)
for args in (["--help"], ["--detector.score-factor", "2"]):
    with contextlib.suppress(SystemExit):
        parsed(*args)
""")
    assert "--detector.score-factor FLOAT" in output
    assert "What every score is multiplied by. (default: 1.0)" in output


@pytest.mark.slow
def test_a_loss(tree: Tree, image_folder: Path) -> None:
    """An experiment's own: trains, is named in the checkpoint, and is found again by the folder's test script."""
    loss = """\
import torch
from public.recipes.classification import ClassificationTask
class SquaredTask(ClassificationTask):
    def losses(self, logits, *labels):
        targets = torch.nn.functional.one_hot(labels[0], logits.shape[1])
        return {"squared": ((logits.softmax(1) - targets) ** 2).sum(1).mean()}
"""
    tree.write(f"{EXAMPLE}/loss.py", loss)
    train = f"{EXAMPLE}/train.py"
    tree.change(train, "from config import CONFIGS\n", "from config import CONFIGS\nfrom loss import SquaredTask\n")
    tree.change(train, "main(CONFIGS, __file__)", "main(CONFIGS, __file__, task=SquaredTask)")
    tree.assert_only("a loss", experiment=EXAMPLE)
    folder = tree.folder / EXAMPLE
    output = tree.run(
        f"""
import runpy, sys
data = ["--data.folder", {str(image_folder)!r}, "--data.input-size", "32"]
sys.argv = ["train.py", "--epochs", "1", "--batch-size", "4", "--runtime.num-workers", "0", "--runtime.device", "cpu",
            "--schedule.warmup-epochs", "0", "--num-classes", "None", "--precision", "fp32",
            "--network", "mobilenet_v2", *data]
try:
    runpy.run_path("train.py", run_name="__main__")
except SystemExit as end:
    assert end.code == 0, end.code
from public.test_scripts.classification import main
from public.test_scripts.test_on_imagenet import IMAGENET
from public.runtime.checkpoint import load_checkpoint
from pathlib import Path
assert load_checkpoint(Path("runs/resnet18/checkpoints/best.pth"))["task"] == "experiment:loss.SquaredTask"
main(IMAGENET, [".", "--num-workers", "0", "--device", "cpu"])
""",
        cwd=folder,
    )
    assert re.search(r"top1 .* of 7\)", output)


@pytest.mark.slow
def test_an_experiment(tree: Tree) -> None:
    """Three files, whose rows the command line of its train.py and its test.sh show."""
    folder = "imagenet_experiments/resnet34_sample"
    config = (ROOT / EXAMPLE / "config.py").read_text()
    tree.write(f"{folder}/config.py", config.replace('"resnet18"', '"resnet34"'))
    tree.write(f"{folder}/train.py", (ROOT / EXAMPLE / "train.py").read_text())
    tree.write(f"{folder}/test.sh", (ROOT / EXAMPLE / "test.sh").read_text())
    row = f"\n`{folder}`: `python train.py resnet34`\n"
    tree.change("docs/results.md", "## Measured here\n", f"## Measured here\n{row}")
    tree.assert_only("an experiment", experiment=folder)
    output = tree.run(
        """
import runpy, sys
sys.argv = ["train.py", "resnet34", "--help"]
try:
    runpy.run_path("train.py", run_name="__main__")
except SystemExit as end:
    assert end.code == 0, end.code
""",
        cwd=tree.folder / folder,
    )
    assert "Rows: resnet34, darknet_tiny (" in " ".join(output.split())


@pytest.mark.slow
def test_a_trick(tree: Tree) -> None:
    """A setting of every classification that is off by default, and its row in the table of tricks."""
    settings, recipe = "public/config/classification.py", "public/recipes/classification.py"
    field = "    drop_block: float | None = None\n"
    ours = '    logit_penalty: float | None = None\n    """Weight of the mean square of the logits; None: none."""\n'
    tree.change(settings, field, f"{ours}{field}")
    loss = "        return {self.config.loss: LOSSES[self.config.loss](logits, *labels, label_smoothing=smoothing)}\n"
    ours = """\
        losses = {self.config.loss: LOSSES[self.config.loss](logits, *labels, label_smoothing=smoothing)}
        weight = self.config.logit_penalty
        return losses if weight is None else losses | {"penalty": weight * logits.square().mean()}
"""
    tree.change(recipe, loss, ours)
    tree.change(
        f"{TRICKS}/config.py", '    "cutmix": {', '    "logit_penalty": {"logit_penalty": 0.5},\n    "cutmix": {'
    )
    tree.assert_only("a trick")
    program = """
from config import CONFIGS
from public.config.command_line import parse_config
from public.recipes.classification import ClassificationTask
row, _ = parse_config(CONFIGS, ["logit_penalty", "--network", "mobilenet_v2"], ClassificationTask.kinds)
assert CONFIGS["baseline"].logit_penalty is None
task = ClassificationTask(ClassificationTask.build_network(row, 2), row, torch.float32)
losses = task.losses(torch.tensor([[3.0, 1.0]]), torch.tensor([0]))
assert losses["penalty"] == 2.5, losses
"""
    tree.run(program, cwd=tree.folder / TRICKS)
