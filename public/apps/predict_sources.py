"""Where pictures come from: a file, a folder, a glob, a list, a video, a webcam, an address; and reading them ahead."""

import glob
import os
import queue
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np

from public.config.checks import require
from public.config.names import first_line
from public.datasets.decoding import EXTENSIONS, MAX_PIXELS, decode_encoded, is_hidden, is_image_file, read_pixels

VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts")
"""Endings of files that are taken for videos, whatever the case of their letters."""
LIST = ".txt"
"""Ending of a file that names pictures."""
OTHER_SOURCES = f" a glob, a list of them ({LIST}), the number of a webcam, or an http(s) address"
"""What a source may be beside a file and a folder, as the end of a message."""
USUAL_RATE = 25.0
"""Frames a second where a video or a webcam states none."""

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # quiet: what is wrong with a video is said by us
Item = TypeVar("Item")
Done = TypeVar("Done")


class Limits(NamedTuple):
    """What is taken from a source at most."""

    http: bool
    """Whether anything is fetched at all."""
    megabytes: float
    """Of a file that is fetched."""
    seconds: float
    """That fetching it may take."""
    frame_step: int
    """Every how many-th frame of a video is taken."""
    max_frames: int | None
    """Of a video or a webcam; None: all."""
    pixels: int = MAX_PIXELS
    """Of a picture."""


class Clip(NamedTuple):
    """A video or a webcam, of which frames are taken."""

    stem: str
    """For names of files."""
    rate: float
    """Of the frames that are taken, a second."""


class Frame(NamedTuple):
    """A picture to be read."""

    source: str
    """The file or address; of a video also the frame, "street.mp4#12"."""
    stem: str
    """For names of files."""
    read: Callable[[], np.ndarray]
    """Gives uint8 [H, W, 3] red green blue; raises OSError, which names the source."""
    clip: Clip | None = None
    path: Path | None = None
    """The file that it is."""


class Sources(NamedTuple):
    """All pictures that were asked for."""

    pictures: list[Path]
    """The picture files, in their order."""
    videos: list[Path]
    """The video files."""
    frames: Callable[[], Iterator[Frame]]
    """Every picture in order; a video or an address is opened when it is its turn."""
    total: int | None
    """How many pictures there are; None: nobody knows before the end."""
    is_live: bool
    """Whether somebody waits for each picture."""


def find_sources(given: Iterable[str], limits: Limits) -> Sources:
    """What the sources of a command line mean.

    Args:
        given: each a picture or a video, a folder of them, a glob, a list of them (.txt, a name a line, relative to the
            list), the number of a webcam, or an address.
        limits: see there.

    Raises:
        FileNotFoundError: there is no such file, or no picture in a folder or a list.
        ValueError: an address without the permission to fetch anything.
    """
    names = [name for source in given for name in _names(source)]
    addresses = [name for name in names if _is_address(name)]
    if addresses and not limits.http:
        raise ValueError(f"source={addresses[0]!r}: nothing is fetched from other machines without --allow-http.")
    cameras, videos = (list(filter(is_one, names)) for is_one in (_is_camera, _is_video))
    return Sources(
        pictures=[Path(name) for name in names if name not in {*addresses, *cameras, *videos}],
        videos=[Path(name) for name in videos if name not in addresses],
        frames=lambda: (frame for name in names for frame in _frames(name, limits)),
        total=None if cameras or videos else len(names),
        is_live=bool(cameras),
    )


def find_images(pattern: str, *, videos: bool = False) -> list[Path]:
    """The image files that a path, a folder or a glob means, sorted.

    Args:
        pattern: a file of any ending, a folder, whose own files are meant, or a glob.
        videos: whether videos are looked for in folders and by globs, too.

    Raises:
        FileNotFoundError: there are none.
    """
    path = Path(pattern).expanduser()
    if os.path.isfile(path):  # of a name that is too long Path.is_file raises
        return [path]
    candidates = path.iterdir() if os.path.isdir(path) else map(Path, glob.glob(str(path), recursive=True))
    found = sorted(p for p in candidates if is_image_file(p) or (videos and _is_video_file(p)))
    if not found:
        what, others = ("image or video", OTHER_SOURCES) if videos else ("image", " or a glob")
        endings = ", ".join((*EXTENSIONS, *VIDEOS) if videos else EXTENSIONS)
        raise FileNotFoundError(
            f"no {what} at {pattern!r}; expected an {what} file, a folder of them ({endings}),{others}."
        )
    return found


def file_frame(path: Path, *, max_pixels: int = MAX_PIXELS) -> Frame:
    """An image file."""
    return Frame(str(path), path.stem, partial(read_pixels, path, max_pixels=max_pixels), path=path)


def require_picture(given: str | Path) -> None:
    """Raises ValueError for what is a source on the command line, and no picture's file."""
    kind = _other_kind(str(given))
    require(
        kind is None,
        f"{str(given)!r} is {kind}; expected is a picture's file: addresses, folders, globs, lists and videos are for "
        "the command line (python -m public.apps.predict --source).",
    )


def _other_kind(name: str) -> str | None:
    """What a source is that is no picture's file; None for one that is, or that is nothing."""
    if name.lower().startswith(("http:/", "https:/")):  # a Path has one slash of an address
        return "an address"
    if os.path.isdir(name):
        return "a folder"
    kind = {**dict.fromkeys(VIDEOS, "a video"), LIST: "a list"}.get(_ending(name))
    if kind is None and glob.escape(name) != name and not os.path.isfile(name):
        return "a glob"
    return kind


def _is_video_file(path: Path) -> bool:
    return path.suffix.lower() in VIDEOS and not is_hidden(path.name) and path.is_file()


def _is_address(name: str) -> bool:
    return name.lower().startswith(("http://", "https://"))


def _is_camera(name: str) -> bool:
    return name.isdecimal()


def _is_video(name: str) -> bool:
    return _ending(name) in VIDEOS


def _ending(name: str) -> str:
    return Path(urlsplit(name).path if _is_address(name) else name).suffix.lower()


def _names(source: str) -> list[str]:
    """Files, addresses and numbers of webcams."""
    if _is_address(source) or (_is_camera(source) and not Path(source).exists()):
        return [source]
    found = [str(path) for path in find_images(source, videos=True)]
    return _listed(Path(found[0])) if _ending(found[0]) == LIST else found


def _listed(path: Path) -> list[str]:
    """The pictures that a list names; one that is not there is found out when it is read."""
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    if "\0" in text:
        raise ValueError(f"the list {path} is no text in UTF-8 (it holds bytes of 0, as UTF-16 does).")
    lines = text.splitlines()
    names = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not names:
        raise FileNotFoundError(f"the list {path} names no picture; expected is a file or an address a line.")
    return [name if _is_address(name) else str(path.parent / Path(name).expanduser()) for name in names]


def _frames(name: str, limits: Limits) -> Iterator[Frame]:
    """The pictures of one file, address or webcam. Where a video cannot be opened it is one that cannot be read."""
    stem = Path(unquote(urlsplit(name).path)).stem if _is_address(name) else Path(name).stem
    if not _is_camera(name) and not _is_video(name):
        if _is_address(name):
            yield Frame(name, stem or "picture", partial(_fetched_pixels, name, limits))
        else:
            yield file_frame(Path(name), max_pixels=limits.pixels)
        return
    try:
        if _is_camera(name):
            yield from _video_frames(int(name), f"webcam {name}", Clip(f"webcam_{name}", 0.0), limits)
        elif _is_address(name):
            with tempfile.NamedTemporaryFile(suffix=_ending(name)) as file:
                file.write(fetch(name, limits))
                file.flush()
                yield from _video_frames(file.name, name, Clip(stem, 0.0), limits)
        else:
            yield from _video_frames(name, name, Clip(stem, 0.0), limits)
    except OSError as error:
        yield Frame(name, stem, partial(_fail, error))


def _fail(error: OSError) -> np.ndarray:
    raise error


def _video_frames(file: str | int, name: str, clip: Clip, limits: Limits) -> Iterator[Frame]:
    """The frames of a video or a webcam, decoded one after the other.

    Raises:
        OSError: it cannot be opened, has no frames, or ends long before it should.
    """
    if isinstance(file, str) and not Path(file).is_file():
        raise FileNotFoundError(f"there is no video {file}.")
    video = _opened(file)
    try:
        if not video.isOpened():
            raise OSError(
                f"{name} cannot be opened: {'there is no such webcam' if isinstance(file, int) else NO_VIDEO}."
            )
        rate = video.get(cv2.CAP_PROP_FPS)
        rate = rate if 0 < rate <= 1000 else USUAL_RATE
        clip = clip._replace(rate=rate / limits.frame_step)
        number = taken = 0
        while (limits.max_frames is None or taken < limits.max_frames) and video.grab():
            if number % limits.frame_step == 0:
                has_frame, pixels = video.retrieve()
                if has_frame:
                    taken += 1
                    read = partial(cv2.cvtColor, pixels, cv2.COLOR_BGR2RGB)
                    yield Frame(f"{name}#{number}", f"{clip.stem}_{number:06d}", read, clip)
            number += 1
        stated = 0 if isinstance(file, int) else video.get(cv2.CAP_PROP_FRAME_COUNT)
        _check_length(name, number, stated, stopped=limits.max_frames is not None and taken >= limits.max_frames)
    finally:
        video.release()


NO_VIDEO = "it is damaged or no video"


def _opened(file: str | int) -> cv2.VideoCapture:
    """A video or a webcam, without OpenCV's warnings where it cannot be opened."""
    logging = cv2.utils.logging
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        return cv2.VideoCapture(file) if isinstance(file, int) else cv2.VideoCapture(file, cv2.CAP_FFMPEG)
    finally:
        logging.setLogLevel(level)


def _check_length(name: str, number: int, stated: float, *, stopped: bool) -> None:
    """Refuses a video without frames, or one that breaks off; what files state is often some frames off."""
    if number == 0:
        raise OSError(f"{name} has no frames.")
    if not stopped and number < 0.9 * stated:
        raise OSError(f"{name} breaks off: {number} of its {stated:.0f} frames could be read.")


# ---- from other machines ---------------------------------------------------------------------------------------------


def fetch(address: str, limits: Limits) -> bytes:
    """What is at an http or https address, redirections to such included.

    Raises:
        OSError: it is not there, too large, or takes too long; the message names it.
    """
    opener, deadline = _opener(), time.monotonic() + limits.seconds
    parts: list[bytes] = []
    try:
        with opener.open(address, timeout=limits.seconds) as response:
            while part := response.read1(1 << 16):
                parts.append(part)
                if sum(map(len, parts)) > limits.megabytes * 1e6:
                    raise OSError(f"it has more than {limits.megabytes:g} MB (--max-megabytes)")
                if time.monotonic() > deadline:
                    raise TimeoutError
    except TimeoutError as error:
        limit = f"{limits.seconds:g} seconds (--max-seconds)"
        raise OSError(f"{address} was not fetched: it takes more than {limit}.") from error
    except (OSError, ValueError) as error:
        if isinstance(error, HTTPError):  # it is the response, too
            error.close()
        raise OSError(f"{address} was not fetched: {first_line(error)}.") from error
    return b"".join(parts)


def _opener() -> urllib.request.OpenerDirector:
    """Knows http and https alone: no redirection leads to a file or to ftp."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler, urllib.request.UnknownHandler, urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler, urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):  # fmt: skip
        opener.add_handler(handler())
    return opener


def _fetched_pixels(address: str, limits: Limits) -> np.ndarray:
    content = fetch(address, limits)
    try:
        return decode_encoded(content, max_pixels=limits.pixels)
    except (OSError, cv2.error) as error:
        raise OSError(f"{address} cannot be read as an image: {first_line(error)}.") from error


# ---- reading ahead ---------------------------------------------------------------------------------------------------

_END = object()


def read_ahead(
    items: Iterable[Item], work: Callable[[Item], Done], *, num_threads: int, depth: int
) -> Iterator[tuple[Item, Done | Exception]]:
    """What `work` makes of each item, in their order, done by threads while the caller is busy with earlier ones.

    Args:
        items: gone through by a thread of its own, for going on may take time too: the next frame of a video.
        work: for each; an exception of it takes the place of its result.
        num_threads: that work.
        depth: how many items may wait for the caller.

    Raises:
        Exception: what going through the items raised.
    """
    waiting: queue.Queue[Any] = queue.Queue(maxsize=max(depth, 1))
    stop = threading.Event()

    def put(value: Any) -> None:
        while not stop.is_set():
            try:
                return waiting.put(value, timeout=0.1)
            except queue.Full:
                continue

    def go_through(pool: ThreadPoolExecutor) -> None:
        try:
            for item in items:
                if stop.is_set():
                    return
                put((item, pool.submit(work, item)))
            put(_END)
        except Exception as error:
            put(error)

    with ThreadPoolExecutor(num_threads) as pool:
        thread = threading.Thread(target=go_through, args=(pool,), daemon=True)
        thread.start()
        try:
            while (value := waiting.get()) is not _END:
                if isinstance(value, Exception):
                    raise value
                item, future = value
                yield item, _result(future)
        finally:
            stop.set()
            thread.join()


def _result(future: "Future[Done]") -> Done | Exception:
    try:
        return future.result()
    except Exception as error:
        return error
