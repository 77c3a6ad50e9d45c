"""Image folders: listing them, decoding every kind of file, and one clear sentence for what cannot be used."""

import io
import os
import struct
import sys
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from public.datasets import decoding, image_folder
from public.datasets.batches import DataError
from public.datasets.decoding import EXTENSIONS, UnreadableImage, decode_encoded, decode_opencv, decode_pil
from public.datasets.image_folder import (
    ImageFolderDataset,
    ImageList,
    list_images,
    passed_over,
    unseen_classes,
)
from public.datasets.scan import Kind


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
    assert {*IMG_EXTENSIONS, ".jfif"} <= {*EXTENSIONS}  # torchvision's, and what browsers save


def test_a_missing_split(image_folder: Path) -> None:
    """The folder, the layout that was expected, and where to get data."""
    with pytest.raises(
        DataError, match=rf"^{image_folder}/test is missing; expected test/<class>/<image files>.*--data\.folder"
    ):
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


def test_classes_are_matched_by_name(image_folder: Path) -> None:
    """Of ant, bird and cat val has the last two: their labels are 1 and 2, and ant is named."""
    names = ["ant", "bird", "cat"]
    val = list_images(image_folder, "val").with_classes(names)
    assert val.class_names == names
    assert listed(val) == [(f"bird/{n}.png", 1) for n in range(3)] + [(f"cat/{n}.png", 2) for n in range(4)]
    assert unseen_classes(val) == ["ant"]
    assert unseen_classes(list_images(image_folder, "val")) == []


def test_classes_that_are_not_trained_on(image_folder: Path) -> None:
    """Labels by another set of names would be shifted silently."""
    (image_folder / "val" / "cat").rename(image_folder / "val" / "dog")
    expected = rf"^{image_folder}/val holds 1 of 2 classes that are not trained on: dog; expected some or all of bird, "
    with pytest.raises(DataError, match=expected):
        list_images(image_folder, "val").with_classes(list_images(image_folder, "train").class_names)


def test_hidden_files_and_kinds_that_are_not_read(image_folder: Path) -> None:
    """Neither is an image or a class, and both are counted; what is no image at all is not."""
    names = ["val/.ipynb_checkpoints/0.png", "val/bird/._0.png", "val/bird/.cache/1.png", "val/bird/sub/@eaDir/2.png"]
    names += ["val/__MACOSX/bird/._0.png", "val/cat/a.HEIC", "val/cat/sub/b.avif", "val/cat/notes.txt", "val/cat/.hid"]
    for name in names:
        (image_folder / name).parent.mkdir(parents=True, exist_ok=True)
        (image_folder / name).touch()
    os.mkfifo(image_folder / "val/cat/pipe.jpg")  # nobody writes into it
    images = list_images(image_folder, "val")
    assert images.class_names == ["bird", "cat"]
    assert len(images.files) == 7
    assert images.hidden == [".ipynb_checkpoints", "__MACOSX", "bird/._0.png", "bird/.cache", "bird/sub/@eaDir"]
    assert images.unread == ["cat/a.HEIC", "cat/pipe.jpg", "cat/sub/b.avif"]
    assert Counter(problem.kind for problem in passed_over(images)) == {Kind.HIDDEN: 5, Kind.UNREAD: 3}


@pytest.mark.parametrize(("name", "shown"), [(b"\xe9cureuil", r"'\\udce9cureuil'"), (b"a\nb", r"'a\\nb'")])
def test_a_class_that_no_text_can_name(image_folder: Path, name: bytes, shown: str) -> None:
    """Tables, pages and pictures carry it, and OpenCV ends the process on letters that are none."""
    os.rename(os.fsencode(image_folder / "train" / "cat"), os.path.join(os.fsencode(image_folder / "train"), name))
    with pytest.raises(DataError, match=rf"/train: the class name {shown} is empty or holds .*; rename its folder"):
        list_images(image_folder, "train")


def test_a_link_that_leads_back_up(image_folder: Path) -> None:
    """Its images are there already: followed, it would bring them again and again."""
    (image_folder / "val/bird/all").symlink_to(image_folder / "val")
    (image_folder / "val/bird/self").symlink_to(image_folder / "val/bird")
    assert len(list_images(image_folder, "val").files) == 7


def test_a_folder_that_cannot_be_listed(image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its images would be missing without a word."""

    def closed(path: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(decoding, "os", SimpleNamespace(**vars(os) | {"scandir": closed}))
    with pytest.raises(DataError, match=r"the class folder .*/val/bird cannot be listed: .*Permission denied"):
        list_images(image_folder, "val")


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


def test_threads_leave_what_is_done_with_warnings_as_it_was() -> None:
    """A thread that begins while another decodes, and ends after it, would put back what the other had set."""
    encoded, interval = io.BytesIO(), sys.getswitchinterval()
    scene().save(encoded, "PNG")
    with warnings.catch_warnings():
        before = list(warnings.filters)
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(decode_pil, [encoded.getvalue()] * 200))
        finally:
            sys.setswitchinterval(interval)
        assert list(warnings.filters) == before


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


GRAY = np.tile((np.arange(64) * 4).astype(np.uint8), (6, 1))
"""Levels 0, 4, ..., 252 from left to right: [6, 64]."""


def netpbm(kind: int, white: int, levels: np.ndarray) -> bytes:
    """A P5 or P6 file, or with text a P2 or P3 file."""
    header = f"P{kind}\n# a comment\n{levels.shape[1]} {levels.shape[0]}\n{white}\n".encode()
    if kind in (2, 3):
        return header + " ".join(map(str, levels.reshape(-1).tolist())).encode()
    return header + levels.astype(">u2" if white > 255 else np.uint8).tobytes()


def of_white(white: int) -> np.ndarray:
    """GRAY where `white` is what 255 is there, rounded up so that 8 bits are the same again."""
    return -(-GRAY.astype(np.int64) * white // 255)


def as_file(levels: np.ndarray, file_format: str) -> bytes:
    """An image file of an array."""
    file = io.BytesIO()
    Image.fromarray(levels).save(file, file_format)
    return file.getvalue()


def tiff(levels: np.ndarray, *, bits: int, white_is_zero: bool = False) -> bytes:
    """A gray TIFF file of levels [H, W] below 2^bits, which no library writes for every depth (TIFF 6.0, section 3)."""
    height, width = levels.shape
    if bits == 16:
        data = levels.astype("<u2").tobytes()
    else:
        digits = (levels.astype(np.int64)[..., None] >> np.arange(bits - 1, -1, -1)) & 1  # [H, W, bits]
        data = np.packbits(digits.reshape(height, -1).astype(np.uint8), axis=1).tobytes()  # each row in whole bytes
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 0 if white_is_zero else 1, 273: 0, 277: 1, 278: height}
    tags |= {279: len(data)}
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, start if tag == 273 else value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + data


DEEP: dict[str, bytes] = {
    "16-bit PGM": netpbm(5, 65535, of_white(65535)),
    "PGM of 10 bits": netpbm(5, 1023, of_white(1023)),
    "PGM of 8 bits": netpbm(5, 255, GRAY),
    "PGM of text": netpbm(2, 255, GRAY),
    "PGM of text, 10 bits": netpbm(2, 1023, of_white(1023)),
    "PPM of 10 bits": netpbm(6, 1023, np.repeat(of_white(1023)[..., None], 3, axis=2)),
    "16-bit PPM": netpbm(6, 65535, np.repeat(of_white(65535)[..., None], 3, axis=2)),
    "PPM of text": netpbm(3, 255, np.repeat(GRAY[..., None], 3, axis=2)),
    "16-bit TIFF": as_file(GRAY.astype(np.uint16) * 257, "TIFF"),
    "16-bit TIFF, white is 0": tiff(65535 - GRAY.astype(np.uint16) * 257, bits=16, white_is_zero=True),
    "12-bit TIFF": tiff(of_white(4095), bits=12),
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_grays_by_both_decoders(name: str) -> None:
    """OpenCV alone makes those whose white is neither 255 nor 65535 nearly black, PIL alone makes 16 bits white."""
    expected = torch.from_numpy(GRAY).expand(3, -1, -1)
    assert largest_difference(decode_opencv(DEEP[name]), expected) <= 1
    assert largest_difference(F.pil_to_tensor(decode_pil(DEEP[name])), expected) <= 1


def test_a_ppm_of_four_bits() -> None:
    """0 to 15 are 0, 17, ..., 255."""
    levels = np.arange(48).reshape(4, 4, 3) // 3
    for pixels in decoded_both(netpbm(6, 15, levels)):
        assert pixels[0].flatten().tolist() == [17 * level for level in range(16)]


def decoded_both(content: bytes) -> tuple[Tensor, Tensor]:
    """uint8 [3, H, W] by both decoders."""
    return decode_opencv(content), F.pil_to_tensor(decode_pil(content))


@pytest.mark.parametrize("decode", [decode_opencv, decode_pil])
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (as_file(GRAY.astype(np.int32) * 257, "TIFF"), "signed or 32-bit whole"),
        (as_file(GRAY.astype(np.float32) / 255, "TIFF"), "floating-point"),
    ],
)
def test_pixels_that_are_no_colors(content: bytes, kind: str, decode: Callable[[bytes], Any]) -> None:
    """White or black would be shown for them; nothing in the file says where either lies."""
    with pytest.raises(OSError, match=f"its pixels are {kind} numbers, of which nothing says what is black.*8 bits"):
        decode(content)


@pytest.mark.parametrize("decode", [decode_opencv, decode_pil])
def test_too_many_pixels_are_refused_before_they_are_decoded(decode: Callable[..., Any]) -> None:
    """A header alone, of 60,000 x 60,000 pixels: 11 GB. The limit is a setting."""
    header = b"P6 60000 60000 255\n"
    with pytest.raises(OSError, match=r"it has 60000 x 60000 = 3,600,000,000 pixels, more than the 268,435,456 that"):
        decode(header)
    with pytest.raises(OSError, match=r"it has 64 x 6 = 384 pixels, more than the 383 that are read"):
        decode(netpbm(5, 255, GRAY), max_pixels=383)
    decode(netpbm(5, 255, GRAY), max_pixels=384)


JPEGS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "with notes": {"comment": b"words" * 1000, "icc_profile": bytes(150_000), "exif": b"Exif\0\0" + bytes(60_000)},
    "with restarts": {"restart_marker_blocks": 1},
}


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_with_too_many_pixels(mode: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size comes from its frame header, wherever that stands; PIL, who would take longer, is not asked."""
    monkeypatch.setattr(decoding, "_header", lambda *_: pytest.fail("PIL was asked"))
    Image.new(mode, (64, 6)).save(file := io.BytesIO(), "JPEG", **JPEGS[kind])
    assert decode_encoded(file.getvalue(), max_pixels=384).shape == (6, 64, 3)
    with pytest.raises(OSError, match=r"it has 64 x 6 = 384 pixels, more than the 383 that are read"):
        decode_encoded(file.getvalue(), max_pixels=383)


def test_a_jpeg_whose_size_is_not_found_is_asked_of_pil() -> None:
    """Of each part of a file, and with bytes of no meaning between two segments."""
    Image.new("RGB", (64, 6)).save(file := io.BytesIO(), "JPEG", comment=b"words")
    content = file.getvalue()
    frame = content.index(b"\xff\xc0") + 9
    assert {decoding._jpeg_size(content[:end]) for end in range(frame)} == {None}
    assert {decoding._jpeg_size(content[:end]) for end in range(frame, len(content))} == {(64, 6)}
    assert decoding._jpeg_size(content[:20] + b"\0" + content[20:]) is None
    assert decode_encoded(content[:20] + b"\0" + content[20:]).shape == (6, 64, 3)


def test_sizes_of_real_jpegs(real_data: Path) -> None:
    """As PIL has them."""
    paths = [path for path in sorted(real_data.rglob("*.jp*g"))[::4] if path.is_file()]
    assert len(paths) > 100
    for path in paths:
        with Image.open(path) as image:
            assert decoding._jpeg_size(path.read_bytes()) == image.size, path


@pytest.mark.parametrize(("code", "kind"), [(cv2.Error.StsNoMem, MemoryError), (cv2.Error.StsError, cv2.error)])
def test_without_memory_no_picture_is_called_damaged(
    monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception]
) -> None:
    """What is no fault of the file is none of the errors for which readers pass it over."""
    error = cv2.error("-4:Insufficient memory")
    error.code, error.err = code, "Failed to allocate 147000000 bytes"

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(decoding.cv2, "imdecode", fail)
    with pytest.raises(kind) as raised:
        decode_opencv(netpbm(5, 255, GRAY))
    assert isinstance(raised.value, decoding.DECODING_ERRORS) == (kind is cv2.error)
    assert kind is cv2.error or str(raised.value) == "Failed to allocate 147000000 bytes"


@pytest.mark.parametrize("file", ["x.png", "x.tif", "x.webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_as_they_are_stored(tmp_path: Path, orientation: int, file: str) -> None:
    """By both decoders, also where OpenCV turns a file whatever it is asked for (TIFF); upright as PIL turns it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    scene().save(tmp_path / file, exif=exif, lossless=True)
    content, stored = (tmp_path / file).read_bytes(), np.asarray(scene())
    assert np.array_equal(decode_encoded(content, upright=False), stored)
    assert np.array_equal(np.asarray(decode_pil(content, upright=False)), stored)
    turned = Image.new("RGB", scene().size)
    turned.paste(scene())
    turned.getexif()[0x0112] = orientation
    upright = np.asarray(ImageOps.exif_transpose(turned))
    assert np.array_equal(decode_encoded(content), upright)
    assert np.array_equal(np.asarray(decode_pil(content)), upright)


def test_a_palette_with_several_transparencies(tmp_path: Path) -> None:
    """The colors are kept, and no warning is printed."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).quantize(16).save(tmp_path / "x.png", transparency=bytes([0, 128] + [255] * 14))
    assert torch.equal(
        F.pil_to_tensor(decode_pil((tmp_path / "x.png").read_bytes())), decode_opencv((tmp_path / "x.png").read_bytes())
    )


def test_notes_in_a_png_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """A color profile and a text that libpng warns of, before and behind the pixels; the pixels are the same."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    plain = buffer.getvalue()

    def chunk(kind: bytes, data: bytes, crc: int) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    profile = b"icc\0\0" + zlib.compress(bytes(200))
    noted = plain[:33] + chunk(b"iCCP", profile, zlib.crc32(b"iCCP" + profile)) + plain[33:-12]
    noted += chunk(b"tEXt", b"a\0b", crc=1) + plain[-12:]
    assert np.array_equal(decode_encoded(noted), pixels)
    assert capfd.readouterr().err == ""
    with pytest.raises(OSError, match="truncated"):
        decode_encoded(noted[:40])
