"""The page's server: the same answers as the library, requests of strangers, limits, bad input, many at once."""

import asyncio
import io
import re
import runpy
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.apps.networks import save_classifier, save_detector, write_pictures

pytest.importorskip("starlette", reason='the page is not installed: pip install -e ".[serve]"')
pytest.importorskip("uvicorn", reason='the page is not installed: pip install -e ".[serve]"')
pytest.importorskip("httpx2", reason="needs httpx2, which Starlette's tests are made with: pip install httpx2")
import httpx2
import uvicorn
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from public.apps import serve_predict
from public.apps.predict import load
from public.apps.serve import ServeOptions, build_app, listen, main
from public.apps.serve_data import DataSet
from public.apps.serve_predict import MOST_AT_ONCE, PREDICTED

HERE = "http://127.0.0.1:8000"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of three sizes, and one that lies on its side in its file."""
    folder = tmp_path_factory.mktemp("pictures")
    paths, exif = write_pictures(folder), Image.Exif()
    exif[0x0112] = 6
    Image.open(paths[0]).save(folder / "turned.jpg", exif=exif)
    return [*paths, folder / "turned.jpg"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A classifier in a run folder, and a detector that states its threshold."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / "runs" / "birds" / "checkpoints").mkdir(parents=True)
    return [
        save_classifier(folder / "runs" / "birds" / "checkpoints" / "best.pth"),
        save_detector(folder / "detector.pth", score_threshold=0.0742),
    ]


@pytest.fixture(scope="module")
def app(weights: list[Path]) -> ASGIApp:
    """Both networks, small limits."""
    names = tuple(map(str, weights))
    options = ServeOptions(weights=names, device="cpu", max_megabytes=0.2, max_pixels=100_000)
    return build_app(options, DataSet(None))


@pytest.fixture
def client(app: ASGIApp) -> TestClient:
    """Asks as a program on this machine does."""
    return TestClient(app, base_url=HERE)


def asked(client: TestClient, path: Path, **query: Any) -> dict[str, Any]:
    """What is answered for a picture that is sent as a form."""
    with path.open("rb") as file:
        answer = client.post("/api/predict", params=query, files={"image": (path.name, file)})
    assert answer.status_code == 200, answer.text
    return answer.json()


# ---- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_answers_are_those_of_the_library(client: TestClient, weights: list[Path], pictures: list[Path]) -> None:
    """Bit for bit, for JSON holds every digit: a classifier, a detector at its own threshold and at a given one."""
    cases = [("birds", weights[0], None), ("detector", weights[1], None), ("detector", weights[1], 0.0)]
    results = []
    for name, path, threshold in cases:
        query = {} if threshold is None else {"score_threshold": threshold}
        results = load(path, device="cpu", **query)(pictures)
        for picture, result in zip(pictures, results, strict=True):
            said = asked(client, picture, weights=name, **query)
            assert set(said) == set(PREDICTED)
            assert {key: said[key] for key in result.to_dict()} == result.to_dict() | {"image": picture.name}
    assert len(results[0]) == 20
    assert 0 < len(load(weights[1], device="cpu")(pictures[0])[0]) < 20, "the threshold makes a difference"


def test_a_body_is_a_picture_too(client: TestClient, pictures: list[Path]) -> None:
    """Without a form, and without a name the first network."""
    said = client.post("/api/predict", content=pictures[1].read_bytes()).json()
    form = asked(client, pictures[1], weights="birds")
    assert {**said, "milliseconds": 0, "image": 0} == {**form, "milliseconds": 0, "image": 0}
    assert [*said["milliseconds"]] == ["decode", "forward"]
    assert said["task"] == "classification"
    assert [*asked(client, pictures[1], weights="detector")["milliseconds"]] == ["decode", "forward", "boxes"]


def test_about_and_the_page_of_the_api(client: TestClient) -> None:
    """Names are of run folders or files; what is described is what there is."""
    about = client.get("/api/about").json()
    named = [(one["name"], one["task"], one["score_threshold"]) for one in about["networks"]]
    assert named == [("birds", "classification", None), ("detector", "detection", 0.0742)]
    assert about["limits"] == {"megabytes": 0.2, "pixels": 100_000, "seconds": 60.0}
    described = client.get("/api").text
    assert "POST /api/predict" in described
    assert all(f'<td class="words">{name}</td>' in described for name in [*PREDICTED, "weights", "networks"])


def test_the_page_runs_its_own_script_alone(client: TestClient) -> None:
    """No other host is named, and the browser is told so."""
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    assert answer.text.count("<script>") == 1
    named = set(re.findall(r"\w+://[\w./]+", answer.text))
    assert named == {"http://localhost", "http://www.w3.org/2000/svg"}, "a word of a message, and SVG's name"
    assert client.get("/api/about").headers["x-content-type-options"] == "nosniff"


# ---- strangers and bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"Host": "evil.example:8000"}, "the host 'evil.example:8000', which is not this server"),
        ({"Host": "127.0.0.1.evil.example"}, "not this server"),
        ({"Host": "[::1"}, "not this server"),
        ({"Host": ""}, "not this server"),
        ({"Origin": "http://evil.example"}, "'http://evil.example', a page of another site"),
        ({"Origin": "http://127.0.0.1:9999"}, "a page of another site"),
        ({"Origin": "null"}, "a page of another site"),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, "a page of another site"),
    ],
)
def test_pages_of_other_sites_are_refused(client: TestClient, headers: dict[str, str], reason: str) -> None:
    """With 403 and a sentence, whatever they ask for."""
    for answer in (client.get("/api/about", headers=headers), client.post("/api/predict", headers=headers)):
        assert answer.status_code == 403
        assert reason in answer.json()["error"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "localhost:8000", "Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin"},
        {"Host": "[::1]:8000"},
        {"Host": "LOCALHOST"},
        {"Host": socket.gethostname()},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    ],
)
def test_the_pages_own_requests_are_let_in(client: TestClient, headers: dict[str, str]) -> None:
    """Under any name of this machine; a link on another site may be followed."""
    assert client.get("/api/about", headers=headers).status_code == 200


def png(width: int, height: int) -> bytes:
    """The content of a black picture's file."""
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return file.getvalue()


def tiff_of_whole_numbers() -> bytes:
    """Of 32 bits each."""
    file = io.BytesIO()
    Image.new("I", (4, 4)).save(file, "TIFF")
    return file.getvalue()


BAD: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 400, "picture cannot be read as an image: the file is empty."),
    "no image": (b"hello", 400, "picture cannot be read as an image: it is truncated"),
    "cut short": (png(50, 50)[:60], 400, "picture cannot be read as an image"),
    "no colors": (tiff_of_whole_numbers(), 400, "its pixels are signed or 32-bit whole numbers"),
    "too many pixels": (png(60_000, 2), 413, "120,000 pixels, more than the 100,000 that are read (max_pixels)."),
    "too many bytes": (bytes(300_000), 413, "the request has more than 0.2 MB (--max-megabytes)."),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_bodies(client: TestClient, kind: str) -> None:
    """One sentence each, sent as a body or as a form."""
    content, status, text = BAD[kind]
    answers = [client.post("/api/predict", content=content)]
    answers.append(client.post("/api/predict", files={"image": ("picture", content)}))
    for answer in answers:
        assert answer.status_code == status
        assert text in answer.json()["error"]


def test_other_bad_requests(client: TestClient) -> None:
    """One sentence each."""

    def error(status: int, method: str, path: str, **request: Any) -> str:
        answer = client.request(method, path, **request)
        assert answer.status_code == status
        return answer.json()["error"]

    form = {"Content-Type": "multipart/form-data; boundary=x"}
    assert "no weights 'bird'; the nearest: birds." in error(404, "POST", "/api/predict?weights=bird")
    assert "score_threshold='2' must be" in error(400, "POST", "/api/predict?score_threshold=2")
    assert "score_threshold='nan' must be" in error(400, "POST", "/api/predict?score_threshold=nan")
    said = error(400, "POST", "/api/predict?weights=birds&score_threshold=0.5")
    assert said == "score_threshold=0.5 is for detection; the weights are for classification."
    assert "no parameter 'weight'; the nearest: weights." in error(400, "POST", "/api/predict?weight=birds")
    assert "no file in a field called image" in error(400, "POST", "/api/predict", files={"picture": b"x"})
    expected = "; expected is one file, in a field called image (curl -F image=@photo.jpg); parameters stand in the"
    picture = ("image", ("a.png", png(4, 4)))
    for files, fields in (([picture, picture], {}), ([picture], {"score_threshold": "0.3"})):
        said = error(400, "POST", "/api/predict", files=files, data=fields)
        assert said.startswith("the form cannot be read (Too many")
        assert expected in said
    assert expected in error(400, "POST", "/api/predict", headers=form, content=b"hello")
    assert "no file in a field" in error(400, "POST", "/api/predict", headers=form, content=b"")
    assert "there is no GET /api/predict" in error(405, "GET", "/api/predict")
    assert "there is no GET /../etc/passwd" in error(404, "GET", "/%2e%2e/etc/passwd")


def test_settings_of_one_task(weights: list[Path]) -> None:
    """They are for the networks of that task, which others may lie beside; without one they are refused."""
    names = tuple(map(str, weights))
    mixed = build_app(ServeOptions(weights=names, device="cpu", score_threshold=0.25, top_k=2), DataSet(None))
    client = TestClient(mixed, base_url=HERE)
    about = client.get("/api/about").json()["networks"]
    assert [one["score_threshold"] for one in about] == [None, 0.25]
    assert len(client.post("/api/predict?weights=birds", content=png(50, 50)).json()["predictions"]) == 2
    with pytest.raises(ValueError, match=r"^top_k=2 is for classification; the weights are for detection\.$"):
        build_app(ServeOptions(weights=names[1:], device="cpu", top_k=2), DataSet(None))


def test_no_answer_within_the_time(weights: list[Path], pictures: list[Path]) -> None:
    """503, and the next request is answered."""
    app = build_app(ServeOptions(weights=(str(weights[0]),), device="cpu", max_seconds=1e-6), DataSet(None))
    answer = TestClient(app, base_url=HERE).post("/api/predict", content=pictures[0].read_bytes())
    assert answer.status_code == 503
    assert "--max-seconds" in answer.json()["error"]


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (MemoryError(), 503, "memory does not suffice for this request"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
            503,
            "(Tried to allocate 2.00 GiB)",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 503, "fewer networks (--weights)"),
        (RuntimeError("shapes differ"), 500, "failed at POST /api/predict (RuntimeError); its own output says why."),
        (KeyError("x"), 500, "failed at POST /api/predict (KeyError)"),
    ],
)
def test_what_fails_in_the_network(
    app: ASGIApp, pictures: list[Path], monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, text: str
) -> None:
    """JSON and one sentence each; the next request is answered."""
    client = TestClient(app, base_url=HERE, raise_server_exceptions=False)
    content = pictures[0].read_bytes()

    def fail(*_: Any) -> None:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(serve_predict, "timed", fail)
        answer = client.post("/api/predict", content=content)
    assert (answer.status_code, text in answer.json()["error"]) == (status, True)
    assert client.post("/api/predict", content=content).status_code == 200


# ---- a real server ---------------------------------------------------------------------------------------------------


@contextmanager
def running(app: ASGIApp, host: str = "127.0.0.1") -> Iterator[str]:
    """Its address."""
    with listen(host, 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", ws="none"))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
        thread.start()
        try:
            yield f"http://{host}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.mark.slow
def test_two_hundred_at_once(app: ASGIApp, weights: list[Path], pictures: list[Path]) -> None:
    """Every request is answered with its own picture's numbers, the bad ones with their own sentence."""
    expected = {
        path.name: one.to_dict() for path, one in zip(pictures, load(weights[0], device="cpu")(pictures), strict=True)
    }
    kinds = [*BAD, *(path.name for path in pictures)]

    async def ask(client: httpx2.AsyncClient, number: int) -> None:
        kind = kinds[number % len(kinds)]
        content, status, text = BAD.get(kind) or (pictures[0].with_name(kind).read_bytes(), 200, "")
        answer = await client.post("/api/predict", content=content, timeout=60)
        assert answer.status_code == status, answer.text
        if text:
            assert text in answer.json()["error"]
        else:
            assert answer.json()["predictions"] == expected[kind]["predictions"]

    async def ask_all(address: str) -> int:
        limits = httpx2.Limits(max_connections=200)
        async with httpx2.AsyncClient(base_url=address, limits=limits) as client:
            return len(await asyncio.gather(*(ask(client, number) for number in range(200))))

    with running(app) as address:
        assert asyncio.run(ask_all(address)) == 200


@pytest.mark.slow
def test_clients_that_stop_sending(weights: list[Path], pictures: list[Path]) -> None:
    """More of them than there are places: those that hang up are forgotten, those that wait are told after the time."""
    options = ServeOptions(weights=(str(weights[0]),), device="cpu", max_seconds=1.0)
    start = b"POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nhalf"
    with running(build_app(options, DataSet(None))) as address:
        port = int(address.rpartition(":")[2])

        def opened() -> socket.socket:
            client = socket.create_connection(("127.0.0.1", port), timeout=20)
            client.sendall(start)
            return client

        for _ in range(2 * MOST_AT_ONCE):
            opened().close()
        content = pictures[0].read_bytes()
        assert httpx2.post(f"{address}/api/predict", content=content, timeout=20).status_code == 200
        waiting = [opened() for _ in range(MOST_AT_ONCE)]
        for client in waiting:
            with client:
                assert client.recv(12) == b"HTTP/1.1 503"
        assert httpx2.post(f"{address}/api/predict", content=content, timeout=20).status_code == 200


def test_any_address_of_this_machine(app: ASGIApp) -> None:
    """A request may name the address that it came to, and no other."""
    with running(app, "0.0.0.0") as address:
        there = address.replace("0.0.0.0", "127.0.0.3")
        assert httpx2.get(f"{there}/api/about").status_code == 200
        assert httpx2.get(f"{there}/api/about", headers={"Host": "127.0.0.4"}).status_code == 403


# ---- what cannot start -----------------------------------------------------------------------------------------------


@pytest.fixture
def exit_of(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What the command says on stderr, which ends with code 2."""

    def said(*arguments: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        assert ended.value.code == 2
        return capsys.readouterr().err

    return said


def test_what_cannot_start(tmp_path: Path, weights: list[Path], exit_of: Callable[..., str]) -> None:
    """One sentence, exit code 2."""
    torch.save({"fc.weight": torch.zeros(3, 3)}, tmp_path / "bare.pth")
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        text = exit_of("--port", str(port))
    assert f"port={port} cannot be listened at: Address already in use. Give another --port" in text
    assert "host='a..b', port=8000 cannot be listened at" in exit_of("--host", "a..b")
    assert f"there is no {tmp_path}/none.pth" in exit_of("--port", "0", "--weights", f"{tmp_path}/none.pth")
    assert f"{tmp_path} is a folder; expected is a file" in exit_of("--port", "0", "--weights", str(tmp_path))
    assert "--network NAME" in exit_of("--port", "0", "--weights", f"{tmp_path}/bare.pth")
    other = exit_of(
        "--port", "0", "--weights", f"{tmp_path}/bare.pth", "--network", "fcos", "--detector.channels", "32"
    )
    assert "bare.pth" in other
    both = exit_of("--port", "0", "--weights", str(weights[1]), "--network", "resnet18")
    assert "leave out network='resnet18'" in both


def test_a_wrong_command_line(exit_of: Callable[..., str]) -> None:
    """Exit code 2."""
    assert "--prot" in exit_of("--prot", "1")
    assert "port=70000" in exit_of("--port", "70000")
    assert "max_seconds=0.0 must be above 0" in exit_of("--max-seconds", "0")
    assert "resnet18" in exit_of("--weights", "x.pth", "--network", "resnet81"), "the nearest names"


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "python_multipart"])
def test_a_missing_package(package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence and exit code 2 from the command, and an error that names it from an import."""
    for name in [name for name in sys.modules if name.split(".")[0] == package or name == "public.apps.serve"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("serve_api", "serve_data", "serve_guard", "serve_predict", "serve_runs"):
        monkeypatch.delitem(sys.modules, f"public.apps.{name}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit, match=r"^2$"):
        runpy.run_module("public.apps.serve", run_name="__main__")
    said = r'error: the page needs the package [\w-]+: pip install -e "\.\[serve\]"\.\n'
    assert re.fullmatch(said, capsys.readouterr().err)
    with pytest.raises(ModuleNotFoundError, match="the page needs the package"):
        runpy.run_module("public.apps.serve")
