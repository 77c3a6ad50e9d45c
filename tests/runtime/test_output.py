"""A folder for results: made, and known to be writable before anything is computed."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from public.datasets.decoding import read_pixels
from public.runtime.output import make_folder, writing_to


def test_a_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    """With those above it; a second time it is there already, and what is in it stays."""
    make_folder(tmp_path / "new" / "deep")
    assert not list((tmp_path / "new" / "deep").iterdir())
    (tmp_path / "new" / "own").touch()
    make_folder(tmp_path / "new")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"deep", "own"}


def test_what_is_no_folder(tmp_path: Path) -> None:
    """A file in its place, or in that of one above it."""
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"output='.*file' is not a folder that can be written to: File exists\. Give"):
        make_folder(tmp_path / "file")
    with pytest.raises(
        ValueError, match=r"output='.*file/sub' is not a folder that can be written to: Not a directory"
    ):
        make_folder(tmp_path / "file" / "sub")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder in which not even root can make a file")
def test_an_existing_folder_without_rights() -> None:
    """It is there, and nothing can be put into it."""
    with pytest.raises(ValueError, match=r"output='/proc' is not a folder that can be written to: "):
        make_folder(Path("/proc"))


def test_a_full_disk(tmp_path: Path, small_disk: Callable[[int], AbstractContextManager[None]]) -> None:
    """An empty file could still be made: only a byte tells."""
    with small_disk(0), pytest.raises(ValueError, match=r"output='.*new' is not a folder that can be written to: File"):
        make_folder(tmp_path / "new")


def test_errors_that_are_no_failed_write(tmp_path: Path) -> None:
    """They pass."""
    with pytest.raises(KeyError), writing_to(tmp_path):
        raise KeyError


def test_what_cannot_be_read_is_not_taken_for_the_folder(tmp_path: Path) -> None:
    """As a damaged picture that an export is calibrated with, while its file is being written."""
    (tmp_path / "a.jpg").write_bytes(b"none")
    with pytest.raises(ValueError, match=r"^.*a\.jpg cannot be read as an image"), writing_to(tmp_path / "out"):
        read_pixels(tmp_path / "a.jpg")
