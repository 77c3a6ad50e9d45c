"""The generated sample: the same bytes every time, readable as the real data sets are, never half there."""

import errno
import json
import pickle
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import torchvision

from public.datasets import sample
from public.datasets.sample import DATA_SETS, SampleSizes, generate_sample
from public.datasets.sample_layouts import CIFAR100_CLASSES, COCO_CATEGORY_IDS, run_lengths
from public.datasets.sample_scenes import (
    OUTLINES,
    SHAPES,
    TEXTURES,
    Scene,
    Sprite,
    classification_scene,
    clip_polygon,
    detection_scene,
    polygon_area,
)

TINY = SampleSizes(
    imagenet_train_per_class=3,
    imagenet_val_per_class=2,
    cifar100_train=120,
    cifar100_test=100,
    coco_train=24,
    coco_val=16,
    voc_per_year=24,
)
TINIEST = SampleSizes(**dict.fromkeys(SampleSizes.__dataclass_fields__, 1))
TINIEST_FLAGS = [f"--{name.replace('_', '-')}=1" for name in SampleSizes.__dataclass_fields__]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny sample that no test changes."""
    folder = tmp_path_factory.mktemp("sample") / "data"
    generate_sample(folder, sizes=TINY)
    return folder


# What is written --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_equal_settings_give_equal_bytes(root: Path, tmp_path: Path) -> None:
    generate_sample(tmp_path / "again", sizes=TINY)
    assert contents(tmp_path / "again") == contents(root)


@pytest.mark.slow
def test_another_seed_gives_other_pictures_under_the_same_names(tmp_path: Path) -> None:
    generate_sample(tmp_path / "a", sizes=TINIEST)
    generate_sample(tmp_path / "b", sizes=TINIEST, seed=1)
    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert a.keys() == b.keys()
    pictures = [name for name in a if name.endswith((".jpg", "train", "test"))]
    assert len(pictures) == 2 * 10 + 2 + 2 + 2
    assert not any(a[name] == b[name] for name in pictures)


@pytest.mark.slow
def test_a_larger_sample_begins_with_the_smaller_one(root: Path, tmp_path: Path) -> None:
    generate_sample(tmp_path / "small", sizes=TINIEST)
    small, large = contents(tmp_path / "small"), contents(root)
    assert all(large[name] == small[name] for name in small if name.endswith((".jpg", ".xml")))


def test_imagenet_is_read_by_torchvision(root: Path) -> None:
    for split, per_class in (("train", 3), ("val", 2)):
        data = torchvision.datasets.ImageFolder(str(root / "ILSVRC2012" / split))
        assert tuple(data.classes) == SHAPES
        assert Counter(data.targets) == dict.fromkeys(range(10), per_class)
        sizes = np.array([image.size for image, _ in data])
        assert sizes.min() >= 80
        assert sizes.max() <= 140
        assert (sizes[:, 0] != sizes[:, 1]).any()


class LocalCifar100(torchvision.datasets.CIFAR100):
    """torchvision's reader without the checksums of the published archive."""

    train_list = [["train", None]]  # noqa: RUF012
    test_list = [["test", None]]  # noqa: RUF012
    meta = {"filename": "meta", "key": "fine_label_names", "md5": None}  # noqa: RUF012


def test_cifar100_is_read_by_torchvision(root: Path) -> None:
    """120 images: each of the 100 classes once, then the first 20 of the cycle a second time."""
    data = LocalCifar100(str(root / "CIFAR100"), train=True)
    assert tuple(data.classes) == CIFAR100_CLASSES == tuple(sorted(CIFAR100_CLASSES))
    assert data.data.shape == (120, 32, 32, 3)
    assert data.targets[:3] == [0, 37, 74]
    assert Counter(Counter(data.targets).values()) == {1: 80, 2: 20}
    assert Counter(LocalCifar100(str(root / "CIFAR100"), train=False).targets) == dict.fromkeys(range(100), 1)


def test_cifar100_has_the_keys_and_types_of_the_archive(root: Path) -> None:
    folder = root / "CIFAR100" / "cifar-100-python"
    batch = pickle.loads((folder / "train").read_bytes(), encoding="bytes")
    assert sorted(batch) == [b"batch_label", b"coarse_labels", b"data", b"filenames", b"fine_labels"]
    assert batch[b"batch_label"] == b"training batch 1 of 1"
    assert batch[b"coarse_labels"] == [label // 10 for label in batch[b"fine_labels"]]
    assert batch[b"data"].dtype == np.uint8
    assert batch[b"data"].shape == (120, 3072)
    assert len(set(batch[b"filenames"])) == 120
    meta = pickle.loads((folder / "meta").read_bytes(), encoding="bytes")
    assert meta[b"fine_label_names"][37] == b"cross_solid"
    assert meta[b"coarse_label_names"][3] == b"cross"


def test_cifar100_rows_are_planes_of_red_green_and_blue(root: Path) -> None:
    batch = pickle.loads((root / "CIFAR100/cifar-100-python/train").read_bytes(), encoding="bytes")
    generator = np.random.Generator(np.random.PCG64([0, 2, 1]))  # seed 0, split 2, image 1: class 37
    image = classification_scene(generator, 3, 7, height=32, width=32)
    blue, green, red = (image[:, :, channel].ravel() for channel in range(3))
    np.testing.assert_array_equal(batch[b"data"][1], np.concatenate([red, green, blue]))


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_coco_boxes_lie_tight_around_polygons_inside_the_image(root: Path, split: str) -> None:
    content = json.loads((root / "COCO2017/annotations" / f"instances_{split}.json").read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    for one in (one for one in content["annotations"] if not one["iscrowd"]):
        points = np.array(one["segmentation"][0]).reshape(-1, 2)
        x, y, width, height = one["bbox"]
        np.testing.assert_allclose([x, y, x + width, y + height], [*points.min(0), *points.max(0)], atol=1e-6)
        assert points.min() >= 0
        assert (points.max(0) <= sizes[one["image_id"]]).all()
        assert 0 < one["area"] <= width * height


def test_coco_has_empty_images_crowds_and_sparse_ids(root: Path) -> None:
    content = json.loads((root / "COCO2017/annotations/instances_train2017.json").read_text())
    per_image = Counter(one["image_id"] for one in content["annotations"] if not one["iscrowd"])
    image_ids = [image["id"] for image in content["images"]]
    assert [image_ids.index(i) for i in image_ids if i not in per_image] == [7, 23]
    crowds = [image_ids.index(one["image_id"]) for one in content["annotations"] if one["iscrowd"]]
    assert crowds == [3, 11, 19]
    assert max(per_image.values()) <= 6
    assert {one["category_id"] for one in content["annotations"]} <= set(COCO_CATEGORY_IDS)
    assert [category["name"] for category in content["categories"]] == list(SHAPES)


def test_coco_ids_are_unique_over_both_splits(root: Path) -> None:
    for kind in ("images", "annotations"):
        splits = [root / "COCO2017/annotations" / f"instances_{name}2017.json" for name in ("train", "val")]
        ids = [one["id"] for path in splits for one in json.loads(path.read_text())[kind]]
        assert len(ids) == len(set(ids))


# pycocotools 2.0.11 converts its masks in a way that numpy 2 finds outdated
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_coco_masks_decode_to_their_area_and_box(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Crowds exactly. Polygons as well as pixels can tell: to a pixel or so along the outline."""
    coco_module = pytest.importorskip("pycocotools.coco")
    mask_module = pytest.importorskip("pycocotools.mask")
    coco = coco_module.COCO(str(root / "COCO2017/annotations/instances_train2017.json"))
    for one in coco.loadAnns(coco.getAnnIds()):
        x, y, width, height = mask_module.toBbox(coco.annToRLE(one)) - one["bbox"]
        area = coco.annToMask(one).sum() - one["area"]
        if one["iscrowd"]:
            assert (x, y, width, height, area) == (0, 0, 0, 0, 0)
        else:
            assert np.abs([x, y, x + width, y + height]).max() < 2.5  # a thin tip may miss all pixel centers
            assert abs(area) <= one["bbox"][2] + one["bbox"][3]
    capsys.readouterr()  # pycocotools prints


def test_coco_is_read_by_torchvision(root: Path) -> None:
    pytest.importorskip("pycocotools")
    folder = root / "COCO2017"
    data = torchvision.datasets.CocoDetection(
        str(folder / "images/val2017"), str(folder / "annotations/instances_val2017.json")
    )
    assert len(data) == 16
    sizes = {image["id"]: (image["width"], image["height"]) for image in data.coco.loadImgs(data.ids)}
    images, targets = zip(*(data[index] for index in range(16)), strict=True)
    assert [image.size for image in images] == [sizes[image_id] for image_id in data.ids]
    assert [len(target) == 0 for target in targets] == [index == 7 for index in range(16)]


def read_voc(root: Path, year: int) -> dict[str, dict]:
    """Image id -> annotation, as torchvision parses it."""
    parse = torchvision.datasets.VOCDetection.parse_voc_xml
    paths = sorted((root / "VOCdataset" / f"VOC{year}" / "Annotations").glob("*.xml"))
    return {path.stem: parse(ElementTree.parse(path).getroot())["annotation"] for path in paths}


@pytest.mark.parametrize("year", [2007, 2012])
def test_voc_annotations_fit_their_images(root: Path, year: int) -> None:
    annotations = read_voc(root, year)
    assert len(annotations) == 24
    for image_id, annotation in annotations.items():
        image = cv2.imread(str(root / f"VOCdataset/VOC{year}/JPEGImages" / annotation["filename"]))
        assert image is not None
        assert annotation["filename"] == f"{image_id}.jpg"
        assert annotation["folder"] == f"VOC{year}"
        size = [int(annotation["size"][key]) for key in ("height", "width", "depth")]
        assert size == list(image.shape)
        assert 1 <= len(annotation["object"]) <= 6
        for one in annotation["object"]:
            left, top, right, bottom = (int(one["bndbox"][key]) for key in ("xmin", "ymin", "xmax", "ymax"))
            assert 1 <= left < right <= size[1]
            assert 1 <= top < bottom <= size[0]
            assert one["name"] in SHAPES


@pytest.mark.slow
def test_voc_boxes_count_pixels_from_one_and_include_the_last(tmp_path: Path) -> None:
    """Redraws image 1 of VOC2007: a box may lie 1 pixel outside of the pixels that a mask covers."""
    generate_sample(tmp_path / "data", sizes=TINIEST)
    (annotation,) = read_voc(tmp_path / "data", 2007).values()
    generator = np.random.Generator(np.random.PCG64([0, 6, 0]))
    height, width = map(int, generator.integers(120, 201, 2))
    num_objects = int(generator.integers(1, 7))
    _, objects = detection_scene(
        generator, height=height, width=width, num_objects=num_objects, with_crowd=False, min_visible=0.25
    )
    for one, written in zip(objects, annotation["object"], strict=True):
        rows, columns = np.nonzero(one.mask(height, width))
        pixels = [columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1]
        box = [int(written["bndbox"][key]) for key in ("xmin", "ymin", "xmax", "ymax")]
        assert (np.abs(np.subtract(box, pixels)) <= 1).all()


def test_voc_has_difficult_and_truncated_objects(root: Path) -> None:
    objects = [one for year in (2007, 2012) for a in read_voc(root, year).values() for one in a["object"]]
    assert 0.02 < np.mean([int(one["difficult"]) for one in objects]) < 0.2
    assert 0.1 < np.mean([int(one["truncated"]) for one in objects]) < 0.5


def test_voc_lists_partition_the_images(root: Path) -> None:
    """24 images: three turns of 8 in 2007, six turns of 4 in 2012."""
    expected = {
        2007: {"train": 9, "val": 3, "test": 12, "trainval": 12},
        2012: {"train": 18, "val": 6, "trainval": 24},
    }
    for year, lengths in expected.items():
        folder = root / "VOCdataset" / f"VOC{year}" / "ImageSets" / "Main"
        lists = {path.stem: path.read_text().split() for path in folder.glob("*.txt")}
        assert {name: len(ids) for name, ids in lists.items()} == lengths
        assert lists["trainval"] == sorted(lists["train"] + lists["val"])
        assert sorted(lists["trainval"] + lists.get("test", [])) == list(read_voc(root, year))
    assert (root / "VOCdataset/classes.txt").read_text().split() == list(SHAPES)


# What is on the disk already --------------------------------------------------------------------------------


def test_second_run_touches_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    generate_sample(root, sizes=TINY)
    assert "nothing to do" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


@pytest.mark.slow
@pytest.mark.parametrize("step", ["write_imagenet", "write_voc", "_move_into_place"])
def test_interrupted_run_is_redone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """No data set is in place after it, and the next run gives what an undisturbed one gives."""
    with monkeypatch.context() as patch:
        patch.setattr(sample, step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            generate_sample(tmp_path / "data", sizes=TINIEST)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["sample.partial"]
    generate_sample(tmp_path / "data", sizes=TINIEST)
    generate_sample(tmp_path / "undisturbed", sizes=TINIEST)
    assert contents(tmp_path / "data") == contents(tmp_path / "undisturbed")


def interrupt(*_: object) -> int:
    raise KeyboardInterrupt


@pytest.mark.slow
def test_run_interrupted_while_moving_is_redone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third rename fails: two data sets are in place, the record is not."""
    rename, moved = Path.rename, []

    def rename_twice(path: Path, target: Path) -> Path:
        moved.append(target.name)
        return rename(path, target) if len(moved) <= 2 else interrupt()  # type: ignore[return-value]

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename_twice)
        with pytest.raises(KeyboardInterrupt):
            generate_sample(tmp_path / "data", sizes=TINIEST)
    assert moved == list(DATA_SETS[:3])
    assert not (tmp_path / "data/sample.json").exists()
    generate_sample(tmp_path / "data", sizes=TINIEST)
    generate_sample(tmp_path / "undisturbed", sizes=TINIEST)
    assert contents(tmp_path / "data") == contents(tmp_path / "undisturbed")


def exit_code(command: list[str]) -> int | str | None:
    """Of a command that is refused."""
    with pytest.raises(SystemExit) as stop:
        sample.main(command)
    return stop.value.code


@pytest.mark.slow
def test_other_settings_are_refused_unless_told_to_overwrite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [f"--root={tmp_path / 'data'}", *TINIEST_FLAGS]
    assert sample.main(command) == 0
    before = contents(tmp_path / "data")
    assert exit_code([*command, "--seed=1"]) == 2
    assert "a sample with seed 0 instead of 1: pass --overwrite" in capsys.readouterr().err
    assert contents(tmp_path / "data") == before
    assert sample.main([*command, "--seed=1", "--overwrite"]) == 0
    assert json.loads((tmp_path / "data/sample.json").read_text())["seed"] == 1
    assert contents(tmp_path / "data") != before


@pytest.mark.parametrize("name", ["COCO2017/notes.txt", "sample.json"])
def test_foreign_folder_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")
    assert exit_code([f"--root={tmp_path}", "--overwrite", *TINIEST_FLAGS]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert contents(tmp_path) == {name: b"{}"}


def test_full_disk_is_one_sentence_and_leaves_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill_disk(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "000001.jpg")

    monkeypatch.setattr(sample, "write_coco", fill_disk)
    assert sample.main([f"--root={tmp_path}", *TINIEST_FLAGS]) == 1
    error = capsys.readouterr().err
    assert error == "error: cannot write the sample: [Errno 28] No space left on device: '000001.jpg'\n"
    assert list(tmp_path.iterdir()) == []


def test_root_that_is_or_lies_in_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("text")
    assert exit_code([f"--root={tmp_path / 'file'}"]) == 2
    assert "is not a folder" in capsys.readouterr().err
    assert exit_code([f"--root={tmp_path / 'file' / 'inner'}"]) == 2
    assert "inner cannot be written to: [Errno 20] Not a directory" in capsys.readouterr().err


def test_wrong_numbers_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="--coco-val must be at least 1, got 0"):
        SampleSizes(coco_val=0)
    assert exit_code([f"--root={tmp_path}", "--seed=-1"]) == 2
    assert capsys.readouterr().err == "error: --seed must not be negative, got -1\n"


# Drawing ----------------------------------------------------------------------------------------------------


def test_there_are_ten_shapes_and_ten_textures_in_sorted_order() -> None:
    assert len(SHAPES) == len(TEXTURES) == 10
    assert list(SHAPES) == sorted(SHAPES)
    assert list(TEXTURES) == sorted(TEXTURES)


@pytest.mark.parametrize("shape", SHAPES)
def test_outlines_fill_the_unit_circle(shape: str) -> None:
    radii = np.hypot(*OUTLINES[shape].T)
    assert 0.9 < radii.max() <= 1.0001


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ("square", 2.0),  # side sqrt(2)
        ("triangle", 3 * 3**0.5 / 4),  # side sqrt(3)
        ("cross", 2 * 0.6 * 1.9 - 0.6**2),  # two bars less their overlap
        ("arrow", 1.5 * 0.9 / 2 + 0.6 * 1.05),  # head and shaft
        ("hourglass", 2 * 0.75 * (1.3 + 0.2) / 2),  # two trapezoids
    ],
)
def test_areas_of_outlines(shape: str, area: float) -> None:
    assert polygon_area(OUTLINES[shape]) == pytest.approx(area)


def test_ring_is_the_outer_disc_less_the_inner_one() -> None:
    assert polygon_area(OUTLINES["ring"]) == pytest.approx(np.pi * (1 - 0.55**2), rel=0.01)


def test_clipping_keeps_what_is_inside() -> None:
    """A 10 x 10 square of which the image, 20 wide and 30 high, holds 6 x 4; and one it does not hold."""
    square = np.array([[14.0, 26], [24, 26], [24, 36], [14, 36]])
    clipped = clip_polygon(square, 30, 20)
    assert polygon_area(clipped) == 24
    assert [*clipped.min(0), *clipped.max(0)] == [14, 26, 20, 30]
    assert clip_polygon(square + 100, 30, 20).shape == (0, 2)


def test_clipped_points_never_lie_outside() -> None:
    """Not even by a rounding error, which would make pixel -1 of it."""
    for seed in range(200):
        polygon = rng(seed).uniform(-20, 30, (7, 2))
        clipped = clip_polygon(polygon, 10, 15)
        assert ((clipped >= 0) & (clipped <= [15, 10])).all()


def test_clipping_a_shape_cut_in_two() -> None:
    """A U lying across the border: its two prongs, 2 x 5 each, remain."""
    u = np.array([[-3.0, 0], [5, 0], [5, 2], [-1, 2], [-1, 6], [5, 6], [5, 8], [-3, 8]])
    assert polygon_area(clip_polygon(u, 10, 10)) == 20


def test_run_lengths_go_down_the_columns() -> None:
    """Columns 0 1 0, 1 1 1, 0 0 1: one 0, one 1, one 0, three 1, two 0, one 1."""
    mask = np.array([[0, 1, 0], [1, 1, 0], [0, 1, 1]], dtype=bool)
    assert run_lengths(mask) == [1, 1, 1, 3, 2, 1]
    assert run_lengths(~mask) == [0, 1, 1, 1, 3, 2, 1]
    assert run_lengths(np.zeros((2, 3), dtype=bool)) == [6]


def upright_square(x: float, y: float) -> Sprite:
    """A square with sides of 20 pixels around (x, y)."""
    return Sprite(shape=SHAPES.index("square"), texture=0, center=(x, y), radius=20 / 2**0.5, angle=0)


def test_mask_covers_the_pixels_of_the_outline() -> None:
    scene = Scene(rng(), 60, 80)
    assert scene.add(upright_square(30, 20), min_visible=1)
    (one,) = scene.objects()
    expected = np.zeros((60, 80), dtype=bool)
    expected[10:30, 20:40] = True
    np.testing.assert_array_equal(one.mask(60, 80), expected)
    assert one.visible == pytest.approx(1)


def test_visible_share_counts_what_is_hidden_and_what_is_cut_off() -> None:
    """The second square hides half of the first; the third lies outside by a quarter."""
    scene = Scene(rng(), 60, 80)
    for x, y in ((30, 20), (40, 20), (75, 50)):
        assert scene.add(upright_square(x, y), min_visible=0.4)
    assert [one.visible for one in scene.objects()] == pytest.approx([0.5, 1, 0.75])


def test_object_that_would_hide_too_much_is_not_drawn() -> None:
    scene, other = Scene(rng(), 60, 80), Scene(rng(), 60, 80)
    for one in (scene, other):
        assert one.add(upright_square(30, 20), min_visible=0.6)
    assert not scene.add(upright_square(40, 20), min_visible=0.6)
    assert not scene.hide(upright_square(40, 20).polygon(), min_visible=0.6)
    assert len(scene.objects()) == 1
    np.testing.assert_array_equal(scene.render(), other.render())


def test_objects_stand_out_from_the_background() -> None:
    """Mean luminance of a square and of a strip beside it, in 40 scenes."""
    contrasts = []
    for seed in range(40):
        scene = Scene(rng(seed), 60, 60)
        scene.add(upright_square(30, 30), min_visible=1)
        gray = cv2.cvtColor(scene.render(), cv2.COLOR_BGR2GRAY).astype(float)
        contrasts.append(abs(gray[20:40, 20:40].mean() - gray[12:48, 12:48][:, :6].mean()))
    assert min(contrasts) > 40


@pytest.mark.parametrize("texture", TEXTURES)
def test_textures_differ_from_each_other(texture: str) -> None:
    """The same scene but for the texture: no two pictures of a 20 pixel square agree within the noise."""

    def picture(name: str) -> np.ndarray:
        scene = Scene(rng(), 40, 40)
        sprite = upright_square(20, 20)
        scene.add(Sprite(**{**vars(sprite), "texture": TEXTURES.index(name)}), min_visible=1)
        return scene._image[10:30, 10:30]

    own = picture(texture)
    differences = [float(np.abs(own - picture(name)).mean()) for name in TEXTURES if name != texture]
    assert min(differences) > 8
