"""Whole detection runs: resuming, several processes, bad settings. The reference is a run without the disturbance."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import pytest
import torch
from torch.nn.parallel._functions import Scatter
from torch.nn.parallel.scatter_gather import scatter

from public.config.command_line import parse_config
from public.config.detection import DetectionConfig
from public.datasets.batches import DetectionBatch
from public.datasets.sample_layouts import write_coco
from public.detectors.catalog import build_detector, build_from_options, list_detectors
from public.detectors.detector import Detector
from public.detectors.fcos.network import FCOS
from public.recipes import detection as recipe
from public.recipes.detection import DetectionTask
from public.recipes.task import split
from public.runtime.checkpoint import load_checkpoint
from public.runtime.distributed import DistributedContext
from public.transforms.detection import FILL
from tests.recipes import runs
from tests.recipes.runs import LAUNCHES, ONE_PROCESS, run_program
from tests.recipes.tiny_detection import TINY, TINY_TWO_STAGES

pytestmark = pytest.mark.usefixtures("no_plots")

NUM_TRAIN, NUM_VAL = 14, 5


@pytest.fixture(scope="module")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated shapes in COCO's layout: crowds, an image without objects, sparse ids."""
    root = tmp_path_factory.mktemp("tiny_coco") / "COCO2017"
    write_coco(root, 0, NUM_TRAIN, NUM_VAL)
    return root


@pytest.fixture
def config(tiny_data: Path) -> DetectionConfig:
    """The tiny row on the tiny data."""
    return replace(TINY, data=replace(TINY.data, folder=str(tiny_data)))


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes the next run receive SIGTERM at its n-th step boundary (or evaluated batch)."""
    return runs.stop_after_polls(monkeypatch)


def train(config: DetectionConfig, path: Path, **options: Any) -> dict[str, Any]:
    """Runs to the end in this process; gives latest.pth."""
    assert recipe.train(config, path, ONE_PROCESS, **options) == 0
    return load_checkpoint(path / "checkpoints" / "latest.pth")


@pytest.mark.slow
@pytest.mark.plots
def test_the_run_folder_holds_what_was_promised(config: DetectionConfig, tmp_path: Path) -> None:
    """Files, a row with every loss and metric an epoch, and pictures of each evaluation."""
    checkpoint = train(config, tmp_path / "run")
    names = {str(p.relative_to(tmp_path / "run")) for p in (tmp_path / "run").rglob("*") if p.is_file()}
    assert {"config.json", "environment.json", "train.log", "metrics.jsonl", "curves.png"} <= names
    assert {"checkpoints/latest.pth", "checkpoints/best.pth"} <= names
    reports = ("epoch_001.jpg", "epoch_002.jpg", "precision_recall.png", "table.txt", "predictions.json", "report.html")
    assert {f"report/{name}" for name in reports} <= names
    grid = cv2.imread(str(tmp_path / "run" / "report" / "epoch_002.jpg"))
    assert grid is not None
    assert grid.std() > 10
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert rows == checkpoint["metrics"]["history"]
    numbers = json.loads((tmp_path / "run" / "report" / "metrics.json").read_text())
    assert checkpoint["score_threshold"] == numbers["score_threshold"]
    assert set() < checkpoint["class_thresholds"].keys() <= set(checkpoint["class_names"])
    losses = {"train_loss", "train_classification", "train_box", "train_centerness"}
    assert losses | {"AP", "AP50", "AR_100", "lr"} <= rows[0].keys()
    assert rows[1]["train_loss"] < rows[0]["train_loss"]
    assert len(checkpoint["class_names"]) == len(checkpoint["category_ids"]) == 10
    assert checkpoint["category_ids"] == sorted(set(checkpoint["category_ids"]))
    log = (tmp_path / "run" / "train.log").read_text()
    assert "14 training and 5 validation images" in log


@pytest.mark.slow
@pytest.mark.parametrize("num_polls", [2, 4, 5])
def test_a_stopped_run_resumes_bit_for_bit(
    config: DetectionConfig, tmp_path: Path, stop_after: Callable[[int], None], num_polls: int
) -> None:
    """SIGTERM within an epoch, in the evaluation (4), in the second epoch: 143, then the same bits.

    An epoch has 14 // 4 = 3 steps and 5 // 4 = 1 poll of evaluation. The second part reads with other workers; the
    canvas changes from batch to batch. It also computes again what the first kept.
    """
    config = replace(config, ema_decay=0.9)
    reference = train(config, tmp_path / "reference")
    stop_after(num_polls)
    assert recipe.train(config, tmp_path / "run", ONE_PROCESS) == 143
    workers = replace(config, runtime=replace(config.runtime, num_workers=2, activation_checkpointing="norms"))
    resumed = train(workers, tmp_path / "run")
    runs.assert_same_result(resumed, reference, num_tensors=len(runs.tensors_of(reference)))
    assert len(runs.tensors_of(reference)) > 500


@pytest.mark.slow
def test_what_two_stages_draw_resumes_bit_for_bit(
    config: DetectionConfig, tmp_path: Path, stop_after: Callable[[int], None]
) -> None:
    """Stopped in the second epoch: the anchors and regions that are learned are drawn from (seed, epoch, image)."""
    config = replace(TINY_TWO_STAGES, data=replace(TINY_TWO_STAGES.data, folder=config.data.folder))
    reference = train(config, tmp_path / "reference")
    stop_after(5)
    assert recipe.train(config, tmp_path / "run", ONE_PROCESS) == 143
    resumed = train(config, tmp_path / "run")
    runs.assert_same_result(resumed, reference, num_tensors=len(runs.tensors_of(reference)))
    losses = {"train_objectness", "train_proposal", "train_classification", "train_box"}
    assert losses <= resumed["metrics"]["history"][0].keys()


def batch_of_shapes() -> DetectionBatch:
    """Four images of 64 pixels with three objects, none, none and one."""
    objects = torch.tensor([[4.0, 4, 30, 40], [20, 10, 60, 60], [0, 0, 16, 16]])
    labels = torch.full((4, 3), -1)
    labels[0] = torch.tensor([0, 1, 2])
    labels[3, 0] = 1
    sizes = torch.full((4, 2), 64)
    numbers = torch.arange(4)
    return DetectionBatch(
        torch.rand(4, 3, 64, 64), objects.expand(4, 3, 4), labels, sizes, sizes, image_ids=numbers, seeds=numbers
    )


@pytest.mark.slow
@pytest.mark.parametrize("network", ["retinanet", "fcos", "centernet", "faster_rcnn"])
def test_the_loss_of_parts_is_that_of_the_whole(network: str) -> None:
    """Two accumulation steps of a batch whose objects are unevenly spread: gradients as from one pass."""
    torch.manual_seed(0)
    options = {"head_channels": 32, "pool_size": 3} if network == "faster_rcnn" else {}
    detector = build_detector(network, num_classes=3, backbone="mobilenet_v2", **options).eval()  # no batch statistics
    batch = batch_of_shapes()
    task = task_of(detector)

    def gradients(num_parts: int) -> torch.Tensor:
        detector.zero_grad()
        parts = split(batch, num_parts, torch.device("cpu"))
        for images, targets, normalizer in task.prepare(parts, 0):
            losses = detector.loss(detector(images), targets, normalizer[0])
            (torch.stack(list(losses.values())).sum() / num_parts).backward()
        return torch.cat([p.grad.flatten() for p in detector.parameters() if p.grad is not None])

    whole = gradients(1)
    for num_parts in (2, 4):
        torch.testing.assert_close(gradients(num_parts), whole, rtol=1e-3, atol=1e-5 * float(whole.abs().max()))
    ((images, targets, normalizer),) = task.prepare([batch], 0)
    assert normalizer.shape[0] == 4
    assert torch.equal(normalizer, normalizer[:1].expand_as(normalizer))
    own = detector.loss(detector(images), detector.targets(batch))
    given = detector.loss(detector(images), targets, normalizer[0])
    assert {k: v.item() for k, v in own.items()} == pytest.approx({k: v.item() for k, v in given.items()}, rel=1e-6)
    assert tuple(own) == detector.loss_names


def task_of(detector: Detector) -> DetectionTask:
    """The recipe's task around a detector, in one process."""
    task = DetectionTask(detector, replace(TINY, detector=detector.options), torch.float32)  # pyright: ignore
    task._context = ONE_PROCESS
    return task


@pytest.mark.slow
@pytest.mark.parametrize("network", list_detectors())
def test_targets_are_computed_once_a_step(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each part of the batch, and not again for its losses."""
    detector = build_detector(network, num_classes=3, backbone="mobilenet_v2")
    batch = batch_of_shapes()
    calls: list[int] = []
    real = type(detector).targets
    monkeypatch.setattr(
        type(detector), "targets", lambda self, batch: calls.append(len(batch.images)) or real(self, batch)
    )
    task = task_of(detector)
    for part in task.prepare(split(batch, 2, torch.device("cpu")), 0):
        task(*part)
    assert calls == [2, 2]


@pytest.mark.slow
@pytest.mark.parametrize("network", list_detectors())
def test_parts_on_several_gpus_are_the_whole(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """nn.DataParallel's own cutting, by chunks where there is no GPU: the mean of two parts' losses is the whole's.

    The targets stay the detector's own NamedTuple, and each part has the rows of the normalizer for its images. Of two
    stages this holds because what is drawn for an image depends on that image alone.
    """
    torch.manual_seed(0)
    detector = build_detector(network, num_classes=3, backbone="mobilenet_v2").eval()
    task, batch = task_of(detector), batch_of_shapes()
    (whole,) = task.prepare([batch], 0)
    monkeypatch.setattr(recipe, "num_replicas", lambda *_: 2)
    (shared,) = task.prepare([batch], 0)
    torch.testing.assert_close(shared[2], whole[2] / 2)
    monkeypatch.setattr(Scatter, "apply", lambda gpus, sizes, dim, tensor: tensor.chunk(len(gpus), dim))
    parts = scatter(tuple(shared), [0, 1])
    assert [len(part[0]) for part in parts] == [2, 2]
    assert all(type(part[1]) is type(whole[1]) and len(part[2]) == 2 for part in parts)
    with torch.no_grad():
        expected = task(*whole)
        found = [task(*part) for part in parts]
    assert tuple(expected) == detector.loss_names
    for name, loss in expected.items():
        mean = torch.stack([part[name] for part in found]).mean()
        assert mean.item() == pytest.approx(loss.item(), rel=1e-4)


@pytest.mark.slow
def test_weights_of_another_number_of_classes_only_when_asked(config: DetectionConfig, tmp_path: Path) -> None:
    """The layers of the classes are refused, then skipped and named."""
    torch.save(build_from_options(7, config.detector).state_dict(), tmp_path / "seven.pth")
    seven = replace(config.with_epochs(1), initial_weights=str(tmp_path / "seven.pth"))
    with pytest.raises(ValueError, match=r"cls_logits.*\[7, .*given.*\[10, .*expected"):
        recipe.train(seven, tmp_path / "refused", ONE_PROCESS)
    train(replace(seven, new_class_head=True), tmp_path / "run")
    log = (tmp_path / "run" / "train.log").read_text()
    assert "2 skipped (head.classification_head.cls_logits.weight" in log


@pytest.mark.slow
def test_another_input_size_is_what_the_network_sees(
    config: DetectionConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--data.input-size 96 of a row of 64: its sizes of 64 and 96 in training become 96 and 144, 96 in evaluation."""
    sizes: set[tuple[bool, int]] = set()
    real = FCOS.forward

    def forward(self: FCOS, images: torch.Tensor) -> Any:
        sizes.update({(self.training, max(images.shape[-2:]))} if images.device.type == "cpu" else ())
        return real(self, images)

    monkeypatch.setattr(FCOS, "forward", forward)
    row, _ = parse_config({"tiny": config}, ["--data.input-size", "96", "--epochs", "2"], DetectionTask.kinds)
    train(row, tmp_path / "run")
    assert sizes == {(True, 96), (True, 144), (False, 96)}
    assert "G MACs at 96x96" in (tmp_path / "run" / "train.log").read_text()


@pytest.mark.slow
def test_a_mistake_moves_no_old_run_aside(config: DetectionConfig, tmp_path: Path) -> None:
    """--fresh with weights that are not there, or an option out of range: the run folder is as it was."""
    config = config.with_epochs(1)
    train(config, tmp_path / "run")
    names = sorted(path.name for path in tmp_path.iterdir())
    lost = replace(config, initial_weights=str(tmp_path / "typo.pth"))
    wrong = replace(config, detector=replace(config.detector, backbone="resnet5"))
    for mistake, message in ((lost, r"typo\.pth"), (wrong, "no backbone 'resnet5'")):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            recipe.train(mistake, tmp_path / "run", ONE_PROCESS, fresh=True)
        assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.slow
def test_a_run_goes_on_without_the_weights_that_it_started_from(
    config: DetectionConfig, tmp_path: Path, stop_after: Callable[[int], None]
) -> None:
    """latest.pth holds all that they gave; only a new start wants the file."""
    weights = tmp_path / "start.pth"
    detector = build_from_options(10, config.detector)
    torch.save(detector.state_dict(), weights)
    config = replace(config, initial_weights=str(weights))
    reference = train(config, tmp_path / "reference")
    stop_after(2)
    assert recipe.train(config, tmp_path / "run", ONE_PROCESS) == 143
    weights.unlink()
    runs.assert_same_result(train(config, tmp_path / "run"), reference, num_tensors=len(runs.tensors_of(reference)))
    with pytest.raises(FileNotFoundError, match=r"start\.pth"):
        recipe.train(config, tmp_path / "run", ONE_PROCESS, fresh=True)


def test_processes_share_the_largest_canvas() -> None:
    """Of 4 x 6, 4 x 4 here and 5 x 3, 2 x 2 there: 5 x 6 and 4 x 4. Each is asked for a batch before it is needed."""
    said: list[str] = []

    class Answer(NamedTuple):
        canvas: torch.Tensor
        other: tuple[int, int]

        def wait(self) -> None:
            said.append("waits")
            self.canvas.copy_(torch.maximum(self.canvas, torch.tensor(self.other)))

    class Two(DistributedContext):
        """The other process's answers."""

        def start_max(self, values: torch.Tensor) -> Any:
            said.append("asks")
            return Answer(values, (5, 3) if values.tolist() == [4, 6] else (2, 2))

    batches = [batch_of_shapes()._replace(images=torch.zeros(2, 3, *size)) for size in ((4, 6), (4, 4), (4, 4))]
    two = Two(rank=0, size=2, device=torch.device("cpu"))
    found = list(recipe.on_agreed_canvases(iter(batches), two))
    assert [canvas for _, canvas in found] == [(5, 6), (4, 4), (4, 4)]
    assert all(batch is given for (batch, _), given in zip(found, batches, strict=True))
    assert said == ["asks", "asks", "waits", "asks", "waits", "waits"]
    assert [canvas for _, canvas in recipe.on_agreed_canvases(batches, ONE_PROCESS)] == [(4, 6), (4, 4), (4, 4)]
    assert list(recipe.on_agreed_canvases([], two)) == []


@pytest.mark.slow
def test_images_are_extended_to_the_agreed_canvas() -> None:
    """Right and below, with the mean color."""
    task, batch = task_of(build_detector("fcos", num_classes=3, backbone="mobilenet_v2")), batch_of_shapes()
    task._context = ONE_PROCESS
    height, width = batch.images.shape[-2:]
    task._canvas = (height + 1, width + 2)
    ((images, targets, _),) = task.prepare([batch], 0)
    assert images.shape[-2:] == task._canvas
    assert torch.equal(images[..., :height, :width], batch.images)
    assert images[1, :, height, 0].tolist() == images[0, :, 0, width + 1].tolist() == list(FILL)
    assert targets.labels.shape == task.detector.targets(batch._replace(images=images)).labels.shape


@pytest.mark.slow
def test_a_non_finite_loss_names_its_parts(config: DetectionConfig, tmp_path: Path) -> None:
    """A learning rate of 1e30 blows up; the weights are not overwritten."""
    wild = replace(config, optimizer=replace(config.optimizer, lr=1e30))
    with pytest.raises(FloatingPointError, match=r"not finite at step \d+ .*classification=.*box="):
        recipe.train(wild, tmp_path / "run", ONE_PROCESS)


def test_bad_settings_are_refused_by_name(config: DetectionConfig, tmp_path: Path) -> None:
    """Each in one sentence, before anything is trained."""
    unknown = replace(config, detector=replace(config.detector, backbone="resnet500"))
    with pytest.raises(ValueError, match=r"no backbone 'resnet500'.*resnet50"):
        recipe.train(unknown, tmp_path / "run", ONE_PROCESS)
    with pytest.raises(ValueError, match=r"best_metric='mAP50' is not among .*'coco': AP, AP50"):
        recipe.train(replace(config, best_metric="mAP50"), tmp_path / "run", ONE_PROCESS)
    with pytest.raises(ValueError, match=r"new_class_head=True has no effect"):
        replace(config, new_class_head=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("row", [TINY, TINY_TWO_STAGES], ids=lambda row: row.network)
def test_two_processes_train_as_one(row: DetectionConfig, tiny_data: Path, tmp_path: Path) -> None:
    """Two gloo processes with unevenly spread objects: one process's losses, and an evaluation like its own.

    Two stages draw the same anchors and regions in any number of processes, though the canvas is that of the largest
    image of a batch, which one process alone has. The two compute norms again, as on GPUs. The weights differ by
    rounding; that the evaluation of the same detections is the same to the last bit is tested in tests/evaluation/.
    """
    config = replace(row, data=replace(row.data, folder=str(tiny_data)))
    one_process = train(config, tmp_path / "one")["metrics"]["history"]
    losses = [f"train_{name}" for name in ("loss", *build_from_options(1, row.detector).loss_names)]
    script, *args = LAUNCHES["self"]
    arguments = [script, row.name, *args, "--name", "run", "--runtime.activation-checkpointing", "norms"]
    run_program("tiny_detection.py", tmp_path / "two", tiny_data, arguments)
    checkpoint = load_checkpoint(tmp_path / "two" / "runs" / "run" / "checkpoints" / "latest.pth")
    for one, two in zip(one_process, checkpoint["metrics"]["history"], strict=True):
        for key in losses:
            assert two[key] == pytest.approx(one[key], rel=1e-4)
        assert two["AP50"] == pytest.approx(one["AP50"], abs=0.02)


@pytest.mark.slow
def test_a_mistake_is_one_sentence_and_exit_code_2(tmp_path: Path) -> None:
    """A missing data folder, seen from the shell: no traceback."""
    done = run_program("tiny_detection.py", tmp_path / "run", tmp_path / "nowhere", ["train.py"], expected=2)
    assert "Traceback" not in done.stderr
    assert str(tmp_path / "nowhere") in done.stderr
