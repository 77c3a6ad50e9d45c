"""Where data sets are looked for."""

from pathlib import Path

import pytest

from public.datasets.locations import REPOSITORY, data_root, dataset_folder, where_to_get


def test_the_default_lies_in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """data/ beside public/, wherever the program is started; an empty DATA_ROOT counts as none."""
    assert (REPOSITORY / "public" / "datasets" / "locations.py").is_file()
    for value in (None, ""):
        monkeypatch.delenv("DATA_ROOT", raising=False)
        if value is not None:
            monkeypatch.setenv("DATA_ROOT", value)
        monkeypatch.chdir("/")
        assert data_root() == REPOSITORY / "data"


def test_an_absolute_data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken as it is, whether it exists or not; ~ is the home folder."""
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "nowhere"))
    assert dataset_folder("COCO2017") == tmp_path / "nowhere" / "COCO2017"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATA_ROOT", "~/sets")
    assert data_root() == tmp_path / "sets"


def test_a_relative_data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the present folder where it exists there, else below the repository: an experiment's folder works."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_ROOT", "some/sets")
    assert data_root() == REPOSITORY / "some" / "sets"
    (tmp_path / "some" / "sets").mkdir(parents=True)
    assert data_root().resolve() == tmp_path / "some" / "sets"


def test_an_absolute_dataset_folder_ignores_data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A config, or --data.folder, may name any place."""
    monkeypatch.setenv("DATA_ROOT", "/nowhere")
    assert dataset_folder(str(tmp_path)) == tmp_path


def test_where_to_get_says_what_can_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that was searched, and the generated data set."""
    monkeypatch.setenv("DATA_ROOT", "/nowhere")
    below, elsewhere = where_to_get(Path("/nowhere/VOC")), where_to_get(Path("/other/VOC"))
    assert "DATA_ROOT (now /nowhere)" in below
    assert "DATA_ROOT" not in elsewhere, "an absolute path does not depend on it"
    assert "(--data.folder)" in elsewhere
    assert all("python -m public.datasets.sample --root data/sample" in one for one in (below, elsewhere))
