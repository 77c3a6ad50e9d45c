"""From a config to loaders: what is checked between the two."""

import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import v2

from public.config.calls import SIZE, Call
from public.config.classification import ClassificationConfig
from public.datasets.batches import DataError
from public.datasets.check import check
from public.datasets.cifar100 import CifarTrainLoader
from public.datasets.classification import build_eval_data, build_train_data
from public.datasets.image_folder import list_images
from public.datasets.imagenet import ImageFolderData
from public.datasets.loaders import ImageFolderTrainLoader
from public.datasets.packed import Shrinking
from public.datasets.packing import pack_split
from public.datasets.scan import Kind
from public.runtime.distributed import DistributedContext


@pytest.fixture
def imagenet(config: ClassificationConfig, image_folder: Path) -> ClassificationConfig:
    """The small row on the tiny image folder: 11 and 7 images of two classes, global batches of 4."""
    resize = (Call(v2.Resize, size=(SIZE, SIZE)),)
    data = ImageFolderData(folder=str(image_folder), input_size=8, train_transforms=resize)
    runtime = replace(config.runtime, num_workers=0)
    return replace(config, data=data, batch_size=4, accumulation_steps=2, runtime=runtime)


@pytest.fixture
def cifar(config: ClassificationConfig, tmp_path: Path) -> ClassificationConfig:
    """The small row on 20 and 5 noise images in CIFAR-100's layout, three classes."""
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": ["a", "b", "c"]}))
    for name, count in (("train", 20), ("test", 5)):
        content = {"data": np.zeros((count, 3072), np.uint8), "fine_labels": [n % 3 for n in range(count)]}
        (folder / name).write_bytes(pickle.dumps(content))
    return replace(config, data=replace(config.data, folder=str(tmp_path), published_archive=False))


def test_image_folders(imagenet: ClassificationConfig, context: DistributedContext) -> None:
    """Both loaders, names and count; the evaluation's batch is what one forward pass of training sees: 4 / 2."""
    data = build_train_data(imagenet, context)
    assert isinstance(data.train, ImageFolderTrainLoader)
    assert (data.class_names, data.num_images, data.train.steps_per_epoch) == (["bird", "cat"], 11, 2)
    assert (data.val.num_images, data.val.batch_size) == (7, 2)
    assert next(data.train.epoch(0)).images.shape == (4, 3, 8, 8)


def test_cifar(cifar: ClassificationConfig, context: DistributedContext) -> None:
    """One global batch of 16 of 20 images; 5 to evaluate on."""
    data = build_train_data(cifar, context)
    assert isinstance(data.train, CifarTrainLoader)
    assert (data.class_names, data.num_images, data.train.steps_per_epoch) == (["a", "b", "c"], 20, 1)
    assert data.val.num_images == 5
    assert next(data.train.epoch(0)).images.shape == (16, 3, 32, 32)


def test_the_validation_split_alone(
    imagenet: ClassificationConfig, cifar: ClassificationConfig, context: DistributedContext
) -> None:
    """Testing needs no training images: none is there."""
    for folder in (Path(imagenet.data.folder) / "train", Path(cifar.data.folder) / "cifar-100-python" / "train"):
        folder.rename(folder.with_name("elsewhere"))
    found = [build_eval_data(row.data, batch_size=4, num_workers=0, context=context) for row in (imagenet, cifar)]
    assert [(data.loader.num_images, data.class_names) for data in found] == [
        (7, ["bird", "cat"]),
        (5, ["a", "b", "c"]),
    ]


def test_the_classes_are_checked_against_the_config(
    imagenet: ClassificationConfig, context: DistributedContext
) -> None:
    """A stated number that the data does not have; the right one passes."""
    build_train_data(replace(imagenet, num_classes=2), context)
    with pytest.raises(DataError, match=r"num_classes=10, and .*/images has 2 classes \(bird, cat\)\."):
        build_train_data(replace(imagenet, num_classes=10), context)


def test_different_classes_in_train_and_val(imagenet: ClassificationConfig, context: DistributedContext) -> None:
    """Found before any image is read."""
    (Path(imagenet.data.folder) / "val" / "cat").rename(Path(imagenet.data.folder) / "val" / "dog")
    with pytest.raises(DataError, match="val holds 1 of 2 classes that are not trained on: dog; expected some or all"):
        build_train_data(imagenet, context)


def test_one_class_alone(imagenet: ClassificationConfig, image_folder: Path, context: DistributedContext) -> None:
    """A folder of images that is no class folder looks so: any network is right about it at once."""
    for split in ("train", "val"):
        shutil.rmtree(image_folder / split / "bird")
    config = replace(imagenet, batch_size=2, accumulation_steps=1)
    words = r"there is one class alone \(cat\), and nothing to tell apart; expected a folder for each class"
    with pytest.raises(DataError, match=f"^{image_folder}: {words}\\.$"):
        build_train_data(config, context)
    of_train, of_val = (report.problems for report in check(config))
    assert [problem.kind for problem in of_train] == [Kind.TOO_LITTLE]
    assert not of_val


def test_a_class_that_val_lacks(
    imagenet: ClassificationConfig, context: DistributedContext, caplog: pytest.LogCaptureFixture
) -> None:
    """Training goes on and says so; labels of val are train's, also for a network that was trained on more classes."""
    root = Path(imagenet.data.folder)
    shutil.rmtree(root / "val" / "bird")
    data = build_train_data(imagenet, context)
    assert data.class_names == ["bird", "cat"]
    assert [label for batch in data.val for label in batch.labels.tolist()] == [1, 1, 1, 1]
    assert f"{root}/val holds no image of 1 of 2 classes (bird)" in caplog.text
    trained = ["ant", "bird", "cat"]
    found = build_eval_data(imagenet.data, batch_size=4, num_workers=0, context=context, class_names=trained)
    assert found.class_names == trained
    assert [batch.labels.tolist() for batch in found.loader] == [[2, 2, 2, 2]]


def test_hidden_files_are_said(
    imagenet: ClassificationConfig, context: DistributedContext, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder of checkpoints is no class, a kind that is not read no image: each is counted, with examples."""
    root = Path(imagenet.data.folder) / "train"
    (root / ".ipynb_checkpoints").mkdir()
    (root / "cat/._0.png").touch()
    (root / "cat/new.heic").touch()
    assert build_train_data(imagenet, context).class_names == ["bird", "cat"]
    assert f"passed over: 2 hidden files ({root}/.ipynb_checkpoints, {root}/cat/._0.png)" in caplog.text
    assert f"passed over: 1 images of kinds that are not read ({root}/cat/new.heic)" in caplog.text


def test_digests_of_a_folder_of_classes(
    imagenet: ClassificationConfig, image_folder: Path, context: DistributedContext
) -> None:
    """A new image of one split changes its digest alone; an image in another class changes it as well."""
    before = build_train_data(imagenet, context).digests
    assert before == build_train_data(imagenet, context).digests
    assert set(before) == {"training", "validation"}
    Image.new("RGB", (9, 9)).save(image_folder / "val/cat/new.png")
    grown = build_train_data(imagenet, context).digests
    assert grown["training"] == before["training"]
    assert grown["validation"] != before["validation"]
    (image_folder / "val/cat/new.png").rename(image_folder / "val/bird/new.png")
    assert build_train_data(imagenet, context).digests["validation"] not in (
        before["validation"],
        grown["validation"],
    )


def test_digests_of_cifar(cifar: ClassificationConfig, context: DistributedContext) -> None:
    """Of both splits, which differ."""
    digests = build_train_data(cifar, context).digests
    assert set(digests) == {"training", "validation"}
    assert len(set(digests.values())) == 2


def test_labels_of_cifar_by_the_names_of_a_network(cifar: ClassificationConfig, context: DistributedContext) -> None:
    """Numbers among the names in reverse order are counted from the other end."""
    own = build_eval_data(cifar.data, batch_size=4, num_workers=0, context=context)
    names = own.class_names[::-1]
    other = build_eval_data(cifar.data, batch_size=4, num_workers=0, context=context, class_names=names)
    labels = [[label for batch in data.loader for label in batch.labels.tolist()] for data in (own, other)]
    assert labels[1] == [len(names) - 1 - label for label in labels[0]]
    with pytest.raises(DataError, match="classes that are not trained on"):
        build_eval_data(cifar.data, batch_size=4, num_workers=0, context=context, class_names=names[1:])


def test_a_missing_data_root(
    config: ClassificationConfig, context: DistributedContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file below DATA_ROOT that was looked for, and what can be done."""
    monkeypatch.setenv("DATA_ROOT", "/nowhere")
    with pytest.raises(DataError, match=r"/nowhere/CIFAR100/cifar-100-python/train cannot be read .*DATA_ROOT=data/sa"):
        build_train_data(config, context)


def test_transforms_of_the_wrong_kind(cifar: ClassificationConfig) -> None:
    """CIFAR's work on a whole batch, and its evaluation has none: said when the options are made."""
    with pytest.raises(ValueError, match=r"train_transforms holds Call\(RandomHorizontalFlip, p=0\.25\), which wor"):
        replace(cifar.data, train_transforms=(Call(v2.RandomHorizontalFlip, p=0.25),))
    with pytest.raises(ValueError, match=r"data\.val_transforms has no effect with data\.dataset='cifar100'"):
        replace(cifar.data, val_transforms=cifar.data.train_transforms)


def test_transforms_follow_the_input_size(imagenet: ClassificationConfig, context: DistributedContext) -> None:
    """They are made when the data is opened."""
    data = build_train_data(replace(imagenet, data=replace(imagenet.data, input_size=6)), context)
    assert next(data.train.epoch(0)).images.shape == (4, 3, 6, 6)


def test_cifar_images_are_used_as_they_are(cifar: ClassificationConfig) -> None:
    """One sentence for any other size."""
    with pytest.raises(ValueError, match=r"^data\.input_size=64 must be 32: CIFAR-100's images are used as they"):
        replace(cifar.data, input_size=64)


def test_balanced_classes(
    imagenet: ClassificationConfig,
    cifar: ClassificationConfig,
    context: DistributedContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """6 birds and 5 cats: 5.5 of each an epoch. 7, 7 and 6 of three classes: 20 / 21 to 20 / 18 times. An epoch
    stays as long as it is."""
    for row, steps, factors in ((imagenet, 2, "each 0.917 to 1.1 times"), (cifar, 1, "each 0.952 to 1.11 times")):
        data = build_train_data(replace(row, data=replace(row.data, balance=1.0)), context)
        assert data.train.steps_per_epoch == steps
        assert (
            caplog.messages[-1]
            == f"data.balance: an epoch takes {data.num_images} images of {data.num_images}, {factors}"
        )
    for balance in (0.0, 1.5):
        with pytest.raises(ValueError, match=rf"data\.balance={balance} must lie within \(0, 1\]"):
            replace(imagenet.data, balance=balance)


def photographed(path: Path) -> None:
    """A picture of 12 x 10 pixels whose EXIF orientation turns it a quarter."""
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(path) as image:
        image.save(path, exif=exif)


@pytest.mark.parametrize("decoder", ["opencv", "pil"])
@pytest.mark.parametrize(("orientation", "size"), [("upright", (12, 10)), ("stored", (10, 12))])
def test_orientation_is_a_setting(
    imagenet: ClassificationConfig, context: DistributedContext, decoder: Any, orientation: Any, size: tuple[int, int]
) -> None:
    """Height and width of a turned photo in the batches of evaluation, in the pictures of reports, and to the check."""
    photographed(Path(imagenet.data.folder) / "val/bird/0.png")
    assert isinstance(imagenet.data, ImageFolderData)
    data = replace(imagenet.data, decoder=decoder, orientation=orientation, max_pixels=120)
    loader = build_eval_data(data, batch_size=1, num_workers=0, context=context).loader
    assert tuple(next(iter(loader)).images.shape[2:]) == size
    assert loader.picture(0).shape[:2] == size
    assert not [problem for report in check(replace(imagenet, data=data)) for problem in report.problems]


def test_the_limit_of_pixels_is_a_setting(imagenet: ClassificationConfig, context: DistributedContext) -> None:
    """Of 119, where the pictures have 120: refused by name, by training and by the check."""
    row = replace(imagenet, data=replace(imagenet.data, max_pixels=119))
    expected = r"/[0-9].png cannot be decoded: it has 12 x 10 = 120 pixels, more than the 119 that are read \(max_pix"
    with pytest.raises(DataError, match=expected):
        list(build_train_data(row, context).train.epoch(0))
    problems = [problem for report in check(row) for problem in report.problems]
    assert len(problems) == 18
    assert problems[0].text.startswith("it has 12 x 10 = 120 pixels, more than the 119")
    with pytest.raises(ValueError, match=r"data.max_pixels=0 must be 1 or more"):
        replace(imagenet.data, max_pixels=0)


def test_stored_pixels_of_images_that_were_turned(imagenet: ClassificationConfig, context: DistributedContext) -> None:
    """Shrinking has turned them, and their orientation is gone."""
    root = Path(imagenet.data.folder)
    packed = root.with_name("packed")
    pack_split(list_images(root, "val"), packed / "val.lmdb", Shrinking(8, 90), 0)
    assert isinstance(imagenet.data, ImageFolderData)
    data = replace(imagenet.data, folder=str(packed), orientation="stored")
    with pytest.raises(
        DataError, match=r"'stored': .*val.lmdb was packed with --shorter-side, which turned its photos"
    ):
        build_eval_data(data, batch_size=1, num_workers=0, context=context)
