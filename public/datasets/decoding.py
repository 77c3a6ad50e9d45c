"""Image files to pixels: by OpenCV or by PIL, upright or as stored, and what is said of a file that is no image."""

import io
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps

from public.config.names import first_line

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")
"""Of the files that are taken for images, whatever the case of their letters."""
DECODING_ERRORS = (OSError, SyntaxError, ValueError, cv2.error, Image.DecompressionBombError)
"""What reading and decoding an image can raise."""


class UnreadableImage(NamedTuple):
    """Takes the place of a sample whose file cannot be used; the loader turns it into one clear error."""

    path: str
    reason: str
    problem: str = "cannot be decoded"
    remedy: str = "Replace or remove it"


def images_in(folder: Path) -> list[Path]:
    """The image files that lie in a folder itself, sorted.

    Raises:
        FileNotFoundError: there are none, or no such folder.
    """
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [path for path in found if path.suffix.lower() in EXTENSIONS and path.is_file()]
    if not found:
        raise FileNotFoundError(f"no image file is in {folder} ({', '.join(EXTENSIONS)}).")
    return found


def read_pixels(path: Path) -> np.ndarray:
    """An image file as uint8 [H, W, 3] red green blue, turned upright by its EXIF orientation.

    Raises:
        OSError: there is no such file (FileNotFoundError), or it is no image; the message names it.
    """
    try:
        return decode_pixels(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no image {path}.") from None
    except (OSError, cv2.error) as error:
        raise OSError(f"{path} cannot be read as an image: {first_line(error)}.") from error


def decode_opencv(encoded: bytes) -> torch.Tensor:
    """uint8 [3, H, W] red green blue, turned upright by its EXIF orientation.

    The memory is that of the decoded [H, W, 3] picture: torch resizes such tensors twice as fast as planar ones.
    """
    return torch.from_numpy(decode_encoded(encoded)).permute(2, 0, 1)


def decode_pixels(path: Path, *, upright: bool = True) -> np.ndarray:
    """`decode_encoded` of a file; an OSError where there is none."""
    return decode_encoded(path.read_bytes(), upright=upright)


def decode_encoded(encoded: bytes, *, upright: bool = True) -> np.ndarray:
    """uint8 [H, W, 3] red green blue: turned upright by its EXIF orientation, or as the pixels are stored.

    Args:
        encoded: an image file's content.
        upright: whether to turn it.

    Raises:
        OSError: it is empty or no whole image.
        cv2.error: it has more pixels than OpenCV reads.
    """
    _require_content(encoded)
    flags = cv2.IMREAD_COLOR_RGB | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    image = cv2.imdecode(np.frombuffer(encoded, dtype=np.uint8), flags)
    if image is None:
        raise OSError("it is truncated, damaged or not an image")
    return image


def _require_content(encoded: bytes) -> None:
    # Of nothing OpenCV says which of its assertions fails, and PIL the address of the buffer.
    if not encoded:
        raise OSError("the file is empty")


def decode_pil(encoded: bytes) -> Image.Image:
    """The RGB PIL image, turned upright by its EXIF orientation; an OSError where it is empty or no image."""
    _require_content(encoded)
    with Image.open(io.BytesIO(encoded)) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):  # PIL would cut at 255 what reaches to 65535
            upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
        if upright.mode == "P" and isinstance(upright.info.get("transparency"), bytes):
            upright = upright.convert("RGBA")  # the same colors, without PIL's warning
        return upright.convert("RGB")


def decode_annotated(path: Path, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] red green blue, of the annotated height and width wherever the file can be read so.

    Some tools annotate a photo upright, as its EXIF orientation says, others as its pixels are stored: the annotated
    size tells which (upright where both have it, as detectron2 and ultralytics read all images). A picture of neither
    size is given upright; it is for the caller to refuse it.

    Raises:
        OSError: there is no such file, or it is empty or no whole image.
        cv2.error: it has more pixels than OpenCV reads.
    """
    image = decode_pixels(path)
    if image.shape[1::-1] == size and image.shape[:2] != size:
        stored = decode_pixels(path, upright=False)
        return stored if stored.shape[:2] == size else image
    return image
