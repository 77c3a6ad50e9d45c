"""Image files to pixels: by OpenCV or by PIL, upright or as stored, and what is said of a file that is no image.

The header of every file is read before anything is decoded: it tells what OpenCV would allocate too much for, or get
wrong. PIL reads it, but of a JPEG the size is all that is wanted, and PIL would take a tenth of the decoder's time.
"""

import contextlib
import io
import os
import re
import struct
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps

from public.config.data import MAX_PIXELS
from public.config.names import first_line

EXTENSIONS = (
    *(".jpg", ".jpeg", ".png"),  # first: where several files may be meant, one of these is
    *(".jfif", ".jpe", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
)
"""Of the files that are taken for images by every reader, whatever the case of their letters."""
UNREAD_EXTENSIONS = (
    *(".heic", ".heif", ".avif", ".jp2", ".j2k", ".jxl", ".jif", ".dib", ".tga", ".psd", ".svg", ".ico", ".pfm"),
    *(".exr", ".hdr", ".dcm", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
)
"""Of files that are images, and are not read: the check of the data names them."""
DECODING_ERRORS = (OSError, SyntaxError, ValueError, cv2.error, Image.DecompressionBombError)
"""What reading and decoding an image can raise."""


class UnusablePixels(OSError):
    """An image is whole, and refused for what it holds."""


class TooManyPixels(UnusablePixels):
    """It is larger than what is read."""


class UnreadableImage(NamedTuple):
    """Takes the place of a sample whose file cannot be used; the loader turns it into one clear error."""

    path: str
    reason: str
    problem: str = "cannot be decoded"
    remedy: str = "Replace or remove it"


class FoundFiles(NamedTuple):
    """What lies in a folder, as far as it concerns images; paths below it, sorted."""

    images: list[str]
    hidden: list[str]
    """Files and folders that are passed over, see `is_hidden`; of files those with an image's extension."""
    unread: list[str]
    """Images of kinds that are not read."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that people do not see and tools leave behind: .ipynb_checkpoints, ._0.jpg."""
    return name.startswith(".") or name in ("__MACOSX", "@eaDir")


def files_below(folder: Path) -> FoundFiles:
    """The images of a folder and of all folders below it, links to folders followed unless they lead back up.

    Raises:
        OSError: a folder cannot be listed.
    """
    found = FoundFiles([], [], [])
    lists = dict.fromkeys(EXTENSIONS, found.images) | dict.fromkeys(UNREAD_EXTENSIONS, found.unread)
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        with os.scandir(folder / prefix) as entries:
            for entry in entries:
                name = entry.name
                _, dot, extension = name.rpartition(".")
                kind = lists.get(f".{extension.lower()}") if dot else None
                if entry.is_dir():
                    if is_hidden(name):
                        found.hidden.append(prefix + name)
                    elif not (
                        entry.is_symlink() and folder.joinpath(prefix).resolve().is_relative_to(os.path.realpath(entry))
                    ):
                        waiting.append(f"{prefix}{name}/")
                elif kind is not None:
                    # Of what is there and no file, such as a pipe, reading would never end.
                    kind = kind if entry.is_file() or not os.path.exists(entry) else found.unread
                    (found.hidden if is_hidden(name) else kind).append(prefix + name)
    for paths in found:
        paths.sort()
    return found


def images_in(folder: Path) -> list[Path]:
    """The image files that lie in a folder itself, sorted; hidden ones are none.

    Raises:
        FileNotFoundError: there are none, or no such folder.
    """
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [path for path in found if is_image_file(path)]
    if not found:
        raise FileNotFoundError(f"no image file is in {folder} ({', '.join(EXTENSIONS)}).")
    return found


def is_image_file(path: Path) -> bool:
    """Whether there is a file, not a hidden one, with an image's extension."""
    return path.suffix.lower() in EXTENSIONS and not is_hidden(path.name) and path.is_file()


def read_pixels(path: Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """An image file as uint8 [H, W, 3] red green blue, turned upright by its EXIF orientation; of at most so many.

    Raises:
        OSError: there is no such file (FileNotFoundError), or it is no image; the message names it.
    """
    try:
        return decode_pixels(path, max_pixels=max_pixels)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no image {path}.") from None
    except (OSError, cv2.error) as error:
        raise OSError(f"{path} cannot be read as an image: {first_line(error)}.") from error


def decode_opencv(encoded: bytes, *, upright: bool = True, max_pixels: int = MAX_PIXELS) -> torch.Tensor:
    """uint8 [3, H, W] red green blue; see `decode_encoded`.

    The memory is that of the decoded [H, W, 3] picture: torch resizes such tensors twice as fast as planar ones.
    """
    return torch.from_numpy(decode_encoded(encoded, upright=upright, max_pixels=max_pixels)).permute(2, 0, 1)


def decode_pixels(path: Path, *, upright: bool = True, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """`decode_encoded` of a file; an OSError where there is none."""
    return decode_encoded(path.read_bytes(), upright=upright, max_pixels=max_pixels)


def decode_encoded(encoded: bytes, *, upright: bool = True, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """uint8 [H, W, 3] red green blue: turned upright by its EXIF orientation, or as the pixels are stored.

    By OpenCV, but for the few kinds of files that it gets wrong and PIL does not (`_is_for_pil`).

    Args:
        encoded: an image file's content.
        upright: whether to turn it.
        max_pixels: a picture of more is refused before anything of it is decoded.

    Raises:
        OSError: it is empty or no whole image, has too many pixels, or such as have no colors.
        cv2.error: it is of a kind that PIL does not know, and has more pixels than OpenCV reads.
        MemoryError: there is not enough for its pixels.
    """
    header = None
    if (size := _jpeg_size(encoded)) is not None:
        _require_few_pixels(size, max_pixels)
    else:
        header = _header(encoded, max_pixels)
    if header is not None and _is_for_pil(header, encoded):
        return np.array(decode_pil(encoded, upright=upright, max_pixels=max_pixels))
    if header is not None and header.format == "PNG":
        encoded = _without_notes(encoded)
    flags = cv2.IMREAD_COLOR_RGB | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    try:
        image = cv2.imdecode(np.frombuffer(encoded, dtype=np.uint8), flags)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:  # the picture is whole: nobody may skip it
            raise MemoryError(error.err) from error
        raise
    if image is None:
        raise OSError(_NO_IMAGE)
    if not upright and header is not None and header.format == "TIFF":  # which OpenCV turns whatever the flags say
        return np.ascontiguousarray(_turned_back(image, _orientation(header)))
    return image


def decode_pil(encoded: bytes, *, upright: bool = True, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The RGB PIL image, turned upright by its EXIF orientation or as the pixels are stored.

    Raises:
        OSError: it is empty or no whole image, has too many pixels, or such as have no colors.
    """
    header = _header(encoded, max_pixels)
    if header is None:
        raise OSError(_NO_IMAGE)
    orientation = _orientation(header)
    image = _upright_rgb(header)
    return image if upright else Image.fromarray(np.ascontiguousarray(_turned_back(np.asarray(image), orientation)))


def pixels_of_pil(image: Image.Image, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """uint8 [H, W, 3] of a PIL image, as `decode_pil` has it of the file; the image stays as it is.

    Raises:
        OSError: its file turns out to be damaged, it has too many pixels, or such as have no colors.
    """
    _require_usable(image, max_pixels)
    return np.array(_upright_rgb(image))


# ---- what the header tells -------------------------------------------------------------------------------------------

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what is wrong with a file is said by its name
Image.MAX_IMAGE_PIXELS = None  # the limit is ours, the same for both decoders
_ORIENTATION, _BITS, _PHOTOMETRIC = 0x0112, 258, 262  # TIFF's tags
_TAGS = b"II*\0", b"MM\0*"  # how EXIF begins, wherever it is, and TIFF
_WHITE_IS_ZERO = 0
_NETPBM = re.compile(rb"P([2356])" + rb"(?:\s|#[^\n]*\n)+(\d+)" * 3)
"""Kind, width, height, and the number that stands for white."""
_JPEG_START = b"\xff\xd8\xff"
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of frame headers, which tell precision, height and width: ITU-T T.81, table B.1."""
_JPEG_NOTES = frozenset((0xC4, 0xCC, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)))
"""Of what may stand before them, each with its length: tables, the restart interval, comments, applications' data."""
_PNG_NOTES = frozenset(b"iCCP gAMA cHRM sRGB sBIT sPLT hIST pHYs oFFs pCAL sCAL tEXt zTXt iTXt tIME".split())
"""PNG's chunks of color profiles, texts and measures, of which OpenCV uses none."""
_NO_IMAGE = "it is truncated, damaged or not an image of 8 or 16 bits a color"


_silencing = threading.Lock()


@contextlib.contextmanager
def _no_warnings() -> Iterator[None]:
    """One thread at a time: Python has one list of what to do with warnings, and each would put back another's."""
    with _silencing, warnings.catch_warnings(action="ignore"):
        yield


def _jpeg_size(encoded: bytes) -> tuple[int, int] | None:
    """Width and height in a JPEG's frame header; None of other files, and where what stands before it is unusual."""
    place = 2 if encoded.startswith(_JPEG_START) else len(encoded)
    while place + 9 <= len(encoded) and encoded[place] == 0xFF:
        kind = encoded[place + 1]
        if kind in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", encoded, place + 5)
            return (width, height) if height else None  # of a height that follows the pixels PIL knows what to say
        if kind not in _JPEG_NOTES:
            return None
        place += 2 + int.from_bytes(encoded[place + 2 : place + 4])
    return None


def _header(encoded: bytes, max_pixels: int) -> Any:
    """PIL's image, of which nothing is decoded yet; None where PIL does not know the kind of file.

    Raises:
        OSError: the file is empty.
        UnusablePixels: the picture has too many pixels, or such as are no colors.
    """
    if not encoded:  # of nothing OpenCV says which of its assertions fails, and PIL the address of the buffer
        raise OSError("the file is empty")
    try:
        with _no_warnings():  # of odd EXIF data, which no decoder needs
            header = Image.open(io.BytesIO(encoded))
    except Exception:  # a damaged file can raise nearly anything
        return None
    _require_usable(header, max_pixels)
    return header


def _require_usable(header: Any, max_pixels: int) -> None:
    """Raises TooManyPixels, and UnusablePixels for such as are no colors."""
    _require_few_pixels(header.size, max_pixels)
    if header.mode == "F" or (header.mode == "I" and header.format in ("TIFF", None)):  # None: of no file
        kind = "floating-point" if header.mode == "F" else "signed or 32-bit whole"
        raise UnusablePixels(
            f"its pixels are {kind} numbers, of which nothing says what is black and what is white; expected 8 bits a "
            "color, or 16 from 0 to 65535"
        )


def _require_few_pixels(size: tuple[int, int], max_pixels: int) -> None:
    """Raises TooManyPixels."""
    width, height = size
    if width * height > max_pixels:
        raise TooManyPixels(
            f"it has {width} x {height} = {width * height:,} pixels, more than the {max_pixels:,} that are read "
            "(max_pixels)"
        )


def _is_for_pil(header: Any, encoded: bytes) -> bool:
    """Whether a file is one that OpenCV gets wrong or cannot read: Netpbm's text files and those whose white is neither
    255 nor 65535, which come out nearly black, and TIFF files of such bits as 4 and 12."""
    if header.format == "TIFF":
        return not {*header.tag_v2.get(_BITS, (1,))} <= {1, 8, 16}
    netpbm = _NETPBM.match(encoded) if header.format == "PPM" else None
    return netpbm is not None and not (netpbm[1] in b"56" and int(netpbm[4]) in (255, 65535))


def _without_notes(encoded: bytes) -> bytes:
    """A PNG file without `_PNG_NOTES`: libpng prints a warning about each that it finds odd."""
    kept, place = [encoded[:8]], 8
    while place < len(encoded):
        end = place + 12 + int.from_bytes(encoded[place : place + 4])
        if encoded[place + 4 : place + 8] not in _PNG_NOTES:
            kept.append(encoded[place:end])
        place = end
    return b"".join(kept)


def _upright_rgb(header: Any) -> Image.Image:
    """A PIL image, whose file may not be decoded yet, in RGB and turned upright; raises OSError where it is damaged."""
    try:
        return _as_rgb(ImageOps.exif_transpose(header), header)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # a damaged file can raise nearly anything
        raise OSError(f"it is truncated or damaged ({first_line(error)})") from error


def _as_rgb(image: Image.Image, header: Any) -> Image.Image:
    """In RGB; of 16 bits the upper 8, as OpenCV has it, where PIL would cut at 255 what reaches to 65535."""
    if image.mode.startswith("I"):
        tags = header.tag_v2 if header.format == "TIFF" else {}
        levels = np.asarray(image) >> (tags.get(_BITS, (16,))[0] - 8)
        levels = 255 - levels if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else levels
        image = Image.fromarray(levels.astype(np.uint8))
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # the same colors, without PIL's warning
    return image.convert("RGB")


def _orientation(header: Any) -> int:
    """By EXIF's table: 1 for upright, or where nothing is said."""
    with _no_warnings():
        return header.getexif().get(_ORIENTATION, 1)


def _turned_back(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels [H, W, ...] as they were before they were turned upright from an EXIF orientation."""
    across = pixels.swapaxes(0, 1)
    return {
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: across,
        6: across[::-1],
        7: across[::-1, ::-1],
        8: across[:, ::-1],
    }.get(orientation, pixels)


# ---- pictures with annotations ---------------------------------------------------------------------------------------


class Reading(NamedTuple):
    """How the pictures of a detection data set are read; see the settings of these names."""

    orientation: str = "annotated"
    max_pixels: int = MAX_PIXELS


AS_ANNOTATED = Reading()
"""Without a setting."""


def decode_annotated(path: Path, size: tuple[int, int], reading: Reading = AS_ANNOTATED) -> np.ndarray:
    """`decode_annotated_bytes` of a file; an OSError where there is none."""
    return decode_annotated_bytes(path.read_bytes(), size, reading)


def decode_annotated_bytes(encoded: bytes, size: tuple[int, int], reading: Reading = AS_ANNOTATED) -> np.ndarray:
    """uint8 [H, W, 3] red green blue, of the annotated height and width wherever the file can be read so.

    Some tools annotate a photo upright, as its EXIF orientation says, others as its pixels are stored: unless the
    orientation is given, the annotated size tells which (upright where both have it, as detectron2 and ultralytics read
    all images). A picture of neither size is given upright; it is for the caller to refuse it.

    Raises:
        OSError: it is empty or no whole image, or has too many pixels.
        cv2.error: see `decode_encoded`.
    """
    orientation, max_pixels = reading
    image = decode_encoded(encoded, upright=orientation != "stored", max_pixels=max_pixels)
    if orientation == "annotated" and image.shape[1::-1] == size and image.shape[:2] != size:
        stored = decode_encoded(encoded, upright=False, max_pixels=max_pixels)
        return stored if stored.shape[:2] == size else image
    return image


def annotated_way(
    encoded: bytes, size: tuple[int, int], reading: Reading = AS_ANNOTATED
) -> Literal["upright", "stored", "unclear"] | None:
    """Which way up a photo's annotation means it, by its size alone, or that this is the same both ways.

    Args:
        encoded: an image file that `decode_annotated_bytes` has decoded.
        size: height and width as annotated.
        reading: as there.

    Returns:
        None for a picture that its EXIF orientation does not turn, and where the reading says which way.
    """
    is_asked = reading.orientation == "annotated" and any(begin in encoded for begin in _TAGS)
    header = _header(encoded, reading.max_pixels) if is_asked else None
    if header is None or (orientation := _orientation(header)) not in range(2, 9):
        return None
    # PIL gives a TIFF file's size as it is upright.
    stored = (header.tag_v2[257], header.tag_v2[256]) if header.format == "TIFF" else (header.height, header.width)
    if orientation < 5 or stored[0] == stored[1]:
        return "unclear"
    return "stored" if size == stored else "upright"
