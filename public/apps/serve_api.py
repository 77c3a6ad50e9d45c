"""One definition of what the page's server answers: from it come the routes, the checks and the page /api."""

import html
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from public.config.names import first_line, nearest_names
from public.runtime.accidents import Remedies, explained
from public.runtime.page import Section, page, table, text

REMEDIES = Remedies(
    workers="fewer networks (--weights)",
    too_much="this request",
    less="a smaller picture, or fewer networks (--weights), need less",
)
STYLED = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
"""Content security policy of pages without scripts, whose pictures are inside."""


class Parameter(NamedTuple):
    """What stands behind the question mark of an address."""

    name: str
    says: str
    read: Callable[[str], Any] = str
    """From its text; raises ValueError with a sentence."""
    default: Any = None


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A method and a path, and what is answered there."""

    method: str
    path: str
    says: str
    example: str
    """How curl asks, after the address of the server."""
    parameters: Sequence[Parameter] = ()
    answer: Mapping[str, str]
    """The fields of the JSON object, or of each one in a list, and what they are."""
    handle: Callable[..., Any]
    """Takes the parameters by their names, and the request first where it is a coroutine; gives a `Response`, or what
    JSON holds. Raises HTTPException, or ValueError and OSError with a sentence."""

    def route(self) -> Route:
        """As Starlette takes it."""
        return Route(self.path, self._respond, methods=[self.method])

    async def _respond(self, request: Request) -> Response:
        values = self._values(request)
        if iscoroutinefunction(self.handle):
            answer = await self.handle(request, **values)
        else:
            answer = await run_in_threadpool(self.handle, **values)
        return answer if isinstance(answer, Response) else JSONResponse(finite(answer))

    def _values(self, request: Request) -> dict[str, Any]:
        """The parameters of a request; raises HTTPException."""
        known = {one.name: one for one in self.parameters}
        for name in request.query_params:
            if name not in known:
                hint = f"; {nearest_names(name, known)}" if known else ""
                raise HTTPException(400, f"{self.path} has no parameter {name!r}{hint}.")
        given = request.query_params
        try:
            return {name: one.read(given[name]) if name in given else one.default for name, one in known.items()}
        except ValueError as error:
            raise HTTPException(400, f"{first_line(error)}.") from error


def finite(value: Any) -> Any:
    """Plain values with None in the place of numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def whole(name: str) -> Callable[[str], int]:
    """Reads a whole number of 0 or more."""

    def read(given: str) -> int:
        if not (given.isascii() and given.isdecimal()):
            raise ValueError(f"{name}={given!r} must be a whole number")
        return int(given[:18])

    return read


def share(name: str) -> Callable[[str], float]:
    """Reads a number within 0..1."""

    def read(given: str) -> float:
        try:
            value = float(given)
        except ValueError:
            value = math.nan
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={given!r} must be a number within 0..1")
        return value

    return read


def refusal(request: Request, error: Exception) -> Response:
    """One sentence and its status."""
    if isinstance(error, HTTPException):
        text = error.detail
        if text in ("Not Found", "Method Not Allowed"):  # Starlette's own
            text = f"there is no {request.method} {request.url.path}; /api says what there is."
        return JSONResponse({"error": text}, error.status_code)
    return JSONResponse({"error": f"{first_line(error)}."}, 404 if isinstance(error, FileNotFoundError) else 400)


def accident(request: Request, error: Exception) -> Response:
    """One sentence where memory ran out; anything else is raised again."""
    said = explained(error, REMEDIES)
    if said is None:
        raise error
    return JSONResponse({"error": said}, 503)


def fault(request: Request, error: Exception) -> Response:
    """One sentence for what is ours to mend: the server prints where it happened."""
    said = (
        f"the server failed at {request.method} {request.url.path} ({type(error).__name__}); its own output says why."
    )
    return JSONResponse({"error": said}, 500)


def api_page(endpoints: Sequence[Endpoint]) -> Callable[[Request], Awaitable[Response]]:
    """The page that says all of it."""
    sections = [Section("What all have in common", [text(COMMON)]), *map(_section, endpoints)]
    content = page("API", sections)

    async def respond(request: Request) -> Response:
        return HTMLResponse(content, headers={"Content-Security-Policy": STYLED})

    return respond


COMMON = (
    'Answers are JSON. A request that cannot be answered has a status of 400 or more and {"error": a sentence}: 400 '
    "for what is wrong with it, 403 for one from another site's page, 404 for what is not there, 405 for another "
    "method, 413 for too large a picture, 500 for a fault of the server, 503 where the answer takes too long or memory "
    "ran out. Numbers that do not exist are null or left out."
)


def _section(one: Endpoint) -> Section:
    parts = [text(one.says), f"<pre>curl {html.escape(one.example)}</pre>"]
    if one.parameters:
        parts.append(
            table(("parameter", "what it is"), [(parameter.name, parameter.says) for parameter in one.parameters])
        )
    if one.answer:
        parts.append(table(("field of the answer", "what it is"), list(one.answer.items())))
    return Section(f"{one.method} {one.path}", parts)
