"""Image folders: listing them, decoding every kind of file, and one clear sentence for what cannot be used."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from public.datasets import image_folder
from public.datasets.batches import DataError
from public.datasets.decoding import UnreadableImage, decode_opencv, decode_pil
from public.datasets.image_folder import ImageFolderDataset, ImageList, check_same_classes, list_images


def listed(images: ImageList) -> list[tuple[str, int]]:
    """Paths and labels, readable."""
    return [(name.decode(), int(label)) for name, label in zip(images.files, images.labels, strict=True)]


def test_classes_and_files_in_sorted_order(image_folder: Path) -> None:
    """bird is class 0 with 3 images, cat class 1 with 4."""
    images = list_images(image_folder, "val")
    assert images.class_names == ["bird", "cat"]
    assert listed(images) == [(f"bird/{n}.png", 0) for n in range(3)] + [(f"cat/{n}.png", 1) for n in range(4)]
    assert (images.labels.dtype, images.folder) == (np.int64, image_folder / "val")


def test_class_numbers_do_not_depend_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system lists folders in any order, here backwards: classes are numbered by their sorted names."""
    for name in ("n03", "n01", "n10", "n02"):
        (tmp_path / "val" / name).mkdir(parents=True)
        (tmp_path / "val" / name / "x.jpg").touch()
    scandir = os.scandir
    backwards = partial(sorted, key=lambda entry: entry.name, reverse=True)
    monkeypatch.setattr(
        image_folder, "os", SimpleNamespace(**vars(os) | {"scandir": lambda path: backwards(scandir(path))})
    )
    assert list_images(tmp_path, "val").class_names == ["n01", "n02", "n03", "n10"]


def test_what_counts_as_an_image(tmp_path: Path) -> None:
    """Extensions in any case, sub-folders and links to folders; other files are passed over; names in any script."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "linked.jpg").touch()
    folder = tmp_path / "val" / "chat noir"
    (folder / "sub").mkdir(parents=True)
    for name in ("b.JPEG", "a.jpg", "sub/c.Png", "écureuil.webp", "notes.txt", "jpg", ".DS_Store"):
        (folder / name).touch()
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "val" / "stray.jpg").touch()
    images = list_images(tmp_path, "val")
    expected = sorted(["a.jpg", "b.JPEG", "link/linked.jpg", "sub/c.Png", "écureuil.webp"])
    assert [name for name, _ in listed(images)] == [f"chat noir/{name}" for name in expected]


def test_a_missing_split(image_folder: Path) -> None:
    """The folder, the layout that was expected, and where to get data."""
    with pytest.raises(DataError, match=rf"^{image_folder}/test is missing; expected test/<class>/<image files>.*DATA"):
        list_images(image_folder, "test")


def test_no_classes(tmp_path: Path) -> None:
    """Images directly in the split's folder, as some data sets have them."""
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "a.jpg").touch()
    with pytest.raises(DataError, match=r"val holds no folders; expected one folder of images for each class"):
        list_images(tmp_path, "val")


def test_an_empty_class(image_folder: Path) -> None:
    """A class folder without an image is named: its number would shift no label, but nothing could be learned."""
    (image_folder / "val" / "cow").mkdir()
    (image_folder / "val" / "cow" / "notes.txt").touch()
    with pytest.raises(DataError, match=rf"the class folder {image_folder}/val/cow holds no image \(\.jpg, "):
        list_images(image_folder, "val")


def test_different_classes_in_train_and_val(image_folder: Path) -> None:
    """Labels are numbers of sorted folder names: another set of names would shift them silently."""
    train = list_images(image_folder, "train")
    check_same_classes(train, list_images(image_folder, "val"))
    (image_folder / "val" / "cat").rename(image_folder / "val" / "dog")
    with pytest.raises(
        DataError, match=r"the same class folders; only in train: \['cat'\] \(1\), only in val: \['dog'\] \(1\)"
    ):
        check_same_classes(train, list_images(image_folder, "val"))


# ---- decoding ----------------------------------------------------------------------------------------------------


def scene() -> Image.Image:
    """A smooth RGB picture, 32 wide and 24 high, whose four corners differ."""
    rows, columns = np.mgrid[0:24, 0:32]
    return Image.fromarray(np.stack([columns * 8, rows * 10, (rows + columns) * 4], axis=-1).astype(np.uint8))


def decoded(path: Path) -> tuple[Tensor, Tensor]:
    """By both decoders: uint8 [3, H, W]."""
    return decode_opencv(path.read_bytes()), F.pil_to_tensor(decode_pil(path.read_bytes()))


def largest_difference(a: Tensor, b: Tensor) -> int:
    """In gray levels, of two pictures of one shape."""
    assert a.shape == b.shape
    assert a.dtype == b.dtype == torch.uint8
    return int((a.int() - b.int()).abs().max())


WRITERS: dict[str, tuple[str, Callable[[Image.Image], Image.Image], dict[str, Any], int]] = {
    # name: (file, conversion, how it is saved, largest difference from the original scene)
    "png": ("x.png", lambda image: image, {}, 0),
    "bmp": ("x.bmp", lambda image: image, {}, 0),
    "tiff": ("x.tif", lambda image: image, {}, 0),
    "ppm": ("x.ppm", lambda image: image, {}, 0),
    "webp": ("x.webp", lambda image: image, {"lossless": True}, 0),
    "jpeg": ("x.jpg", lambda image: image, {"quality": 95, "subsampling": 0}, 6),
    "cmyk jpeg": ("x.jpeg", lambda image: image.convert("CMYK"), {"quality": 95, "subsampling": 0}, 8),
    "png with another extension": ("x.JPEG", lambda image: image, {"format": "PNG"}, 0),
    "bmp with another extension": ("x.jpg", lambda image: image, {"format": "BMP"}, 0),
    "transparent png": ("x.png", lambda image: image.convert("RGBA"), {}, 0),
}


@pytest.mark.parametrize("name", WRITERS)
def test_both_decoders_give_the_picture(tmp_path: Path, name: str) -> None:
    """Every format comes back as RGB within its own losses, and the decoders agree within one gray level."""
    file, convert, options, loss = WRITERS[name]
    convert(scene()).save(tmp_path / file, **options)
    by_opencv, by_pil = decoded(tmp_path / file)
    assert largest_difference(by_opencv, by_pil) <= 1
    assert largest_difference(by_pil, F.pil_to_tensor(scene())) <= loss


@pytest.mark.parametrize("file", ["x.jpg", "x.png"])
def test_grayscale_becomes_three_equal_channels(tmp_path: Path, file: str) -> None:
    """As torchvision's ImageFolder gives it."""
    scene().convert("L").save(tmp_path / file)
    by_opencv, by_pil = decoded(tmp_path / file)
    assert by_opencv.shape == (3, 24, 32)
    assert torch.equal(by_opencv[0], by_opencv[1])
    assert torch.equal(by_opencv[0], by_opencv[2])
    assert torch.equal(by_opencv, by_pil)


def test_a_palette_with_a_transparent_color(tmp_path: Path) -> None:
    """The transparent color is shown as itself, as PIL's conversion to RGB does it."""
    image = scene().quantize(16)
    image.save(tmp_path / "x.png", transparency=0)
    by_opencv, by_pil = decoded(tmp_path / "x.png")
    assert torch.equal(by_opencv, by_pil)
    assert torch.equal(by_pil, F.pil_to_tensor(image.convert("RGB")))


def test_sixteen_bit_png(tmp_path: Path) -> None:
    """Values 257 k are k in 8 bits; the batch's type stays uint8."""
    gray = np.array(scene())[..., 0]
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "x.png")
    by_opencv = decode_opencv((tmp_path / "x.png").read_bytes())
    assert largest_difference(by_opencv, torch.from_numpy(gray).expand(3, -1, -1)) == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    """By both decoders alike; 5 to 8 exchange height and width.

    The corner that is stored at the top left (red 0, green 0: black) belongs, by the EXIF table, at the top left (1),
    top right (2), bottom right (3), bottom left (4), top left (5), top right (6), bottom right (7), bottom left (8).
    """
    exif = Image.Exif()
    exif[0x0112] = orientation
    scene().save(tmp_path / "x.jpg", exif=exif, quality=95, subsampling=0)
    by_opencv, by_pil = decoded(tmp_path / "x.jpg")
    assert by_pil.shape == ((3, 24, 32) if orientation < 5 else (3, 32, 24))
    assert largest_difference(by_opencv, by_pil) <= 1
    corners = {"top left": (0, 0), "top right": (0, -1), "bottom right": (-1, -1), "bottom left": (-1, 0)}
    row, column = list(corners.values())[(orientation - 1) % 4]
    brightness = {place: int(by_pil[:, y, x].sum()) for place, (y, x) in corners.items()}
    assert min(brightness.values()) == int(by_pil[:, row, column].sum()) < 20


def test_opencv_gives_the_memory_of_the_picture(tmp_path: Path) -> None:
    """[3, H, W] seen, [H, W, 3] stored: the layout in which torch resizes fastest."""
    scene().save(tmp_path / "x.png")
    assert decode_opencv((tmp_path / "x.png").read_bytes()).permute(1, 2, 0).is_contiguous()


# ---- samples -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decoder", ["opencv", "pil"])
def test_a_sample_is_transformed_and_labeled(image_folder: Path, decoder: str) -> None:
    """Resized to 6x6 and cut to 4x4: uint8, with the class of its folder."""
    transforms = (v2.Resize((6, 6)), v2.CenterCrop(4))
    dataset = ImageFolderDataset(list_images(image_folder, "val"), transforms, decoder=decoder, seed=0)
    assert len(dataset) == 7
    sample = dataset[0, 5]
    assert not isinstance(sample, UnreadableImage)
    image, label = sample
    assert isinstance(image, Tensor)
    assert (image.shape, image.dtype, label) == ((3, 4, 4), torch.uint8, 1)


def test_draws_depend_on_seed_epoch_and_index_alone(image_folder: Path) -> None:
    """Asked twice or in another order a sample is the same; it differs by epoch and by seed."""
    images = list_images(image_folder, "train")
    transforms = (v2.RandomResizedCrop(8), v2.RandomHorizontalFlip())
    datasets = [ImageFolderDataset(images, transforms, decoder="opencv", seed=seed) for seed in (0, 0, 1)]
    keys = [(epoch, index) for epoch in (0, 1) for index in range(11)]
    torch.manual_seed(1)
    first = torch.stack([datasets[0][key][0] for key in keys])  # pyright: ignore
    torch.manual_seed(2)
    again = torch.stack([datasets[1][key][0] for key in reversed(keys)]).flip(0)  # pyright: ignore
    other = torch.stack([datasets[2][key][0] for key in keys])  # pyright: ignore
    assert torch.equal(first, again)
    assert not torch.equal(first[:11], first[11:])
    assert not torch.equal(first, other)


def test_the_global_generator_is_left_alone(image_folder: Path) -> None:
    """A checkpoint keeps its state: loading in this process must not move it."""
    images = list_images(image_folder, "train")
    dataset = ImageFolderDataset(images, (v2.RandomResizedCrop(8),), decoder="pil", seed=0)
    before = torch.get_rng_state()
    dataset[0, 0]
    assert torch.equal(torch.get_rng_state(), before)


def cut_short(path: Path) -> None:
    """The first half of a JPEG file."""
    scene().save(path, quality=95)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BROKEN: dict[str, Callable[[Path], object]] = {
    "truncated": cut_short,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("<html>404</html>"),
    "missing": lambda path: None,
    "a folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("decoder", ["opencv", "pil"])
@pytest.mark.parametrize("kind", BROKEN)
def test_an_unreadable_image_is_reported_not_raised(tmp_path: Path, kind: str, decoder: str) -> None:
    """Its path and one line of reason take the sample's place: a worker's traceback says neither."""
    BROKEN[kind](tmp_path / "bad.jpg")
    images = ImageList(tmp_path, np.array([b"bad.jpg"]), np.array([0]), ["a"])
    sample = ImageFolderDataset(images, (), decoder=decoder, seed=0)[0, 0]
    assert isinstance(sample, UnreadableImage)
    assert sample.path == str(tmp_path / "bad.jpg")
    assert sample.reason
    assert "\n" not in sample.reason
    assert (sample.reason == "the file is empty") == (kind == "empty")


def test_a_photo_with_the_real_protocol(real_data: Path) -> None:
    """1000 classes in ImageNet's order, and both decoders on a grayscale photo among them."""
    root = real_data / "imagenet_like"
    if not root.is_dir():
        pytest.skip(f"no {root}")
    images = list_images(root, "val")
    assert len(images.class_names) == len(images.files) == 1000
    assert (images.class_names[0], images.class_names[-1]) == ("n01440764", "n15075141")
    for name in images.files[:5]:
        by_opencv, by_pil = decoded(images.folder / name.decode())
        assert min(by_pil.shape[1:]) == 256
        assert largest_difference(by_opencv, by_pil) <= 2


def test_sixteen_bit_png_by_both_decoders(tmp_path: Path) -> None:
    """All 256 gray levels as 257 k: PIL's own conversion gives 255 for every one of them but 0."""
    Image.fromarray(np.arange(256, dtype=np.uint16).reshape(16, 16) * 257).save(tmp_path / "x.png")
    by_pil = F.pil_to_tensor(decode_pil((tmp_path / "x.png").read_bytes()))
    assert torch.equal(by_pil, decode_opencv((tmp_path / "x.png").read_bytes()))
    assert by_pil[0].flatten().tolist() == list(range(256))


def test_a_palette_with_several_transparencies(tmp_path: Path) -> None:
    """The colors are kept, and no warning is printed."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).quantize(16).save(tmp_path / "x.png", transparency=bytes([0, 128] + [255] * 14))
    assert torch.equal(
        F.pil_to_tensor(decode_pil((tmp_path / "x.png").read_bytes())), decode_opencv((tmp_path / "x.png").read_bytes())
    )
