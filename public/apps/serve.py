"""A page in the browser: trained networks are tried on pictures, runs are watched, data is looked at.

    python -m public.apps.serve --weights best.pth
    python -m public.apps.serve --weights a/checkpoints/best.pth b/checkpoints/best.pth --port 0
    python -m public.apps.serve --runs ~/experiments --data.folder ~/raccoons

It needs `pip install -e ".[serve]"`, and nothing from other hosts. `POST /api/predict` answers as `public.apps.predict`
does, bit for bit; /api says how it is asked. Only this machine can open it unless --host says otherwise: there are no
passwords.

Exit codes: 0, 2 where it cannot start.
"""

import base64
import contextlib
import hashlib
import re
import signal
import socket
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from public.apps.predict_engines import load
from public.apps.predict_model import TASK_OF, Predictor, PredictorOptions, check_settings, read_command
from public.config.checks import require
from public.config.command_line import fail
from public.config.options import DetectorOptions, NetworkOptions
from public.datasets.check import parsed_config
from public.runtime.launch import raised_by_us

PROGRAM = "python -m public.apps.serve"
try:
    import python_multipart  # noqa: F401 - Starlette looks for it when the first form comes
    import uvicorn
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import HTMLResponse, Response
    from starlette.routing import Route
    from starlette.types import ASGIApp

    from public.apps.serve_api import Endpoint, accident, api_page, fault, refusal
    from public.apps.serve_data import DataSet
    from public.apps.serve_guard import Guard
    from public.apps.serve_predict import Limits, Networks, named_networks
    from public.apps.serve_runs import Runs, usual_roots
except ModuleNotFoundError as error:
    package = str(error.name).partition(".")[0]
    if package not in ("python_multipart", "uvicorn", "starlette"):
        raise
    missing = f'the page needs the package {package.replace("_", "-")}: pip install -e ".[serve]".'
    if __name__ == "__main__":
        fail(missing)
    raise ModuleNotFoundError(missing) from None

PAGE = Path(__file__).with_name("serve.html")
LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, kw_only=True)
class ServeOptions(PredictorOptions):
    """Serves a page on which networks are tried, runs are watched and, with --data.folder FOLDER and other settings of
    data, a data set is looked at. Programs get the same, see /api there."""

    weights: tuple[str, ...] = ()  # pyright: ignore[reportIncompatibleVariableOverride]
    """Of each network a checkpoint of ours or what public.apps.export made of one; or, with network, a file of weights
    alone, torchvision:<model>[.<weights>] or timm:<model>."""
    runs: tuple[str, ...] | None = None
    """Folders below which runs are looked for; None: the experiments' own runs/. What lies outside of them, or is no
    result (checkpoints), is never shown."""
    host: str = "127.0.0.1"
    """The address that is listened at; 0.0.0.0: every one of this machine, so that others can open the page."""
    port: int = 8000
    """0: any that is free."""
    allowed_hosts: tuple[str, ...] = ()
    """Names under which the page may be asked for, beside the host, the machine's own name and its addresses."""
    max_megabytes: float = 20.0
    """Of a request."""
    max_pixels: int = 50_000_000
    """Of a picture; eight of them are in memory at once, with three bytes a pixel."""
    max_seconds: float = 60.0
    """Until a request is answered, its turn included."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.port <= 65535, f"port={self.port} must lie in 0..65535.")
        for name in ("max_megabytes", "max_pixels", "max_seconds"):
            require(getattr(self, name) > 0, f"{name}={getattr(self, name)} must be above 0.")

    @property
    def limits(self) -> Limits:
        """Of a request."""
        return Limits(megabytes=self.max_megabytes, pixels=self.max_pixels, seconds=self.max_seconds)


@dataclass(frozen=True, kw_only=True)
class ServeClassifierOptions(ServeOptions):
    """Serves a page with classifiers from weights that do not know their network."""

    network_options: NetworkOptions  # pyright: ignore[reportGeneralTypeIssues]
    """How the network differs from what its family gives."""


@dataclass(frozen=True, kw_only=True)
class ServeDetectorOptions(ServeOptions):
    """Serves a page with detectors from weights that do not know their network."""

    detector: DetectorOptions  # pyright: ignore[reportGeneralTypeIssues]
    """How the detector is built, and how detections are chosen."""


def main(argv: Sequence[str] | None = None) -> None:
    """Reads a command line and serves until Ctrl-C; None takes the program's arguments."""
    own, of_data = divided(sys.argv[1:] if argv is None else argv)
    try:
        options = read_command((ServeOptions, ServeClassifierOptions, ServeDetectorOptions), own, PROGRAM)
    except ValueError as error:
        fail(str(error))
    data = DataSet(parsed_config(None, of_data) if of_data else None)
    try:
        with contextlib.closing(data), listen(options.host, options.port) as listener:
            run(build_app(options, data), listener, address_of(listener, options.host))
    except (ValueError, FileNotFoundError) as error:
        if not raised_by_us(error):
            raise
        fail(str(error))


def divided(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """A command line without the settings of data, and these, each with its values."""
    parts: tuple[list[str], list[str]] = ([], [])
    chosen = 0
    for arg in args:
        if arg.startswith("--"):
            chosen = int(arg.startswith(("--data.", "--no-data.")))
        parts[chosen].append(arg)
    return parts


def listen(host: str, port: int) -> socket.socket:
    """A socket there; raises ValueError where there can be none."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=512)
    except (OSError, UnicodeError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition(" (while")[0]
        raise ValueError(
            f"host={host!r}, port={port} cannot be listened at: {reason}. Give another --port (0: any that is free) or "
            "--host."
        ) from error


def address_of(listener: socket.socket, host: str) -> str:
    """What is typed in a browser on this machine."""
    name = host if host not in ("0.0.0.0", "::", "") else "localhost"
    return f"http://{f'[{name}]' if ':' in name else name}:{listener.getsockname()[1]}/"


class _Server(uvicorn.Server):
    """Says where it is as soon as Ctrl-C ends it in good order."""

    address = ""
    """What a browser is given."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Also prints the address."""
        await super().startup(sockets)
        print(f"page  {self.address}  (Ctrl-C ends it)", flush=True)


def run(app: ASGIApp, listener: socket.socket, address: str) -> None:
    """Answers until Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # which the server raises again at its end
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", ws="none", server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=3,
    )  # fmt: skip
    server = _Server(config)
    server.address = address
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])


# ---- what is served --------------------------------------------------------------------------------------------------


def build_app(options: ServeOptions, data: DataSet) -> ASGIApp:
    """The whole application, its networks loaded.

    Raises:
        FileNotFoundError: there are no such weights, or no such folder of runs.
        ValueError: they are damaged, do not fit, or a setting contradicts them.
    """
    runs = Runs(usual_roots() if options.runs is None else [Path(path).expanduser() for path in options.runs])
    predictors = [(one, load_one(one, options)) for one in options.weights]
    if predictors:
        check_settings(vars(options), sorted({predictor.task for _, predictor in predictors}))
    networks = Networks(named_networks(predictors), options.limits)
    return application([*networks.endpoints(), *runs.endpoints(), *data.endpoints()], hosts_of(options))


def load_one(weights: str, options: ServeOptions) -> Predictor:
    """The predictor of one of the weights; raises as `build_app` does.

    A setting of one task is for the networks of that task: others may be beside them.
    """
    names = [field.name for field in fields(PredictorOptions) if field.name not in {"weights", *TASK_OF}]
    predictor = load(weights, **{name: getattr(options, name) for name in names})
    for name, task in TASK_OF.items():
        if task == predictor.task and getattr(options, name) is not None:
            setattr(predictor, name, getattr(options, name))
    return predictor


def hosts_of(options: ServeOptions) -> set[str]:
    """Names of this server."""
    return {*LOCAL, options.host, socket.gethostname(), *options.allowed_hosts}


def application(endpoints: Sequence[Endpoint], hosts: Iterable[str]) -> ASGIApp:
    """The page, the endpoints and the page that describes them, for requests that name one of the hosts."""
    routes = [Route("/", _page()), Route("/api", api_page(endpoints)), *(one.route() for one in endpoints)]
    handlers: Any = dict.fromkeys((HTTPException, ValueError, OSError, ClientDisconnect), refusal)
    handlers |= {MemoryError: accident, RuntimeError: accident, Exception: fault}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), hosts)


def _page() -> Any:
    """Answers with the page; the browser runs its script and no other, and asks no other host."""
    content = PAGE.read_text(encoding="utf-8")
    script = re.findall(r"<script>(.*?)</script>", content, flags=re.DOTALL)[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src 'self' blob: data:; "
        "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )

    async def respond(request: Request) -> Response:
        return HTMLResponse(content, headers={"Content-Security-Policy": policy})

    return respond


if __name__ == "__main__":
    main()
