"""Weights of torchvision and timm: real downloads from a server in this process, and every refusal."""

import hashlib
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from public.backbones.mobilenet_v2 import mobilenet_v2
from public.weights.loading import load_weights
from public.weights.reading import read_weights

WEIGHTS = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V1
SOURCE = "torchvision:mobilenet_v2.IMAGENET1K_V1"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not reported."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder and the address it is served under; torch's cache is an empty folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as http:
        thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.mobilenet_v2()


def _publish(folder: Path, network: nn.Module, digest: str | None = None) -> Path:
    """Saves weights as torchvision publishes them: the start of their SHA-256 (or a given one) named."""
    path = folder / "new.pth"
    torch.save(network.state_dict(), path)
    return path.rename(folder / f"net-{digest or hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth")


@pytest.mark.slow
def test_torchvision_weights_are_downloaded_once(
    server: tuple[Path, str], network: nn.Module, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, address = server
    published = _publish(folder, network)
    monkeypatch.setattr(WEIGHTS.value, "url", f"{address}/{published.name}")
    ours = mobilenet_v2()
    assert len(load_weights(ours, SOURCE).loaded) == 314
    assert torch.equal(ours.state_dict()["classifier.1.weight"], network.state_dict()["classifier.1.weight"])
    assert (tmp_path / "cache" / "hub" / "checkpoints" / published.name).is_file()
    published.unlink()
    assert len(read_weights(SOURCE)) == 314  # from the cache


def test_a_wrong_checksum_is_refused(
    server: tuple[Path, str], network: nn.Module, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, address = server
    monkeypatch.setattr(WEIGHTS.value, "url", f"{address}/{_publish(folder, network, '0badc0de').name}")
    with pytest.raises(FileNotFoundError, match=r"could not be had from http.*\(invalid hash value .*0badc0de"):
        read_weights(SOURCE)
    assert not list((tmp_path / "cache").rglob("*.pth"))


def test_a_failed_download_says_where_to_put_the_file(
    server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(WEIGHTS.value, "url", f"{server[1]}/net-0badc0de.pth")
    cached = tmp_path / "cache" / "hub" / "checkpoints" / "net-0badc0de.pth"
    with pytest.raises(FileNotFoundError, match=rf"HTTP Error 404.*download it by hand to {cached}, or give the path"):
        read_weights(SOURCE)


def test_a_broken_file_in_the_cache_says_where_it_is(
    server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(WEIGHTS.value, "url", f"{server[1]}/net-0badc0de.pth")
    cached = tmp_path / "cache" / "hub" / "checkpoints" / "net-0badc0de.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=rf"download it by hand to {cached}"):
        read_weights(SOURCE)


def test_unknown_torchvision_names() -> None:
    with pytest.raises(ValueError, match=r"torchvision has no model 'mobilenetv2'; the nearest of .*: .*mobilenet_v2"):
        read_weights("torchvision:mobilenetv2")
    with pytest.raises(ValueError, match=r"no weights 'IMAGENET1K' of resnet50; the nearest: IMAGENET1K_V[12], IMAGE"):
        read_weights("torchvision:resnet50.IMAGENET1K")


def test_timm_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        ValueError, match=r"timm:resnet18 needs the package timm: pip install timm, .* Without it, give the"
    ):
        read_weights("timm:resnet18")


def test_unknown_timm_names() -> None:
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match=r"timm has no model 'mobilenetv2'; the nearest of .*: .*mobilenet"):
        read_weights("timm:mobilenetv2")
    with pytest.raises(ValueError, match=r"timm publishes no weights 'resnet18.none'; there are: resnet18\.\w+"):
        read_weights("timm:resnet18.none")


@pytest.mark.slow
def test_timm_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """What timm gives for `pretrained=True` loads under our names; its own download is not run here."""
    timm = pytest.importorskip("timm")
    theirs = timm.create_model("mobilenetv2_100")
    asked: list[tuple[str, bool]] = []

    def create_model(name: str, pretrained: bool) -> nn.Module:
        asked.append((name, pretrained))
        return theirs

    monkeypatch.setattr(timm, "create_model", create_model)
    ours = mobilenet_v2()
    assert len(load_weights(ours, "timm:mobilenetv2_100").loaded) == 314
    assert asked == [("mobilenetv2_100", True)]
    assert torch.equal(ours.state_dict()["features.0.0.weight"], theirs.conv_stem.weight)


def test_a_failed_timm_download_says_where_the_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")

    def create_model(name: str, pretrained: bool) -> nn.Module:
        raise OSError("no network\nand much more")

    monkeypatch.setattr(timm, "create_model", create_model)
    words = r"timm:resnet18 could not be had from https://huggingface\.co/timm/resnet18\.\w+ \(no network\);"
    with pytest.raises(FileNotFoundError, match=words):
        read_weights("timm:resnet18")
