"""The tables of formats, and that one more detection format takes one file and one line there, and nothing else."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from public.config.calls import SIZE, Call
from public.config.classification import ClassificationData
from public.config.detection import DetectionConfig, DetectionData
from public.config.options import DetectorOptions
from public.config.run import RuntimeConfig
from public.datasets import formats, image_formats
from public.datasets.annotations import DetectionAnnotations
from public.datasets.batches import DataError
from public.datasets.check import check
from public.datasets.coco import COCO, CocoData
from public.datasets.detection import build_eval_data, build_train_data
from public.datasets.formats import FORMATS, format_of
from public.datasets.image_formats import IMAGE_FORMATS, image_format_of
from public.datasets.imagenet import IMAGENET, ImageFolderData
from public.datasets.predictions import Predictions
from public.datasets.scan import Kind
from public.datasets.voc import VocData
from public.evaluation.detection import check_metrics, evaluator_of
from public.evaluation.report import write_report
from public.optim.options import ConstantOptions, SGDOptions
from public.runtime.distributed import DistributedContext
from public.transforms.detection import SquareResize
from tests.datasets.lines_format import LINES, LinesData
from tests.datasets.written import coco_content, voc_object, write_coco, write_image, write_voc

SPLITS = {"train_splits": ("train",), "val_splits": ("val",), "train_transforms": (Call(SquareResize, size=SIZE),)}


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DetectionConfig:
    """A row on two training images with three objects and one validation image with one, in the third format."""
    monkeypatch.setitem(FORMATS, LINES.options.kind, LINES)  # the one line
    folder = tmp_path / "lines"
    for name in ("a.png", "b.png", "c.png"):
        write_image(folder / name, 40, 30)
    (folder / "train.txt").write_text("a.png,40,30,dog,1,2,21,22\na.png,40,30,cat,0,0,9,9\nb.png,40,30,dog,5,5,9,9\n")
    (folder / "val.txt").write_text("c.png,40,30,dog,4,5,24,25\nc.png,40,30,cat,0,0,9,9\n")
    resize = (Call(SquareResize, size=SIZE),)
    return DetectionConfig(
        name="tiny",
        epochs=1,
        batch_size=2,
        best_metric="mAP50",
        detector=DetectorOptions(backbone="resnet18"),
        data=LinesData(
            folder=str(folder),
            input_size=40,
            train_splits=("train",),
            val_splits=("val",),
            train_transforms=resize,
            val_transforms=resize,
        ),
        optimizer=SGDOptions(lr=0.1, weight_decay=0.0),
        schedule=ConstantOptions(),
        runtime=RuntimeConfig(num_workers=0),
    )


def found_in(annotations: DetectionAnnotations) -> Predictions:
    """The dog of the validation image, and nothing else."""
    return Predictions(
        annotations.image_ids[:1], np.array([[4, 5, 24, 25]], np.float32), np.array([0.75], np.float32), np.array([1])
    )


def test_a_third_format_trains(lines: DetectionConfig, context: DistributedContext) -> None:
    """Its boxes and classes arrive in both loaders."""
    data = build_train_data(lines, context)
    assert (data.num_images, data.class_names, data.category_ids) == (2, ["cat", "dog"], [1, 2])
    (batch,) = data.train.epoch(0)
    assert sorted(labels.tolist() for labels in batch.labels) == [[1, -1], [1, 0]]
    (batch,) = build_eval_data(lines.data, batch_size=1, num_workers=0, context=context).loader
    assert batch.boxes.tolist() == [[[4, 5, 24, 25], [0, 0, 9, 9]]]


def test_a_third_format_is_checked(lines: DetectionConfig, context: DistributedContext) -> None:
    """Sound, then with a line cut short and an image that is gone: in the words of its own reader."""
    assert [report.problems for report in check(lines)] == [[], []]
    folder = Path(lines.data.folder)
    with (folder / "train.txt").open("a") as file:
        file.write("a.png,40\n")
    (folder / "c.png").unlink()
    kinds = [[problem.kind for problem in report.problems] for report in check(lines)]
    assert kinds == [[Kind.UNREADABLE_ANNOTATION], [Kind.MISSING_IMAGE]]
    with pytest.raises(DataError, match="needs 8 entries"):
        build_train_data(lines, context)
    (folder / "val.txt").unlink()
    assert [report.content for report in check(lines)][1] == "cannot be read"


@pytest.mark.slow
@pytest.mark.parametrize(("metrics", "expected"), [(None, "mAP50"), ("coco", "AP50")])
def test_a_third_format_is_evaluated(
    lines: DetectionConfig, context: DistributedContext, tmp_path: Path, metrics: str | None, expected: str
) -> None:
    """By the rules that it states, or by COCO's without a file of COCO's; detections are written as it writes them."""
    data = replace(lines.data, metrics=metrics)
    annotations = build_eval_data(data, batch_size=1, num_workers=0, context=context).annotations
    evaluator = evaluator_of(data.rules)(annotations)
    result = evaluator.evaluate(found_in(annotations))
    assert result.metrics[expected] == pytest.approx(0.5)
    write_report(
        tmp_path / "out", result, found_in(annotations), annotations, data=data, evaluator=evaluator, title="t"
    )
    assert (tmp_path / "out" / "detections.txt").read_text() == "c.png,dog,0.750\n"
    names = {path.name for path in (tmp_path / "out").iterdir()} - {*evaluator.report_names}
    assert names == {
        *("detections.txt", "predictions.json", "coco_images.json", "table.txt", "report.html", "metrics.json"),
        "per_class.csv",
        *("precision_recall.png", "pictures.jpg", "worst.jpg"),
    }


def test_a_third_format_has_the_metrics_of_its_rules(lines: DetectionConfig) -> None:
    """Those that it states without being asked; others where they are asked for."""
    check_metrics(lines)
    with pytest.raises(
        ValueError, match=r"^best_metric='AP' is not among the metrics of data\.dataset='lines': mAP50_11"
    ):
        check_metrics(replace(lines, best_metric="AP"))
    check_metrics(replace(lines, best_metric="AP", data=replace(lines.data, metrics="coco")))


def test_a_third_format_need_not_be_published(lines: DetectionConfig, context: DistributedContext) -> None:
    """Asking for it is one sentence, and options of no format at all are another."""
    with pytest.raises(
        DataError, match=r"^data\.download=True: nothing is published in the format lines\. Put the spl"
    ):
        build_train_data(replace(lines, data=replace(lines.data, download=True)), context)
    with pytest.raises(ValueError, match=r"^DetectionData is of no format in public/datasets/formats\.py\.$"):
        format_of(DetectionData(folder="x", input_size=40, **SPLITS))  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        ValueError, match=r"^ClassificationData is of no format in public/datasets/image_formats\.py\.$"
    ):
        image_format_of(ClassificationData(folder="x", input_size=40, train_transforms=()))


@dataclass(frozen=True, kw_only=True)
class CrowdsData(CocoData):
    """A format whose options build on COCO's."""

    kind: ClassVar[str] = "crowds"


@dataclass(frozen=True, kw_only=True)
class FoldersData(ImageFolderData):
    """The same of ImageNet's."""

    kind: ClassVar[str] = "folders"


def test_a_format_that_builds_on_another_has_its_own_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never the other's, in the table or not; options without a name of their own are still the other's."""
    crowds = CrowdsData(folder="x", input_size=40, **SPLITS)  # pyright: ignore[reportArgumentType]
    folders = FoldersData(folder="x", input_size=40, train_transforms=())
    with pytest.raises(ValueError, match=r"^CrowdsData is of no format"):
        format_of(crowds)
    with pytest.raises(ValueError, match=r"^FoldersData is of no format"):
        image_format_of(folders)
    monkeypatch.setitem(FORMATS, "crowds", replace(COCO, options=CrowdsData))
    monkeypatch.setitem(IMAGE_FORMATS, "folders", replace(IMAGENET, options=FoldersData))
    assert format_of(crowds).options is CrowdsData
    assert image_format_of(folders).options is FoldersData

    class Unnamed(CocoData):
        """Some experiment's own, in COCO's format."""

    assert format_of(Unnamed(folder="x", input_size=40, **SPLITS)) is COCO  # pyright: ignore[reportArgumentType]


def test_images_to_look_at(lines: DetectionConfig, tmp_path: Path) -> None:
    """Those of the validation splits, sorted, without a look at their annotations; none is an error."""
    write_coco(tmp_path / "coco", coco_content(()), "val")
    (tmp_path / "coco" / "images" / "val" / "readme.txt").touch()
    write_voc(tmp_path / "voc", {"y": voc_object("dog", 1, 1, 9, 9), "x": ""}, "Own/val")
    own = {
        CocoData: (("val",), ["images/val/a.jpg", "images/val/b.jpg"]),
        VocData: (("Own/val",), ["Own/JPEGImages/x.jpg", "Own/JPEGImages/y.jpg"]),
        LinesData: (("val",), ["c.png"]),
    }
    for options, (val_splits, files) in own.items():
        folder = tmp_path / options.kind
        data = options(
            folder=str(folder), input_size=40, train_splits=("x",), val_splits=val_splits, train_transforms=()
        )
        images = format_of(data).images
        assert images(folder, data) == [folder / file for file in files]
        for file in files:
            (folder / file).unlink()
        if options is not LinesData:
            with pytest.raises(FileNotFoundError, match=r"no(t one)? image"):
                images(folder, data)
        with pytest.raises((FileNotFoundError, DataError)):
            images(tmp_path / "elsewhere", data)


def test_the_tables() -> None:
    """A format is known by the name in its options; the command line chooses among all of them."""
    assert [*FORMATS] == ["coco", "voc", "yolo"]
    assert [*IMAGE_FORMATS] == ["imagenet", "cifar100"]
    for table, kind in ((FORMATS, formats.DATA_KIND), (IMAGE_FORMATS, image_formats.DATA_KIND)):
        recognized = ["auto"] if table is FORMATS else []
        assert (kind.option, kind.section, [*kind.names]) == ("data.dataset", "data", [*table, *recognized])
        for name, row in table.items():
            assert kind.type_of(name) is row.options
            assert row.options.kind == name
