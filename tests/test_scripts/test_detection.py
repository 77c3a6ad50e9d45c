"""test_on_coco and test_on_voc: the number that training gave, the files, the times, and what does not fit."""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO as ReferenceAnnotations
from pycocotools.cocoeval import COCOeval

from public.config.classification import ClassificationConfig
from public.config.detection import DetectionConfig
from public.config.record import to_record
from public.detectors.catalog import build_detector
from public.detectors.retinanet.network import RetinaNet
from public.detectors.trained import TrainedDetector, load_detector
from public.recipes.detection import DetectionTask
from public.runtime.checkpoint import load_checkpoint, save_checkpoint
from public.runtime.distributed import DistributedContext
from public.test_scripts import detection
from public.test_scripts.detection import main, options_of, run
from public.test_scripts.request import Request, read_request
from public.test_scripts.test_on_coco import COCO
from public.test_scripts.test_on_voc import VOC
from tests import warm_python
from tests.conftest import ROOT
from tests.datasets.written import voc_object, write_voc
from tests.old_runs.make import write_old_data, write_old_run
from tests.test_scripts.trained import CLASS_NAMES, TRAIN, TrainedRun, run_script

pytestmark = pytest.mark.usefixtures("no_plots")

QUIET = ["--num-workers", "0", "--time-steps", "0", "--device", "cpu"]


def request_of(*arguments: str) -> Request:
    """What the script reads first of its command line."""
    return read_request(arguments, DetectionTask.kinds[:2], lambda _: pytest.fail("no config"), DetectionConfig)


def best_row(trained: TrainedRun) -> dict[str, Any]:
    """What training wrote about the epoch of best.pth."""
    return load_checkpoint(trained.best)["metrics"]["best"]


@pytest.mark.plots
@pytest.mark.slow
def test_a_best_checkpoint_gives_the_number_that_training_gave(
    trained_run: TrainedRun, context: DistributedContext, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To the last digit, with the row's own options; then what is printed and what is written."""
    request = request_of(str(trained_run.folder))
    assert request.config == trained_run.row
    assert options_of(request).output == str(trained_run.folder / "runs" / "tiny" / "test")
    options = replace(options_of(request), output=str(tmp_path / "test"), time_steps=0)
    assert Path(options.weights) == trained_run.best
    result = run(options, request, context)
    assert result.metrics == {name: best_row(trained_run)[name] for name in result.metrics}
    assert result.metrics["AP50"] > 0.05
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("detector   retinanet on mobilenet_v2: ")
    assert printed[0].endswith(" at 64x64")
    assert "M parameters" in printed[0]
    assert "G MACs" in printed[0]
    assert printed[1:2] == [f"weights    {trained_run.best}"]
    assert printed[2].startswith("computed   on 1 x CPU (")
    assert printed[2].endswith(") in float32, as published numbers are (--precision auto: as training computes)")
    table = (tmp_path / "test" / "table.txt").read_text()
    assert table in "\n".join(printed) + "\n"
    names = {path.name for path in (tmp_path / "test").iterdir()}
    assert names == {
        *("pictures.jpg", "worst.jpg", "precision_recall.png", "table.txt", "record_mAP.txt"),
        *("predictions.json", "coco_images.json", "report.html", "metrics.json", "per_class.csv"),
    }


@pytest.mark.slow
def test_times_by_batch_size(
    trained_run: TrainedRun,
    context: DistributedContext,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Five images: of batch 1 two warm up and three count, of batch 2 one and one, and 4 does not fit twice."""
    sizes: list[int] = []
    decode = RetinaNet.decode
    monkeypatch.setattr(
        RetinaNet,
        "decode",
        lambda self, outputs, found: sizes.append(len(found[0])) or decode(self, outputs, found),
    )
    request = request_of(str(trained_run.folder))
    options = replace(options_of(request), output=None, batch_size=5, time_batches=(1, 2, 4))
    run(options, request, context)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("time")]
    assert len(lines) == 3
    for line, start, end in zip(lines, ("batch 1: ", "batch 2: "), ("(mean of 3)", "(mean of 2)"), strict=False):
        assert line.startswith(f"time       {start}")
        assert " ms per image: load " in line
        assert " + forward " in line
        assert " + decode " in line
        assert line.endswith(end)
    assert lines[2] == "time       batch 4: skipped, 5 images do not make two batches"
    assert sizes == [5, 1, 1, 1, 1, 1, 2, 2]


@pytest.mark.slow
def test_the_predictions_file_is_worth_what_was_printed(
    trained_run: TrainedRun, context: DistributedContext, tmp_path: Path
) -> None:
    """pycocotools reads the annotations and predictions.json: its 12 numbers are ours."""
    request = request_of(str(trained_run.folder))
    options = replace(options_of(request), output=str(tmp_path), time_steps=0)
    result = run(options, request, context)
    with contextlib.redirect_stdout(io.StringIO()):
        annotations = ReferenceAnnotations(str(trained_run.data / "annotations" / "instances_val2017.json"))
        reference = COCOeval(annotations, annotations.loadRes(str(tmp_path / "predictions.json")), "bbox")
        reference.evaluate()
        reference.accumulate()
        reference.summarize()
    assert list(result.metrics.values()) == pytest.approx(reference.stats.tolist(), abs=1e-12)


@pytest.mark.slow
def test_a_checkpoint_knows_what_it_fits(
    trained_run: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No experiment, no network, no data: the file alone, or with a folder below DATA_ROOT or the present one."""
    expected, out = f"AP50 {best_row(trained_run)['AP50']:.4f}", ["--output", str(tmp_path / "out")]
    main(COCO, ["--weights", str(trained_run.best), *out, *QUIET])
    printed = capsys.readouterr().out
    assert expected in printed
    assert "at 64x64" in printed
    assert "time" not in printed
    shutil.copytree(trained_run.data, tmp_path / "moved" / "squares")
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "moved"))
    main(COCO, ["--weights", str(trained_run.best), "--data.folder", "squares", *out, *QUIET])
    assert expected in capsys.readouterr().out
    monkeypatch.delenv("DATA_ROOT")
    monkeypatch.chdir(tmp_path / "moved" / "squares")
    main(COCO, ["--weights", str(trained_run.best), "--data.folder", ".", *out, *QUIET])
    assert expected in capsys.readouterr().out


def test_weights_of_others_compute_in_fp32() -> None:
    weights = ("--weights", "torchvision:retinanet_resnet50_fpn")
    request = request_of(str(ROOT / "detection_experiments/resnet50_retinanet_voc2012_finetune"), *weights)
    assert request.config.precision == "auto"
    assert options_of(request).precision == "fp32"


@pytest.mark.slow
def test_results_lie_beside_the_weights(trained_run: TrainedRun, tmp_path: Path) -> None:
    """In the run folder of a checkpoint, wherever that is; those of any other file are not written."""
    best = tmp_path / "elsewhere" / "checkpoints" / "best.pth"
    best.parent.mkdir(parents=True)
    shutil.copy(trained_run.best, best)
    shutil.copy(trained_run.best, tmp_path / "loose.pth")
    torch.save(load_checkpoint(trained_run.best)["ema"], best.parent / "bare.pth")
    main(COCO, ["--weights", str(best), *QUIET])
    assert (tmp_path / "elsewhere" / "test" / "predictions.json").is_file()
    folder = str(trained_run.folder)
    assert options_of(request_of(folder, "--weights", str(best))).output == str(tmp_path / "elsewhere" / "test")
    for other in (tmp_path / "loose.pth", best.parent / "bare.pth"):
        assert options_of(request_of(folder, "--weights", str(other))).output is None


@pytest.mark.slow
def test_an_experiment_folder_and_its_row(trained_run: TrainedRun, capsys: pytest.CaptureFixture[str]) -> None:
    """As test.sh calls it: the folder and the row, its best.pth, its test/ folder."""
    main(COCO, [str(trained_run.folder), "tiny", *QUIET])
    printed = capsys.readouterr().out
    assert f"weights    {trained_run.best}" in printed
    assert f"AP50 {best_row(trained_run)['AP50']:.4f}" in printed
    assert (trained_run.folder / "runs" / "tiny" / "test" / "predictions.json").is_file()
    with pytest.raises(SystemExit, match="2"):
        main(COCO, [str(trained_run.folder), "tinny"])
    assert "this experiment has no row 'tinny'; the nearest: tiny" in capsys.readouterr().err


@pytest.mark.slow
def test_the_same_weights_on_voc(trained_run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """VOC2007's test images with VOC's rules and files; the classes are those of the COCO data."""
    objects = {"000002": voc_object("red", 3, 3, 30, 30), "000004": voc_object("blue", 3, 3, 30, 30)}
    write_voc(tmp_path / "VOCdataset", objects, "VOC2007/test")
    (tmp_path / "VOCdataset" / "classes.txt").write_text("\n".join(CLASS_NAMES))
    kind = ["--data.dataset", "voc", "--data.val-splits", "VOC2007/test"]
    arguments = ["--weights", str(trained_run.best), *kind, "--data.folder", str(tmp_path / "VOCdataset"), "--output"]
    main(VOC, [*arguments, str(tmp_path / "out"), *QUIET])
    printed = capsys.readouterr().out
    assert "mAP50_11point" in printed
    assert f"written    {tmp_path / 'out'}: report.html " in printed
    files = sorted(path.name for path in (tmp_path / "out").glob("comp4_det_test_*.txt"))
    assert files == ["comp4_det_test_blue.txt", "comp4_det_test_red.txt"]
    lines = [line for name in files for line in (tmp_path / "out" / name).read_text().splitlines()]
    assert {line.split()[0] for line in lines} == {"000002", "000004"}
    assert not (tmp_path / "out" / "record_mAP.txt").exists()
    main(VOC, [*arguments, str(tmp_path / "out"), "--metrics", "coco", *QUIET])
    assert "AP_small" in capsys.readouterr().out
    record = (tmp_path / "out" / "record_mAP.txt").read_text().splitlines()
    assert len(record) == 17
    assert [line.partition(":")[0].strip() for line in record[-2:]] == ["blue", "red"]
    with pytest.raises(SystemExit, match="2"):
        main(VOC, ["--weights", str(trained_run.best), "--data.dataset", "vok", *QUIET])
    assert "--data.dataset vok: there is no such one; the nearest: voc" in capsys.readouterr().err


@pytest.mark.slow
def test_soft_suppression(trained_run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Chosen for an evaluation alone; refused where the detector knows none."""
    with pytest.raises(SystemExit, match="2"):
        main(COCO, [str(trained_run.folder), "--detector.soft-nms", "linear", *QUIET])
    assert "--detector.soft-nms" in capsys.readouterr().err
    options = {"backbone": "mobilenet_v2", "channels": 16, "head_channels": 16, "score_threshold": 0.0}
    torch.save(build_detector("faster_rcnn", 2, **options).state_dict(), tmp_path / "bare.pth")
    (tmp_path / "config.py").write_text(
        "from tests.test_scripts.trained import row_on\n"
        "from dataclasses import replace\n"
        "from pathlib import Path\n"
        "from public.detectors.faster_rcnn.options import FasterRCNNOptions\n"
        f"row = row_on(Path({str(trained_run.data)!r}))\n"
        f"CONFIGS = {{'tiny': replace(row, detector=FasterRCNNOptions(**{options!r}))}}\n"
    )
    found = []
    for name, arguments in (("hard", []), ("soft", ["--detector.soft-nms", "gaussian"])):
        paths = ["--weights", str(tmp_path / "bare.pth"), "--output", str(tmp_path / name)]
        main(COCO, [str(tmp_path), *paths, *arguments, *QUIET])
        found.append(json.loads((tmp_path / name / "predictions.json").read_text()))
    assert found[0] != found[1]


@pytest.mark.slow
def test_bare_weights_need_a_network(
    trained_run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A state dict says nothing of itself: refused, until the command line says it."""
    torch.save(build_detector("centernet", 2, backbone="resnet18").state_dict(), tmp_path / "bare.pth")
    arguments = ["--weights", str(tmp_path / "bare.pth"), "--data.folder", str(trained_run.data), *QUIET]
    with pytest.raises(SystemExit, match="2"):
        main(COCO, arguments)
    assert "bare.pth is not a checkpoint of one of our runs, so" in capsys.readouterr().err
    main(COCO, [*arguments, "--network", "centernet", "--detector.backbone", "resnet18", "--data.input-size", "64"])
    printed = capsys.readouterr().out
    assert "detector   centernet on resnet18: " in printed
    assert " at 64x64" in printed


@pytest.mark.slow
def test_bare_weights_of_a_row(trained_run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder's first row says what the checkpoint would: pyramid levels, channels, anchors and canvas."""
    torch.save(load_checkpoint(trained_run.best)["ema"], tmp_path / "bare.pth")
    main(COCO, [str(trained_run.folder), "--weights", str(tmp_path / "bare.pth"), "--output", str(tmp_path), *QUIET])
    assert f"AP50 {best_row(trained_run)['AP50']:.4f}" in capsys.readouterr().out


@pytest.mark.slow
def test_two_processes_give_the_same_table(trained_run: TrainedRun, tmp_path: Path) -> None:
    """Under torchrun, each with its share of the five images: one table, and it is one process's."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    script = ["-m", "public.test_scripts.test_on_coco", "--weights", str(trained_run.best)]
    arguments = ["--data.folder", str(trained_run.data), "--output", str(tmp_path / "two"), *QUIET]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [warm_python.executable(), *launcher, *script, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "computed   on 2 x CPU" in done.stdout
    assert done.stdout.count("AP50 0.") == 1
    assert f"AP50 {best_row(trained_run)['AP50']:.4f}" in done.stdout
    assert len(json.loads((tmp_path / "two" / "predictions.json").read_text())) > 0


@pytest.mark.slow
def test_the_device_of_this_process(trained_run: TrainedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """The detector goes where the images go, whatever --device would choose: each process has its own GPU."""
    given: list[torch.device] = []

    def assemble(*_: Any, device: torch.device, **__: Any) -> TrainedDetector:
        given.append(device)
        raise KeyError("seen")

    monkeypatch.setattr(detection, "assemble_detector", assemble)
    request = request_of(str(trained_run.folder))
    options = replace(options_of(request), num_workers=0)
    with pytest.raises(KeyError, match="seen"):
        run(options, request, DistributedContext(rank=1, size=2, device=torch.device("meta")))
    assert given == [torch.device("meta")]


@pytest.fixture
def other_folder(trained_run: TrainedRun, tmp_path: Path) -> Path:
    """An experiment whose only row, tiny, is an FCOS on ResNet-18."""
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / "config.py").write_text(
        "from tests.test_scripts.trained import row_on\n"
        "from dataclasses import replace\n"
        "from pathlib import Path\n"
        "from public.detectors.fcos.options import FCOSOptions\n"
        f"row = row_on(Path({str(trained_run.data)!r}))\n"
        "CONFIGS = {'tiny': replace(row, detector=FCOSOptions(backbone='resnet18'))}\n"
    )
    return folder


@pytest.mark.slow
def test_the_network_is_not_chosen_twice(
    trained_run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint or a row says which it is: there is no --network beside them, and another backbone does not fit."""
    torch.save(load_checkpoint(trained_run.best)["ema"], tmp_path / "bare.pth")
    folder, best, bare = str(trained_run.folder), str(trained_run.best), str(tmp_path / "bare.pth")
    commands = [[folder], ["--weights", best], [folder, "--weights", best], [folder, "tiny", "--weights", bare]]
    for command in commands:
        for network in ("fcos", "retinanet"):
            with pytest.raises(SystemExit, match="2"):
                main(COCO, [*command, "--network", network, *QUIET])
            assert "--network" in capsys.readouterr().err
        with pytest.raises(SystemExit, match="2"):
            main(COCO, [*command, "--output", "None", "--detector.backbone", "resnet34", *QUIET])
        assert "does not fit" in capsys.readouterr().err
    true = ["--detector.backbone", "mobilenet_v2", "--data.input-size", "64"]
    main(COCO, [folder, "--weights", bare, "--output", str(tmp_path / "out"), *true, *QUIET])
    assert f"AP50 {best_row(trained_run)['AP50']:.4f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--data", "--data.folder"),
        ("--data=x", "--data.folder"),
        ("--soft-nms", "--detector.soft-nms"),
        ("--soft_nms", "--detector.soft-nms"),
        ("--backbone", "--detector.backbone"),
        ("--canvas-size", "--data.input-size"),
    ],
)
def test_former_names_of_options(capsys: pytest.CaptureFixture[str], old: str, new: str) -> None:
    """Refused with the present one, before any file is looked at."""
    with pytest.raises(SystemExit, match="2"):
        main(COCO, ["--weights", "missing.pth", old, "x"])
    assert f"{old.partition('=')[0]} is called {new} now" in capsys.readouterr().err


@pytest.mark.slow
def test_a_checkpoint_of_another_detector(
    trained_run: TrainedRun, other_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refused where a row was named, whose result it is not; else it is evaluated, and not into the first row's run."""
    with pytest.raises(SystemExit, match="2"):
        main(COCO, [str(other_folder), "tiny", "--weights", str(trained_run.best), *QUIET])
    assert capsys.readouterr().err == (
        f"error: {trained_run.best} is a checkpoint of retinanet on mobilenet_v2, and the row tiny is fcos on "
        "resnet18: give weights of this row, or no row: a checkpoint brings its own network with it.\n"
    )
    shutil.copy(trained_run.best, tmp_path / "any.pth")
    main(COCO, [str(other_folder), "--weights", str(tmp_path / "any.pth"), *QUIET])
    printed = capsys.readouterr().out
    assert f"AP50 {best_row(trained_run)['AP50']:.4f}" in printed
    assert "written" not in printed
    assert not (other_folder / "runs").exists()


@pytest.mark.slow
def test_a_row_trained_with_other_options(
    trained_run: TrainedRun, other_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python train.py --network retinanet` of an FCOS row: what lies in the row's run folder is the row's."""
    best = other_folder / "runs" / "tiny" / "checkpoints" / "best.pth"
    best.parent.mkdir(parents=True)
    shutil.copy(trained_run.best, best)
    main(COCO, [str(other_folder), *QUIET])
    printed = capsys.readouterr().out
    assert "detector   retinanet on mobilenet_v2: " in printed
    assert f"AP50 {best_row(trained_run)['AP50']:.4f}" in printed


@pytest.mark.slow
def test_an_output_that_cannot_be_written(
    trained_run: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file in its place: known before anything is evaluated; the main process alone writes, and looks."""
    monkeypatch.setattr(detection, "evaluate_detector", lambda *_: pytest.fail("an evaluation in vain"))
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="2"):
        main(COCO, [str(trained_run.folder), "--output", str(tmp_path / "file"), *QUIET])
    captured = capsys.readouterr()
    assert f"error: output='{tmp_path / 'file'}' is not a folder that can be written to: File exists." in captured.err
    assert "written" not in captured.out


@pytest.mark.slow
def test_a_disk_that_is_full_after_the_evaluation(
    trained_run: TrainedRun,
    tmp_path: Path,
    small_disk: Callable[[int], AbstractContextManager[None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The numbers are printed, and the exit code is none of success."""
    with small_disk(100), pytest.raises(SystemExit, match="2"):
        main(COCO, [str(trained_run.folder), "--output", str(tmp_path / "out"), *QUIET])
    captured = capsys.readouterr()
    assert "AP50 " in captured.out
    assert "written" not in captured.out
    error = captured.err.splitlines()[-1]
    assert error.startswith(f"error: not everything could be written to {tmp_path / 'out'} (why: see above): ")
    assert "report.html" in error


def of_other_categories(trained_run: TrainedRun, folder: Path, names: dict[str, str]) -> tuple[Any, Any]:
    """Request and options for the run's data whose validation split numbers its classes the other way round."""
    shutil.copytree(trained_run.data, folder)
    path = folder / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    first, second = (category["id"] for category in content["categories"][:2])
    for category in content["categories"]:
        category["name"] = names[category["name"]]
    for one in content["annotations"]:
        one["category_id"] = {first: second, second: first}[one["category_id"]]
    path.write_text(json.dumps(content))
    request = request_of("--weights", str(trained_run.best))
    data = replace(trained_run.row.data, folder=str(folder))
    return request, replace(options_of(request), data=data, num_workers=0, time_steps=0)


@pytest.mark.slow
def test_classes_in_another_order(trained_run: TrainedRun, context: DistributedContext, tmp_path: Path) -> None:
    """Matched by name: the same number as with the ids of the training split."""
    request, options = of_other_categories(trained_run, tmp_path / "COCO2017", {"blue": "red", "red": "blue"})
    assert run(options, request, context).metrics["AP50"] == pytest.approx(best_row(trained_run)["AP50"], abs=1e-6)


@pytest.mark.slow
def test_other_classes_are_refused(trained_run: TrainedRun, context: DistributedContext, tmp_path: Path) -> None:
    """Not one name is the checkpoint's."""
    request, options = of_other_categories(trained_run, tmp_path / "COCO2017", {"blue": "rot", "red": "blau"})
    with pytest.raises(
        ValueError, match=r"not one of its 2 classes \(rot, blau\) is among the 2 classes \(blue, red\)"
    ):
        run(options, request, context)


@pytest.mark.slow
def test_a_damaged_image_is_named(trained_run: TrainedRun, context: DistributedContext, tmp_path: Path) -> None:
    """Half a file: an evaluation of the others would be another number."""
    shutil.copytree(trained_run.data, tmp_path / "COCO2017")
    image = min((tmp_path / "COCO2017" / "images" / "val2017").iterdir())
    image.write_bytes(image.read_bytes()[:100])
    request = request_of("--weights", str(trained_run.best))
    data = replace(trained_run.row.data, folder=str(tmp_path / "COCO2017"))
    options = replace(options_of(request), output=None, data=data, num_workers=0)
    with pytest.raises(ValueError, match=image.name):
        run(options, request, context)


def classification_checkpoint(config: ClassificationConfig, path: Path) -> Path:
    """What a classification run writes, as far as the detection scripts look at it."""
    assert save_checkpoint(path, {"config": to_record(config), "class_names": ["a", "b"], "model": {}})
    return path


@pytest.mark.slow
def test_what_is_no_detector(
    trained_run: TrainedRun, config: ClassificationConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A classifier's checkpoint, half a checkpoint, no file, a row that was not trained: one sentence each, code 2."""
    half = tmp_path / "half.pth"
    half.write_bytes(trained_run.best.read_bytes()[:5000])
    classifier = classification_checkpoint(config, tmp_path / "classifier.pth")
    expected = {
        classifier: f"{classifier} is the checkpoint of resnet18cifar",
        half: f"{half} cannot be read as a checkpoint: it is cut off or damaged",
        tmp_path / "typo.pth": f"error: there is no {tmp_path / 'typo.pth'}.",
        tmp_path / "best.pth": "best.pth yet: train the row first, or give --weights FILE.",
    }
    for path, message in expected.items():
        with pytest.raises(SystemExit, match="2"):
            main(COCO, ["--weights", str(path), "--data.folder", str(trained_run.data), *QUIET])
        error = capsys.readouterr().err
        assert message in error
        assert "Traceback" not in error
    with pytest.raises(SystemExit, match="2"):
        main(COCO, [str(trained_run.folder), "--weights", str(half), *QUIET])
    assert "half.pth (5000 bytes) cannot be read as weights: it is cut off or damaged" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size", "0"], "batch_size=0 must be 1 or more"),
        (["--time-batches", "1", "0"], r"time_batches=\(1, 0\) must be 1 or more"),
        (["--time-steps", "-1"], "time_steps=-1 must be 0 or more"),
        (["--num-workers", "-1"], "num_workers=-1 must be 0 or more"),
        (["--data.input-size", "0"], "data.input_size=0 must lie within"),
        (["--network", "fcoss"], "--network fcoss: there is no such one; the nearest: fcos"),
        (["--network", "fcos", "--detector.backbone", "resnet5"], "no backbone 'resnet5'; the nearest: "),
        (["--data.folder", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_end_with_exit_code_2(
    trained_run: TrainedRun,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    """Each in one sentence that names the option or the file."""
    torch.save({"weight": torch.zeros(1)}, tmp_path / "bare.pth")
    weights = tmp_path / "bare.pth" if "--network" in arguments else trained_run.best
    with pytest.raises(SystemExit, match="2"):
        main(COCO, ["--weights", str(weights), "--data.folder", str(trained_run.data), "--device", "cpu", *arguments])
    error = capsys.readouterr().err
    assert re.search(message, error), error


# ---- what a run was trained with is what it is evaluated with --------------------------------------------------------


@pytest.mark.slow
def test_settings_of_the_command_line(
    trained_run: TrainedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run of another name, data folder and split than its row has: best.pth alone is enough."""
    squares = tmp_path / "moved" / "squares"
    shutil.copytree(trained_run.data, squares)
    for old in (squares / "annotations" / "instances_val2017.json", squares / "images" / "val2017"):
        old.rename(old.with_name(old.name.replace("val2017", "other")))
    folder = tmp_path / "experiment"
    folder.mkdir()
    shutil.copy(trained_run.folder / "config.py", folder)
    changes = ["--name", "mine", "--data.folder", str(squares), "--data.val-splits", "other", "--epochs", "1"]
    (folder / "train.py").write_text(TRAIN)
    trained = run_script(folder / "train.py", *changes, "--detector.channels", "16")
    assert trained.returncode == 0, trained.stderr[-3000:]
    best = folder / "runs" / "mine" / "checkpoints" / "best.pth"
    expected = f"AP50 {load_checkpoint(best)['metrics']['best']['AP50']:.4f}"
    main(COCO, ["--weights", str(best), *QUIET])
    assert expected in capsys.readouterr().out
    main(COCO, [str(folder), "--weights", str(best), *QUIET])
    assert expected in capsys.readouterr().out
    assert (folder / "runs" / "mine" / "test" / "predictions.json").is_file()
    assert not (folder / "runs" / "tiny").exists()


@pytest.mark.slow
def test_a_transform_of_the_experiments_own(own_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Evaluated with the experiment's folder, given either way; without it the class is named and not imported."""
    best = own_folder / "runs" / "dark" / "checkpoints" / "best.pth"
    expected = f"AP50 {load_checkpoint(best)['metrics']['best']['AP50']:.4f}"
    weights = ["--weights", str(best)]
    for command in ([str(own_folder)], [str(own_folder), *weights], [*weights, "--experiment", str(own_folder)]):
        main(COCO, [*command, *QUIET])
        assert expected in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(COCO, [*weights, *QUIET])
    error = capsys.readouterr().err
    assert error.startswith(f"error: {best}: own.Darker is a class of the experiment's own folder: give that folder, ")
    assert "--experiment FOLDER" in error


@pytest.mark.slow
def test_own_transforms_in_python(own_folder: Path, trained_run: TrainedRun) -> None:
    """load_detector takes the folder; so does the script that draws."""
    best = own_folder / "runs" / "dark" / "checkpoints" / "best.pth"
    detect = load_detector(best, device="cpu", experiment=own_folder)
    assert [type(transform).__name__ for transform in detect.transforms] == ["Darker", "SquareResize"]
    usual = TrainedDetector(detect.image_detector, detect.transforms[1:], detect.class_names)
    dark, light = detect(trained_run.val_images[0]), usual(trained_run.val_images[0])
    assert not np.array_equal(dark.scores, light.scores)
    with pytest.raises(ValueError, match=r"own\.Darker is a class of the experiment's own folder"):
        load_detector(best, device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fcos", "faster_rcnn"])
def test_a_run_of_format_1(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its best.pth brings network, data below DATA_ROOT and transforms with it, as one of today does."""
    write_old_data(name, tmp_path)
    best = write_old_run(name, tmp_path / "old").with_name("best.pth")
    monkeypatch.setenv("DATA_ROOT", str(tmp_path))
    main(COCO, ["--weights", str(best), *QUIET])
    printed = capsys.readouterr().out
    assert f"detector   {name} on " in printed
    assert f"written    {tmp_path / 'old' / 'test'}: report.html" in printed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["coco", "voc", "imagenet", "cifar100"])
def test_help_needs_nothing_else(name: str) -> None:
    """Neither weights nor data nor a trained row."""
    command = [warm_python.executable(), "-m", f"public.test_scripts.test_on_{name}", "--help"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--weights" in done.stdout
    assert "--data.dataset" in done.stdout


def test_help_of_a_row(other_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before it is trained: with the row's own defaults."""
    with pytest.raises(SystemExit, match="0"):
        main(COCO, [str(other_folder), "--help"])
    printed = capsys.readouterr().out
    assert "resnet18" in printed
    assert "--network " not in printed
