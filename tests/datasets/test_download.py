"""Fetching COCO and VOC from a server on this machine: layouts, checksums, and what is left when something fails."""

import hashlib
import http.server
import re
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from torchvision.datasets.voc import DATASET_YEAR_DICT

from public.datasets import archives
from public.datasets.archives import unpack
from public.datasets.batches import DataError
from public.datasets.coco import COCO_ARCHIVES, download_coco
from public.datasets.download import main
from public.datasets.voc import VOC_ARCHIVES, download_voc

CONTENT: dict[str, dict[str, str]] = {
    "zips/train2017.zip": {f"train2017/{n}.jpg": f"train {n}" for n in range(3)},
    "zips/val2017.zip": {f"val2017/{n}.jpg": f"val {n}" for n in range(2)},
    "annotations/annotations_trainval2017.zip": {
        f"annotations/{name}_{split}2017.json": f"{name} {split}"
        for name in ("captions", "instances", "person_keypoints")
        for split in ("train", "val")
    },
} | {
    f"voc{year}/{name}.tar": {
        f"VOCdevkit/VOC{year}/{file}": f"{name} {file}"
        for file in (
            *(f"ImageSets/Main/{listed}.txt" for listed in lists),
            f"JPEGImages/{lists[0]}.jpg",
            f"Annotations/{lists[0]}.xml",
            f"SegmentationClass/{lists[0]}.png",
        )
    }
    for year, name, lists in (
        (2007, "VOCtrainval_06-Nov-2007", ("train", "val", "trainval")),
        (2007, "VOCtest_06-Nov-2007", ("test",)),
        (2012, "VOCtrainval_11-May-2012", ("train", "val", "trainval")),
    )
}
"""Files of the archives, in the published archives' folders."""


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder and notes what was asked for."""

    folder: Path
    asked: list[str]

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def fetched(self) -> list[str]:
        """Names of the archives that were asked for, each once, sorted."""
        return sorted({path.rpartition("/")[2] for path in self.asked})


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def __init__(self, request: Any, address: Any, server: Server) -> None:
        self.asked = server.asked
        super().__init__(request, address, server, directory=str(server.folder))

    def do_GET(self) -> None:
        """Notes the path."""
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


def write_archive(path: Path, files: dict[str, str]) -> None:
    """A zip or a tar file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)
        return
    source = path.with_suffix("")
    for name, text in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    with tarfile.open(path, "w") as archive:
        archive.add(source / "VOCdevkit", "VOCdevkit")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serves small archives of the published names and layouts, whose checksums are the ones expected."""
    monkeypatch.setenv("no_proxy", "*")
    served = tmp_path / "served"
    for name, files in CONTENT.items():
        write_archive(served / name, files)
    for table in (COCO_ARCHIVES, VOC_ARCHIVES):
        for part, archive in table.items():
            md5 = hashlib.md5((served / archive.path).read_bytes()).hexdigest()
            monkeypatch.setitem(table, part, archive._replace(md5=md5))
    with Server(("127.0.0.1", 0), Handler) as running:  # pyright: ignore[reportArgumentType]
        running.folder, running.asked = served, []
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def files_in(folder: Path) -> dict[str, str]:
    """Everything but the archives, by path."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in (".zip", ".tar")
    }


COCO_WHOLE = {
    **{f"annotations/instances_{split}2017.json": f"instances {split}" for split in ("train", "val")},
    **{f"images/train2017/{n}.jpg": f"train {n}" for n in range(3)},
    **{f"images/val2017/{n}.jpg": f"val {n}" for n in range(2)},
}
VOC_WHOLE = {
    file.removeprefix("VOCdevkit/"): text
    for name, files in CONTENT.items()
    if name.startswith("voc")
    for file, text in files.items()
    if "Segmentation" not in file
}


def test_coco_in_its_layout(tmp_path: Path, server: Server) -> None:
    """Images and instances where the reader looks for them; a second call asks the server for nothing."""
    folder = tmp_path / "COCO2017"
    download_coco(folder, url=server.url)
    assert files_in(folder) == COCO_WHOLE
    assert server.fetched == ["annotations_trainval2017.zip", "train2017.zip", "val2017.zip"]
    server.asked.clear()
    download_coco(folder, url=server.url)
    assert server.asked == []


def test_voc_in_its_layout(tmp_path: Path, server: Server) -> None:
    """Both archives of 2007 fill one folder."""
    folder = tmp_path / "VOCdataset"
    download_voc(folder, url=server.url)
    assert files_in(folder) == VOC_WHOLE
    assert len(VOC_WHOLE) == 5 + 3 + 5
    assert len(server.fetched) == 3
    server.asked.clear()
    download_voc(folder, ["VOC2007/val", "VOC2007/train", "VOC2012/trainval", "VOC2007/test"], server.url)
    assert server.asked == []


def test_only_what_the_splits_need(tmp_path: Path, server: Server) -> None:
    """Evaluation on val2017 or on VOC2007/test does not wait for 18 GB of training images."""
    download_coco(tmp_path / "COCO2017", ["val2017"], server.url)
    download_voc(tmp_path / "VOCdataset", ["VOC2007/test"], server.url)
    assert server.fetched == ["VOCtest_06-Nov-2007.tar", "annotations_trainval2017.zip", "val2017.zip"]
    assert not (tmp_path / "COCO2017" / "images" / "train2017").exists()
    assert sorted(files_in(tmp_path / "VOCdataset")) == [
        "VOC2007/Annotations/test.xml",
        "VOC2007/ImageSets/Main/test.txt",
        "VOC2007/JPEGImages/test.jpg",
    ]


def test_what_is_there_is_left_alone(tmp_path: Path, server: Server) -> None:
    """A user's own annotation file is not replaced by the published one."""
    own = tmp_path / "annotations" / "instances_train2017.json"
    own.parent.mkdir()
    own.write_text("my own")
    download_coco(tmp_path, ["train2017", "val2017"], server.url)
    assert files_in(tmp_path / "annotations")["instances_train2017.json"] == "my own"
    assert files_in(tmp_path / "annotations")["instances_val2017.json"] == "instances val"


def test_a_finished_archive_is_not_fetched_again(tmp_path: Path, server: Server) -> None:
    """What was verified is unpacked from the disk; what ended early is fetched anew."""
    folder = tmp_path / "COCO2017"
    folder.mkdir()
    whole, half = ((server.folder / "zips" / name).read_bytes() for name in ("train2017.zip", "val2017.zip"))
    (folder / "train2017.zip").write_bytes(whole)
    (folder / "val2017.zip").write_bytes(half[: len(half) // 2])
    download_coco(folder, url=server.url)
    assert files_in(folder) == COCO_WHOLE
    assert server.fetched == ["annotations_trainval2017.zip", "val2017.zip"]


def test_a_run_that_was_killed_is_taken_up(tmp_path: Path, server: Server) -> None:
    """Half an archive unpacked, or moved in part: the split does not count as there, and the next call completes it."""
    coco, voc = tmp_path / "COCO2017", tmp_path / "VOCdataset"
    half = coco / "val2017.zip.partial" / "val2017"
    half.mkdir(parents=True)
    (half / "0.jpg").write_text("val")
    (half / "foreign.jpg").write_text("of another release")
    (voc / "VOC2007" / "JPEGImages").mkdir(parents=True)
    (voc / "VOC2007" / "JPEGImages" / "train.jpg").write_text(VOC_WHOLE["VOC2007/JPEGImages/train.jpg"])
    download_coco(coco, url=server.url)
    download_voc(voc, url=server.url)
    assert files_in(coco) == COCO_WHOLE
    assert files_in(voc) == VOC_WHOLE


def test_a_stop_between_two_moves_leaves_no_split(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VOC's lists of images are moved last: wherever it stops before, the next call resumes."""
    moves: list[str] = []
    move = archives._move

    def stop_after(count: int) -> Callable[[Path, Path], None]:
        def limited(source: Path, target: Path) -> None:
            if len(moves) == count:
                raise KeyboardInterrupt
            moves.append(target.name)
            move(source, target)

        return limited

    for count in range(3):
        folder = tmp_path / str(count)
        moves.clear()
        monkeypatch.setattr(archives, "_move", stop_after(count))
        with pytest.raises(KeyboardInterrupt):
            download_voc(folder, ["VOC2012/train"], server.url)
        assert not any("ImageSets" in name or ".partial" in name for name in files_in(folder))
        monkeypatch.setattr(archives, "_move", move)
        download_voc(folder, ["VOC2012/train"], server.url)
        assert files_in(folder) == {name: text for name, text in VOC_WHOLE.items() if name.startswith("VOC2012")}


# ---- what can go wrong -------------------------------------------------------------------------------------------


def test_another_archive_than_the_published_one(tmp_path: Path, server: Server) -> None:
    """A wrong checksum: nothing is unpacked; the address, the file and the checksum are named."""
    expected = COCO_ARCHIVES["images/val2017"].md5
    (server.folder / "zips" / "val2017.zip").write_bytes(b"an advertisement")
    with pytest.raises(
        DataError,
        match=rf"^{server.url}/zips/val2017\.zip could not be fetched to {tmp_path}/COCO2017/val2017\.zip with the md5 "
        rf"{expected} \(.*\); try again where there is a network and room on the disk, or put the file there",
    ):
        download_coco(tmp_path / "COCO2017", ["val2017"], server.url)
    assert not (tmp_path / "COCO2017" / "images").exists()


def test_an_archive_that_is_not_there(tmp_path: Path, server: Server) -> None:
    """Not found on the server."""
    (server.folder / "zips" / "val2017.zip").unlink()
    with pytest.raises(DataError, match=r"val2017\.zip could not be fetched to .* \(HTTP Error 404: .*\)"):
        download_coco(tmp_path, ["val2017"], server.url)


def test_no_network(tmp_path: Path, server: Server) -> None:
    """Nobody answers at the address."""
    closed = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    port = closed.server_port
    closed.server_close()
    with pytest.raises(DataError, match=rf"^http://127\.0\.0\.1:{port}/voc2012/.* could not be fetched .*refused"):
        download_voc(tmp_path, ["VOC2012/val"], f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("archive", "fetch", "split"),
    [
        ("zips/val2017.zip", download_coco, "val2017"),
        ("voc2012/VOCtrainval_11-May-2012.tar", download_voc, "VOC2012/val"),
    ],
)
def test_an_archive_that_is_none(
    tmp_path: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    archive: str,
    fetch: Callable[..., None],
    split: str,
) -> None:
    """Of the right checksum, but damaged: one sentence, and nothing half unpacked."""
    content = (server.folder / archive).read_bytes()
    content = content[: min(700, len(content) // 2)]
    (server.folder / archive).write_bytes(content)
    for table in (COCO_ARCHIVES, VOC_ARCHIVES):
        for part, known in table.items():
            if known.path == archive:
                monkeypatch.setitem(table, part, known._replace(md5=hashlib.md5(content).hexdigest()))
    name = archive.rpartition("/")[2]
    with pytest.raises(
        DataError, match=rf"^{tmp_path}/x/{name} could not be unpacked in {tmp_path}/x \(.*\); make room"
    ):
        fetch(tmp_path / "x", [split], server.url)
    assert [path.name for path in (tmp_path / "x").iterdir() if path.name.endswith(".partial")] == []
    assert not (tmp_path / "x" / "images").exists()
    assert not (tmp_path / "x" / "VOC2012").exists()


def test_another_layout_inside(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror's archive without the folder that is expected, accepted by its checksum: the folder is named."""
    path = server.folder / "zips" / "val2017.zip"
    write_archive(path, {"pictures/0.jpg": "0"})
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(COCO_ARCHIVES, "images/val2017", COCO_ARCHIVES["images/val2017"]._replace(md5=md5))
    with pytest.raises(DataError, match=r"val2017\.zip could not be unpacked .*No such file.*partial/val2017"):
        download_coco(tmp_path, ["val2017"], server.url)
    assert not list(tmp_path.glob("*.partial"))


def test_a_full_disk_while_fetching(
    tmp_path: Path, server: Server, small_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    """The reason and what to do; with room, the next call completes."""
    with (
        small_disk(100),
        pytest.raises(DataError, match=r"val2017\.zip could not be fetched .*File too large.*room on the disk"),
    ):
        download_coco(tmp_path / "COCO2017", ["val2017"], server.url)
    download_coco(tmp_path / "COCO2017", url=server.url)
    assert files_in(tmp_path / "COCO2017") == COCO_WHOLE


@pytest.mark.parametrize("name", ["../outside.txt", "link/outside.txt"])
def test_an_archive_that_reaches_out(tmp_path: Path, name: str) -> None:
    """Through the parent's name or a link that leads there: refused, and nothing is written outside the folder."""
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for member in (link, tarfile.TarInfo(name))[name.startswith("..") :]:
            archive.addfile(member)
    (tmp_path / "folder").mkdir()
    with pytest.raises(tarfile.TarError):
        unpack(tmp_path / "x.tar", tmp_path / "folder")
    assert not (tmp_path / "outside.txt").exists()


def test_a_full_disk_while_unpacking(
    tmp_path: Path, server: Server, small_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    """The space is given back, the archive stays, and the next call fetches nothing."""
    folder = tmp_path / "COCO2017"
    path = folder / "val2017.zip"
    folder.mkdir()
    path.write_bytes((server.folder / "zips" / "val2017.zip").read_bytes())
    (folder / "annotations").mkdir()
    (folder / "annotations" / "instances_val2017.json").write_text("instances val")
    with (
        small_disk(4),
        pytest.raises(DataError, match=r"val2017\.zip could not be unpacked .*File too large.*not fetched again\.$"),
    ):
        download_coco(folder, ["val2017"], server.url)
    assert sorted(entry.name for entry in folder.iterdir()) == ["annotations", "val2017.zip"]
    download_coco(folder, ["val2017"], server.url)
    assert len(list((folder / "images" / "val2017").iterdir())) == 2
    assert server.asked == []


@pytest.mark.parametrize(
    ("split", "fetch", "message"),
    [
        (
            "mine",
            download_coco,
            r"/annotations/instances_mine\.json is missing, and .* images/train2017, images/val2017$",
        ),
        ("VOC2012/test", download_voc, r"/VOC2012/ImageSets/Main/test\.txt is missing, and no published archive holds"),
    ],
)
def test_a_split_that_nobody_publishes(tmp_path: Path, split: str, fetch: Callable[..., None], message: str) -> None:
    """VOC2012's test set, or one's own: what is missing, and what can be fetched. If it is there, all is well."""
    with pytest.raises(DataError, match=message):
        fetch(tmp_path, [split])
    for part in ("annotations/instances_mine.json", "images/mine/x", "VOC2012/ImageSets/Main/test.txt"):
        (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / part).touch()
    fetch(tmp_path, [split])


# ---- the published archives --------------------------------------------------------------------------------------


def test_the_published_checksums_of_voc() -> None:
    """Those of torchvision, for the same file names."""
    ours = {archive.path.rpartition("/")[2]: archive.md5 for archive in VOC_ARCHIVES.values()}
    assert len(ours) == 3
    theirs = {
        entry["filename"]: entry["md5"] for key in ("2007", "2007-test", "2012") for entry in [DATASET_YEAR_DICT[key]]
    }
    assert ours == theirs


def test_the_published_archives_of_coco() -> None:
    """Three, by which every part of both splits is covered."""
    assert {archive.path: archive.md5 for archive in COCO_ARCHIVES.values()} == {
        "zips/train2017.zip": "cced6f7f71b7629ddf16f17bbcfab6b2",
        "zips/val2017.zip": "442b8da7639aecaf257c1dceb8ba8c80",
        "annotations/annotations_trainval2017.zip": "f4bbac642086de4f52a3fdda2de5fa2c",
    }
    assert len(COCO_ARCHIVES) == 4


# ---- command line ------------------------------------------------------------------------------------------------


def test_the_command_line(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything, to the folder given or to its place below DATA_ROOT."""
    monkeypatch.setattr(download_coco, "__defaults__", (("train2017", "val2017"), server.url))
    monkeypatch.setattr(download_voc, "__defaults__", (download_voc.__defaults__[0], server.url))  # pyright: ignore
    monkeypatch.setenv("DATA_ROOT", str(tmp_path / "root"))
    assert main(["coco"]) == 0
    assert main(["voc", "--folder", str(tmp_path / "elsewhere")]) == 0
    assert files_in(tmp_path / "root" / "COCO2017") == COCO_WHOLE
    assert files_in(tmp_path / "elsewhere") == VOC_WHOLE
    assert capsys.readouterr().out == "".join(
        f"{folder} is complete; the archives in it may be removed.\n"
        for folder in (tmp_path / "root" / "COCO2017", tmp_path / "elsewhere")
    )


def test_the_command_line_says_what_failed(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line and exit code 1; 2 where the folder is none."""
    monkeypatch.setattr(download_coco, "__defaults__", (("val2017",), f"{server.url}/nothing"))
    assert main(["coco", "--folder", str(tmp_path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(f"error: {server.url}/nothing/annotations/annotations_trainval2017.zip could not be")
    with pytest.raises(SystemExit) as exit_info:
        main(["coco", "--folder", __file__])
    assert exit_info.value.code == 2
    assert re.fullmatch(r"error: folder='.*' is not a folder that can be written to: .*\n", capsys.readouterr().err)


def test_the_command_line_knows_two_data_sets(capsys: pytest.CaptureFixture[str]) -> None:
    """Another name is a wrong request."""
    with pytest.raises(SystemExit) as exit_info:
        main(["imagenet"])
    assert exit_info.value.code == 2
    assert "coco" in capsys.readouterr().err
