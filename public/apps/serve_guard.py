"""What the page's server lets in: no request that a page of another site sends, no body beyond the limit.

A browser sends requests to 127.0.0.1 for any page that is open in it. Such a page is told by its name: where its owner
lets the name point to 127.0.0.1 it stands in the header Host, and else in the header Origin.
"""

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Of every answer that does not say otherwise."""


class Guard:
    """An ASGI application around another one.

    Args:
        app: what answers the requests that are let in.
        hosts: names under which the server may be asked for, beside the address that a request came to.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self.app, self.hosts = app, frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 403 and one sentence, or lets the request in."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        reason = self._foreign(Headers(scope=scope), scope)
        answer = self.app if reason is None else JSONResponse({"error": reason}, 403)
        await answer(scope, receive, send_with_headers)

    def _foreign(self, headers: Headers, scope: Scope) -> str | None:
        """Why a request is not let in; None where it is."""
        host, origin = headers.get("host", "").lower(), headers.get("origin")
        here, _ = scope.get("server") or ("", None)
        if _name_of(host) not in self.hosts | {here}:
            return f"the request is for the host {host!r}, which is not this server (--allowed-hosts names others)."
        if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}"):
            return f"the request comes from {origin!r}, a page of another site."
        is_own = headers.get("sec-fetch-site", "none") in ("none", "same-origin")
        if not is_own and headers.get("sec-fetch-mode") != "navigate":
            return "the request comes from a page of another site."
        return None


def _name_of(host: str) -> str | None:
    """The name in a Host header, without its port; None where it is none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def limited(receive: Receive, megabytes: float) -> Receive:
    """The same body, refused with 413 where it is larger.

    What lies beyond the limit is read and dropped, because who is still sending does not hear an answer.
    """
    num_bytes = 0

    async def receive_some() -> Message:
        nonlocal num_bytes
        message = await receive()
        num_bytes += len(message.get("body", b""))
        while num_bytes > megabytes * 1e6:
            if message["type"] != "http.request" or not message.get("more_body"):
                raise HTTPException(413, f"the request has more than {megabytes:g} MB (--max-megabytes).")
            message = await receive()
        return message

    return receive_some
