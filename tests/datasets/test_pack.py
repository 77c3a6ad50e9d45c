"""Packing folders: what is stored, resuming after a kill, and one clear sentence for whatever cannot be packed."""

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest
from PIL import Image
from torchvision.transforms.v2 import functional as F

from public.datasets import pack, packing
from public.datasets.decoding import decode_opencv, decode_pil
from public.datasets.packed import PackedImages, Shrinking
from public.datasets.packing import LOCK_BYTES, encoded

# Whether a machine has as many processors as workers is not what is tested.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def main(args: list[str]) -> int | str | None:
    """The exit code of the command, however it ends."""
    try:
        return pack.main(args)
    except SystemExit as stop:
        return stop.code


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where the tests pack the validation split to."""
    return tmp_path / "packed" / "val.lmdb"


@pytest.fixture
def pack_val(image_folder: Path, target: Path) -> Callable[..., int | str | None]:
    """Packs the 7 images of the validation split in this process; gives the exit code."""

    def run(*options: str) -> int | str | None:
        return main([str(image_folder / "val"), str(target), "--workers", "0", *options])

    return run


def photo(width: int, height: int, *, file_format: str = "JPEG", orientation: int | None = None) -> bytes:
    """A smooth RGB picture whose four corners differ."""
    rows, columns = np.mgrid[0:height, 0:width]
    planes = [columns * 200 // width, rows * 200 // height, (rows + columns) * 100 // (width + height)]
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(np.stack(planes, axis=-1).astype(np.uint8)).save(file, file_format, exif=exif, quality=95)
    return file.getvalue()


def contents(path: Path) -> dict[str, bytes]:
    """Names and bytes of all records, in order."""
    images = PackedImages(path)
    return {file.decode(): images.read(n) for n, file in enumerate(images.files.tolist())}


def files_of(folder: Path) -> dict[str, bytes]:
    """Names and bytes of all files of the validation split, in order."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.glob("*/*"))}


def last_error(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed as an error since the last time."""
    return capsys.readouterr().err


# ---- what is stored ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
def test_both_splits(image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: str) -> None:
    """train.lmdb and val.lmdb with every file's own bytes, and nothing beside them; the check finds all sound."""
    folder = tmp_path / "new" / "packed"
    assert main([str(image_folder), str(folder), "--workers", workers]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["train.lmdb", "val.lmdb"]
    printed = capsys.readouterr().out.splitlines()
    for split, count, line in zip(("train", "val"), (11, 7), printed, strict=True):
        assert contents(folder / f"{split}.lmdb") == files_of(image_folder / split)
        assert line.startswith(f"{folder}/{split}.lmdb is complete: {count} images, without --shorter-side, ")
    assert main([str(folder), "--check"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{folder}/{split}.lmdb: every record is sound" for split in ("train", "val")
    ]


def test_one_split_alone(image_folder: Path, tmp_path: Path) -> None:
    """A data set may lack one; a folder of class folders goes into the file that is named."""
    (image_folder / "train").rename(image_folder / "photos")
    assert main([str(image_folder), str(tmp_path / "packed"), "--workers", "0"]) == 0
    assert [path.name for path in (tmp_path / "packed").iterdir()] == ["val.lmdb"]
    assert main([str(image_folder / "photos"), str(tmp_path / "photos.lmdb"), "--workers", "0"]) == 0
    assert contents(tmp_path / "photos.lmdb") == files_of(image_folder / "photos")


@pytest.mark.parametrize(
    ("size", "shrunk"),
    [((40, 30), (16, 12)), ((30, 40), (12, 16)), ((100, 13), (92, 12)), ((13, 13), (12, 12))],
)
def test_shrinking(size: tuple[int, int], shrunk: tuple[int, int]) -> None:
    """Width and height by hand (100 * 12 / 13 = 92.3), pixels as torchvision's Resize gives them within JPEG's loss."""
    original = photo(*size)
    small = encoded(original, Shrinking(12, 95))
    with Image.open(io.BytesIO(small)) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", shrunk)
    reference = F.resize(F.pil_to_tensor(decode_pil(original)), [12], antialias=True)
    difference = (decode_opencv(small).int() - reference.int()).abs()
    assert difference.max() <= 12
    assert difference.float().mean() < 2


@pytest.mark.parametrize(("size", "file_format"), [((16, 12), "JPEG"), ((12, 30), "PNG"), ((5, 5), "JPEG")])
def test_what_is_not_larger_keeps_its_bytes(size: tuple[int, int], file_format: str) -> None:
    """Encoding again could only lose."""
    original = photo(*size, file_format=file_format)
    assert encoded(original, Shrinking(12, 90)) == original
    assert encoded(original, None) == original


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright_before_they_are_shrunk(orientation: int) -> None:
    """By every EXIF orientation: no orientation is left in the file, and the corners lie where a viewer shows them."""
    original = photo(48, 36, orientation=orientation)
    small = encoded(original, Shrinking(12, 95))
    with Image.open(io.BytesIO(small)) as image:
        assert image.getexif().get(0x0112) is None
        assert image.size == ((16, 12) if orientation < 5 else (12, 16))
    reference = F.resize(F.pil_to_tensor(decode_pil(original)), [12], antialias=True)
    assert (decode_opencv(small).int() - reference.int()).abs().float().mean() < 2


@pytest.mark.parametrize(("options", "quality"), [((), 90), (("--quality", "40"), 40)])
def test_quality(
    pack_val: Callable[..., int | str | None], image_folder: Path, target: Path, options: tuple[str, ...], quality: int
) -> None:
    """The JPEG's own quantization tables are those of the quality that was asked for, 90 by default."""
    assert pack_val("--shorter-side", "8", *options) == 0
    reference = io.BytesIO()
    Image.new("RGB", (8, 8)).save(reference, "JPEG", quality=quality)
    for content in contents(target).values():
        with Image.open(io.BytesIO(content)) as stored, Image.open(reference) as expected:
            assert stored.size == (9, 8)  # 12 x 10 shrunk to a shorter side of 8
            assert stored.quantization == expected.quantization  # pyright: ignore[reportAttributeAccessIssue]
    assert PackedImages(target).shrinking == Shrinking(8, quality)


# ---- resuming ----------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from public.datasets import pack, packing
packing.COMMIT_IMAGES = 32  # a multiple of what a worker hands over at once
encoded, count = packing.encoded, 0
def encode(content, shrinking):
    global count
    count += 1
    if count == 90:
        os.kill(os.getpid(), signal.SIGKILL)
    return encoded(content, shrinking)
packing.encoded = encode
pack.main(sys.argv[1:])
"""


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A split of 120 images [10, 12] of three classes."""
    folder = tmp_path / "many"
    for number in range(120):
        path = folder / f"class {number % 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10), (number, 0, 255 - number)).save(path)
    return folder


@pytest.mark.slow
def test_a_killed_conversion_goes_on(many: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGKILL at the 90th of 120 images, written 32 at once: 64 are kept, 56 are read again, and all are right."""
    command = [str(many), str(target), "--workers", "0"]
    killed = subprocess.run([sys.executable, "-c", KILLED, *command], check=False, timeout=60)
    assert killed.returncode == -9
    assert sorted(path.name for path in target.parent.iterdir()) == ["val.lmdb.partial", "val.lmdb.partial-lock"]
    read: list[bytes] = []

    def encode(content: bytes, shrinking: Shrinking | None) -> bytes:
        read.append(content)
        return encoded(content, shrinking)

    monkeypatch.setattr(packing, "encoded", encode)
    assert main(command) == 0
    assert len(read) == 120 - 64
    assert [path.name for path in target.parent.iterdir()] == ["val.lmdb"]
    images = PackedImages(target)
    assert contents(target) == {file.decode(): (many / file.decode()).read_bytes() for file in images.files.tolist()}
    assert len(images.files) == 120
    assert images.labels.tolist() == [0] * 40 + [1] * 40 + [2] * 40


def broken(image_folder: Path, *names: str) -> None:
    """Turns images into something else."""
    for name in names:
        (image_folder / name).write_bytes(b"<html>404</html>")


@pytest.mark.slow
def test_every_image_that_cannot_be_decoded_is_named(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of both splits, at the end, with what can be done; there is no file that looks finished."""
    broken(image_folder, "train/bird/3.png", "val/bird/0.png", "val/cat/3.png")
    (image_folder / "train/cat/0.png").unlink()
    (image_folder / "train/cat/0.png").symlink_to("nowhere")
    command = [str(image_folder), str(tmp_path / "packed"), "--workers", "2"]
    assert main(command) == 1
    lines = last_error(capsys).splitlines()
    assert lines[0] == (
        "error: 4 images cannot be packed. Replace or remove them; the same command then packs what is missing:"
    )
    bad = ("train/bird/3.png", "train/cat/0.png", "val/bird/0.png", "val/cat/3.png")
    assert [line.partition(" cannot be decoded: ")[0].strip() for line in lines[1:]] == [
        str(image_folder / name) for name in bad
    ]
    assert not list((tmp_path / "packed").glob("*.lmdb"))


def test_the_source_changes_between_two_runs(
    pack_val: Callable[..., int | str | None], image_folder: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was replaced, added, or written anew is packed; what was removed is in the packed file no more."""
    broken(image_folder, "val/bird/0.png", "val/bird/1.png")
    assert pack_val() == 1
    assert "2 images cannot be packed" in last_error(capsys)
    (image_folder / "val/bird/0.png").write_bytes(photo(12, 10))  # replaced: its record is missing
    (image_folder / "val/bird/1.png").unlink()  # removed: it never had one
    (image_folder / "val/cat/0.png").unlink()  # removed: it had one
    (image_folder / "val/cat/1.png").write_bytes(photo(11, 10))  # written anew: its record is old
    (image_folder / "val/dog").mkdir()
    (image_folder / "val/dog/0.jpg").write_bytes(photo(10, 10))
    assert pack_val() == 0
    expected = files_of(image_folder / "val")
    assert list(expected) == ["bird/0.png", "bird/2.png", "cat/1.png", "cat/2.png", "cat/3.png", "dog/0.jpg"]
    assert contents(target) == expected
    assert PackedImages(target).labels.tolist() == [0, 0, 1, 1, 1, 2]


def test_another_shrinking(
    pack_val: Callable[..., int | str | None], image_folder: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither resumes a conversion of other settings, nor passes for a finished one."""
    broken(image_folder, "val/bird/0.png")
    assert pack_val("--shorter-side", "8") == 1
    capsys.readouterr()
    assert pack_val("--shorter-side", "8", "--quality", "80") == 2
    assert last_error(capsys) == (
        f"error: {target}.partial was begun with --shorter-side 8 --quality 90, and is to resume with --shorter-side 8 "
        "--quality 80: give the same options, or remove it to start over.\n"
    )
    (image_folder / "val/bird/0.png").write_bytes(photo(12, 10))
    assert pack_val("--shorter-side", "8") == 0
    assert pack_val() == 2
    assert last_error(capsys) == (
        f"error: {target} was packed with --shorter-side 8 --quality 90, and is now asked for without --shorter-side: "
        "remove it, or name another destination.\n"
    )


def test_a_finished_file_is_left_alone(
    pack_val: Callable[..., int | str | None], image_folder: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same command does nothing; other images are refused, and the first is named."""
    assert pack_val() == 0
    before = (target.stat().st_mtime_ns, target.stat().st_ino)
    assert pack_val() == 0
    assert "is complete: 7 images, without --shorter-side. Remove it to pack again." in capsys.readouterr().out
    (image_folder / "val/cat/1.png").unlink()
    assert pack_val() == 2
    assert last_error(capsys).startswith(
        f"error: {target} holds other images than {image_folder}/val: they differ in 1, the first is cat/1.png. Remove"
    )
    assert (target.stat().st_mtime_ns, target.stat().st_ino) == before


def test_a_full_disk(
    pack_val: Callable[..., int | str | None],
    image_folder: Path,
    target: Path,
    small_disk: Callable[[int], AbstractContextManager[None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One sentence, whether the first write fails or a later one; with room the same command resumes."""
    pixels = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    for number in range(4):
        Image.fromarray(pixels).save(image_folder / f"val/cat/{number}.png")  # 30 kB each
    for num_bytes in (4096, 60_000):
        with small_disk(num_bytes):
            assert pack_val() == 2
        error = last_error(capsys)
        assert error.startswith(f"error: {target}.partial cannot be written (")
        assert "Is the disk full, or not writable? Make room" in error
    assert pack_val() == 0
    assert contents(target) == files_of(image_folder / "val")


def test_the_lock_has_its_blocks_before_it_is_mapped(
    pack_val: Callable[..., int | str | None], target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hole of a mapped file ends the process with SIGBUS where the disk is full."""
    lock, open_lmdb, allocated = Path(f"{target}.partial-lock"), lmdb.open, []

    def watched(path: str, **options: Any) -> Any:
        if not options.get("readonly"):
            allocated.append(lock.stat().st_blocks * 512)
        environment = open_lmdb(path, **options)
        assert lock.stat().st_size <= LOCK_BYTES or options.get("readonly")
        return environment

    monkeypatch.setattr(lmdb, "open", watched)
    assert pack_val() == 0
    assert allocated
    assert min(allocated) >= LOCK_BYTES


def test_ctrl_c(
    pack_val: Callable[..., int | str | None],
    image_folder: Path,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The exit code that a shell gives it, one line, and the same command resumes."""

    def interrupted(content: bytes, shrinking: Shrinking | None) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(packing, "encoded", interrupted)
        assert pack_val() == 130
    assert last_error(capsys).endswith("stopped; the same command resumes from here\n")
    assert pack_val() == 0
    assert contents(target) == files_of(image_folder / "val")


# ---- the check ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_check_names_every_damaged_record(
    pack_val: Callable[..., int | str | None], image_folder: Path, target: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two of seven; a file that cannot be read at all is one sentence."""
    assert pack_val() == 0
    data = target.read_bytes()
    for name in ("bird/2.png", "cat/3.png"):
        content = (image_folder / "val" / name).read_bytes()
        data = data.replace(content, content[:-1] + bytes([content[-1] ^ 1]))
    target.write_bytes(data)
    capsys.readouterr()
    assert main([str(target), "--check"]) == 1
    reason = "the record's checksum is wrong: the file was damaged after it was written"
    assert capsys.readouterr().out.splitlines() == [
        f"  error: bird/2.png in {target}: {reason}",
        f"  error: cat/3.png in {target}: {reason}",
        f"{target}: 2 damaged records",
    ]
    os.truncate(target, 5000)
    assert main([str(target), "--check"]) == 2
    assert f"error: {target} cannot be read as a packed data set (" in last_error(capsys)


# ---- the command line --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["{images}/train", "{tmp}/packed"],
            r"/train holds neither train/ nor val/\. To pack one folder .*/train\.lmdb$",
        ),
        (["{tmp}/nowhere", "{tmp}/packed"], "/nowhere is not a folder"),
        (["{tmp}/nowhere", "{tmp}/val.lmdb"], "/nowhere is not a folder"),
        (["{images}"], "a destination is missing: python -m public.datasets.pack"),
        (["{images}", "{images}"], r"/train\.lmdb would lie beside {images}/train, and training could not tell"),
        (["{images}/val", "{images}/val.lmdb"], r"/val\.lmdb would lie beside {images}/val, and"),
        (["{images}", "{images}/val/cat/0.png/x"], "cannot be written"),
        (["{images}", "{tmp}/packed", "--check"], "--check reads one packed file or folder, and got two paths"),
        (["{images}", "--check"], r"/images holds no packed file \(\*\.lmdb\)"),
        (["{images}/val/cat/0.png", "--check"], "cannot be read as a packed data set"),
        (["{images}", "{tmp}/packed", "--quality", "80"], "--quality 80 has no effect without --shorter-side"),
        (["{images}", "{tmp}/packed", "--shorter-side", "0"], "--shorter-side 0 must be 1 or more"),
        (["{images}", "{tmp}/packed", "--shorter-side", "8", "--quality", "101"], "--quality 101 must lie within 1 to"),
    ],
)
def test_a_wrong_command(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """One sentence, exit code 2, and nothing is left behind."""
    names = {"images": image_folder, "tmp": tmp_path}
    before = sorted(tmp_path.rglob("*"))
    assert main([argument.format(**names) for argument in arguments]) == 2
    error = last_error(capsys)
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert re.search(message.format(**names), error.strip()), error
    assert sorted(tmp_path.rglob("*")) == before


def test_splits_of_different_classes(image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Found before hours of packing, not by the training after it."""
    (image_folder / "val" / "cat").rename(image_folder / "val" / "dog")
    assert main([str(image_folder), str(tmp_path / "packed")]) == 2
    assert "val holds 1 of 2 classes that are not trained on: dog" in last_error(capsys)
    assert not (tmp_path / "packed").exists()


def test_a_name_that_is_too_long(
    pack_val: Callable[..., int | str | None], image_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """511 bytes are a key's limit: 'cat/' and three names of 169 with their slashes are 4 + 3 * 170 - 1 = 513."""
    folder = image_folder / "val" / "cat" / ("a" * 169) / ("b" * 169)
    folder.mkdir(parents=True)
    (folder / ("c" * 165 + ".png")).write_bytes(photo(4, 4, file_format="PNG"))
    assert pack_val() == 2
    assert "has 513 bytes, and a packed file takes at most 511: rename it" in last_error(capsys)
    (folder / ("c" * 165 + ".png")).rename(folder / ("c" * 163 + ".png"))
    assert pack_val() == 0
