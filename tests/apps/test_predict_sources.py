"""From what is typed to pictures: files, folders, globs, lists, videos, addresses, and whatever can be wrong."""

import itertools
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from public.apps.predict_sources import Frame, Limits, fetch, find_sources, read_ahead
from tests.apps.networks import write_pictures

LIMITS = Limits(http=False, megabytes=1.0, seconds=5.0, frame_step=1, max_frames=None)
HTTP = LIMITS._replace(http=True)


def write_video(path: Path, num_frames: int, rate: float = 10.0) -> Path:
    """Gray frames [48, 64], frame i of value 20 i up to 240; JPEGs one after the other, which lose next to nothing."""
    video = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), rate, (64, 48))
    for number in range(num_frames):
        video.write(np.full((48, 64, 3), min(20 * number, 240), np.uint8))
    video.release()
    return path


def frames_of(*given: str | Path, limits: Limits = LIMITS) -> list[Frame]:
    """All of them."""
    return list(find_sources(map(str, given), limits).frames())


def problem(frame: Frame) -> str:
    """Why it cannot be read."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the caller looks at the message
        frame.read()
    return str(caught.value)


# ---- files -----------------------------------------------------------------------------------------------------------


def test_files_folders_globs(tmp_path: Path) -> None:
    """In the order in which they are given; those of a folder or a glob sorted; videos among them."""
    paths = write_pictures(tmp_path / "pictures")
    write_video(tmp_path / "pictures" / "clip.avi", 2)
    (tmp_path / "pictures" / "notes.md").touch()
    folder = [*map(str, paths), *(f"{tmp_path}/pictures/clip.avi#{i}" for i in range(2))]
    assert [frame.source for frame in frames_of(tmp_path / "pictures")] == folder
    several = frames_of(paths[3], tmp_path / "pictures" / "[0-1].png")
    assert [frame.source for frame in several] == [str(paths[number]) for number in (3, 0, 1)]
    assert [frame.stem for frame in several] == ["3", "0", "1"]
    sources = find_sources([str(tmp_path / "pictures")], LIMITS)
    assert (sources.pictures, sources.videos) == (paths, [tmp_path / "pictures" / "clip.avi"])
    assert (sources.total, sources.is_live) == (None, False)
    assert find_sources([str(paths[0])], LIMITS).total == 1
    np.testing.assert_array_equal(several[0].read(), cv2.cvtColor(cv2.imread(str(paths[3])), cv2.COLOR_BGR2RGB))  # type: ignore[arg-type]


def test_a_list(tmp_path: Path) -> None:
    """Relative to itself, comments and empty lines aside; what is not there is found out when it is read."""
    paths = write_pictures(tmp_path / "pictures")
    (tmp_path / "list.txt").write_text(f"# two\npictures/0.png\n\n  {paths[1]}  \npictures/missing.png\n")
    found = frames_of(tmp_path / "list.txt")
    assert [Path(frame.source) for frame in found] == [*paths[:2], tmp_path / "pictures" / "missing.png"]
    assert "there is no image" in problem(found[2])
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfpictures/0.png\r\n")  # Windows' Notepad
    assert len(frames_of(tmp_path / "list.txt")) == 1
    assert frames_of(tmp_path / "list.txt")[0].source == str(tmp_path / "pictures/0.png")
    (tmp_path / "list.txt").write_text("pictures/0.png\n", encoding="utf-16")
    with pytest.raises(ValueError, match=r"the list .*list\.txt is no text in UTF-8"):
        frames_of(tmp_path / "list.txt")
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(FileNotFoundError, match=r"the list .*empty\.txt names no picture"):
        frames_of(tmp_path / "empty.txt")


def test_nothing_there(tmp_path: Path) -> None:
    """A missing file, an empty folder, a glob of nothing, a name that is too long for any file."""
    expected = r"expected an image or video file, a folder of them \(.*\.jpg, .*\.mp4, .*\), a glob, a list of them "
    for name in ("missing.png", "missing.mp4", "", "*.png", "a" * 300):
        with pytest.raises(FileNotFoundError, match=rf"no image or video at .*; {expected}\(\.txt\), .* webcam, or an"):
            frames_of(tmp_path / name)


# ---- videos ----------------------------------------------------------------------------------------------------------


def test_a_video(tmp_path: Path) -> None:
    """Every frame, or every third, or the first two: with its number in the name, at the rate that is left."""
    path = write_video(tmp_path / "clip.avi", 8)
    found = frames_of(path)
    assert [frame.source for frame in found] == [f"{path}#{number}" for number in range(8)]
    assert [round(float(frame.read().mean()) / 20) for frame in found] == list(range(8))
    third = frames_of(path, limits=LIMITS._replace(frame_step=3))
    assert [frame.stem for frame in third] == ["clip_000000", "clip_000003", "clip_000006"]
    assert [round(float(frame.read().mean()) / 20) for frame in third] == [0, 3, 6]
    assert third[0].clip is third[2].clip
    assert [(one.clip.stem, one.clip.rate) for one in (found[0], third[0]) if one.clip] == [
        ("clip", 10),
        ("clip", pytest.approx(10 / 3)),
    ]
    assert len(frames_of(path, limits=LIMITS._replace(max_frames=2))) == 2


def test_red_is_the_first_channel(tmp_path: Path) -> None:
    """OpenCV's is blue."""
    video = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (32, 32))
    video.write(np.full((32, 32, 3), (0, 0, 250), np.uint8))
    video.release()
    (frame,) = frames_of(tmp_path / "a.avi")
    red, green, blue = frame.read().mean(axis=(0, 1)).round()
    assert red > 240
    assert max(green, blue) < 15


def test_videos_that_are_none(tmp_path: Path) -> None:
    """Each is one picture that cannot be read, and says why; the frames before a break are there."""
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "list.txt").write_text("missing.mp4\n")
    write_video(tmp_path / "none.avi", 0)
    whole = write_video(tmp_path / "whole.avi", 30).read_bytes()
    (tmp_path / "half.avi").write_bytes(whole[: len(whole) // 2])
    for name in ("text.mp4", "none.avi"):
        (frame,) = frames_of(tmp_path / name)
        assert problem(frame).startswith(f"{tmp_path / name} ")
    (missing,) = frames_of(tmp_path / "list.txt")
    assert "there is no video" in problem(missing)
    *before, last = frames_of(tmp_path / "half.avi")
    assert 1 <= len(before) < 25
    assert "half.avi breaks off: " in problem(last)
    (camera,) = frames_of("99")
    assert problem(camera) == "webcam 99 cannot be opened: there is no such webcam."


# ---- addresses -------------------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """Serves what a test needs."""

    content: bytes = b""

    def do_GET(self) -> None:
        """By the path."""
        match self.path:
            case "/away" | "/file":
                self.send_response(302)
                self.send_header("Location", "/picture%20a.png" if self.path == "/away" else "file:///etc/hostname")
                self.end_headers()
            case "/missing.png":
                self.send_error(404)
            case "/slow.png":
                self.send_response(200)
                self.end_headers()
                for _ in range(100):
                    time.sleep(0.05)
                    self.wfile.write(b"x")
                    self.wfile.flush()
            case "/large.png":
                self.send_response(200)
                self.end_headers()
                for _ in range(100):
                    self.wfile.write(b"x" * 100_000)
            case _:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"text" if self.path == "/text.png" else self.content)

    def log_message(self, *args: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Nothing."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server on this machine."""
    folder = tmp_path_factory.mktemp("served")
    Handler.content = write_pictures(folder)[0].read_bytes()

    class Server(ThreadingHTTPServer):
        def handle_error(self, *args: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            """A client that has had enough."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on this machine is fetched from it."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_an_address(address: str) -> None:
    """Only with the option; a redirection is followed, but to no file."""
    with pytest.raises(ValueError, match=r"nothing is fetched from other machines without --allow-http"):
        frames_of(f"{address}/picture%20a.png")
    (frame,) = frames_of(f"{address}/picture%20a.png", limits=HTTP)
    assert (frame.source, frame.stem, frame.path) == (f"{address}/picture%20a.png", "picture a", None)
    assert frame.read().shape == (70, 90, 3)
    (away,) = frames_of(f"{address}/away", limits=HTTP)
    assert away.read().shape == (70, 90, 3)
    (file,) = frames_of(f"{address}/file", limits=HTTP)
    assert "was not fetched" in problem(file)


def test_addresses_that_fail(address: str) -> None:
    """Named, with the reason; neither a large file nor a slow server is waited for."""
    expected = {
        "missing.png": "was not fetched: HTTP Error 404: Not Found.",
        "text.png": "cannot be read as an image: it is truncated, damaged or not an image of 8 or 16 bits a color.",
        "large.png": "was not fetched: it has more than 1 MB (--max-megabytes).",
    }
    for name, message in expected.items():
        (frame,) = frames_of(f"{address}/{name}", limits=HTTP)
        assert problem(frame) == f"{address}/{name} {message}"
    with pytest.raises(OSError, match=r"slow\.png was not fetched: it takes more than 0\.2 seconds \(--max-seconds\)"):
        fetch(f"{address}/slow.png", HTTP._replace(seconds=0.2))
    with pytest.raises(OSError, match=r"127\.0\.0\.1:9/a\.png was not fetched: .*refused"):
        fetch("http://127.0.0.1:9/a.png", HTTP)


def test_a_video_from_an_address(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetched as a whole before it is read."""
    monkeypatch.setattr(Handler, "content", write_video(tmp_path / "clip.avi", 3).read_bytes())
    found = frames_of(f"{address}/clip.avi", limits=HTTP)
    assert [frame.source for frame in found] == [f"{address}/clip.avi#{number}" for number in range(3)]
    (frame,) = frames_of(f"{address}/missing.avi", limits=HTTP._replace(megabytes=1e-3))
    assert "more than 0.001 MB" in problem(frame)


# ---- reading ahead ---------------------------------------------------------------------------------------------------


def test_in_order_with_errors_in_their_places() -> None:
    """However long each takes."""

    def work(number: int) -> int:
        time.sleep(0.01 * (number % 3))
        if number == 4:
            raise OSError("four")
        return 10 * number

    found = list(read_ahead(range(8), work, num_threads=3, depth=4))
    assert [item for item, _ in found] == list(range(8))
    assert [value if isinstance(value, int) else str(value) for _, value in found] == [
        0,
        10,
        20,
        30,
        "four",
        50,
        60,
        70,
    ]


def test_it_reads_no_further_than_asked() -> None:
    """Of endless items only so many more than are taken; leaving early ends the threads."""
    before = set(threading.enumerate())
    taken = []
    ahead = read_ahead((taken.append(n) or n for n in itertools.count()), lambda n: n, num_threads=2, depth=3)
    assert [next(ahead)[0] for _ in range(5)] == list(range(5))
    time.sleep(0.3)
    assert 5 <= len(taken) <= 10
    ahead.close()  # type: ignore[attr-defined]
    assert set(threading.enumerate()) <= before


def test_what_the_items_raise() -> None:
    """Comes to the caller, after the items before it."""

    def items() -> Iterator[int]:
        yield 1
        raise RuntimeError("no more")

    ahead = read_ahead(items(), lambda n: n, num_threads=1, depth=1)
    assert next(ahead) == (1, 1)
    with pytest.raises(RuntimeError, match="no more"):
        next(ahead)
