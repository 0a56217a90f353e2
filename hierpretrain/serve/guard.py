"""What stands in front of the service: whom it listens to, how much it takes at a time, and the headers of answers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Collection, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from hierpretrain.serve.limits import Limits, Refusal, size

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Names of the machine itself."""
_WORK = ("/api/embed", "/api/search", "/api/classify", "/api/add", "/api/remove", "/api/thumbnail")
_WRITES = ("/api/add", "/api/remove")
_AFTER_CLOSING = 256  # bytes: a line end, and what a client may add, though none does
_HEADERS = {
    # all of the page comes from here, and no other page may hold it, send for it or run in it
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Json(JSONResponse):
    """JSON in ASCII, since the name of a file may be no text at all."""

    def render(self, content: Any) -> bytes:
        """Returns the bytes of the answer."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


class Tokens(Protocol):
    """What knows who may change the index."""

    token: str | None

    def knows(self, token: str) -> bool:
        """Returns whether a token is the right one."""


class Guard:
    """An application of ASGI that refuses, before anything of it is read, what another one shall not see.

    A request must name a host that is known, since the page of another site can have its own name resolve to this
    machine (DNS rebinding); it may not come from a page of another origin; and there may not be too many at a time.
    What it sends may be neither too large nor too slow.

    Args:
        app: The other one.
        hosts: Names by which the service may be reached, without port.
        limits: How much it takes.
        tokens: What knows the token of whoever may change the index.
    """

    def __init__(self, app: Any, hosts: Collection[str], limits: Limits, tokens: Tokens) -> None:
        self.app, self.hosts, self.limits, self.tokens = app, {host.lower() for host in hosts}, limits, tokens
        self.running = 0

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        """Answers a request, or refuses it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        send = _with_headers(send)
        works = scope["path"] in _WORK
        try:
            headers = Headers(scope=scope)
            self._check_origin(headers)
            self._check_length(headers)
            if scope["path"] in _WRITES:
                self._check_token(headers)
            if works and self.running >= self.limits.requests:
                raise Refusal(
                    503,
                    f"the service works on at most {self.limits.requests} requests at a time, and has as many; send "
                    "this one again in a second",
                    {"Retry-After": "1"},
                )
        except Refusal as refusal:
            await Json({"error": refusal.message}, refusal.status, refusal.headers)(scope, receive, send)
            return
        self.running += works
        try:
            await self.app(scope, self._bounded(receive, _closing(headers)), send)
        finally:
            self.running -= works

    def _check_origin(self, headers: Headers) -> None:
        host = headers.get("host", "")
        if _name(host) not in self.hosts:
            raise Refusal(
                421,
                f"the header Host must name one of {', '.join(sorted(self.hosts))}; it is {host[:100]!r}: use one of "
                "these, or start the service with --allow-host NAME",
            )
        origin = headers.get("origin")
        elsewhere = headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"
        if elsewhere or (origin is not None and urlsplit(origin).netloc.lower() != host.lower()):
            raise Refusal(
                403,
                f"a page may ask the service only if it comes from there; this one is of {(origin or '?')[:100]!r}: "
                "ask from a program, or by the service's own page",
            )

    def _check_token(self, headers: Headers) -> None:
        if self.tokens.token is None:
            raise Refusal(
                403,
                "nothing may be changed, for the service was started without a token; start it with --token-file FILE "
                "or HIERPRETRAIN_TOKEN",
            )
        scheme, _, token = headers.get("authorization", "").partition(" ")
        token = token.strip(" \t")
        in_utf8 = token.encode("latin-1").decode(errors="replace")  # headers are read as Latin-1, and some are sent so
        known = [self.tokens.knows(one) for one in (token, in_utf8)]
        if scheme.lower() != "bearer" or not any(known):
            raise Refusal(
                401,
                "who changes the index must know the token; send it in the header Authorization: Bearer TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )

    def _check_length(self, headers: Headers) -> None:
        told = headers.get("content-length", "0")
        if told.isdecimal() and int(told) > self.limits.request_bytes:
            raise self._too_large(int(told))

    def _too_large(self, found: int) -> Refusal:
        limit = size(self.limits.request_bytes)
        return Refusal(413, f"a request may have {limit}; this one has at least {size(found)}: send fewer images")

    def _bounded(self, receive: Any, closing: bytes) -> Any:
        """Returns ``receive`` with an end to how much and for how long, and with the check that ``closing`` came."""
        loop = asyncio.get_running_loop()
        until, seen, more, tail = loop.time() + self.limits.seconds, 0, True, b""

        async def bounded() -> Mapping[str, Any]:
            nonlocal seen, more, tail
            if not more:  # what comes now is that the client has gone
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), until - loop.time())
            except TimeoutError:
                raise HTTPException(
                    408, f"a request must arrive within {self.limits.seconds} seconds; this one has not: send less"
                ) from None
            body = message.get("body", b"")
            seen, tail = seen + len(body), (tail + body)[-len(closing) - _AFTER_CLOSING :]
            more = message.get("more_body", False)
            if seen > self.limits.request_bytes:
                raise HTTPException(413, self._too_large(seen).message)
            if message["type"] == "http.request" and not more and closing not in tail:  # else its last parts are lost
                raise HTTPException(
                    400, "the body must end in its closing boundary; this one was cut off: send it again"
                )
            return message

        return bounded


def _closing(headers: Headers) -> bytes:
    """Returns what the body of a form must end in; nothing for another body."""
    found = re.match(r'(?i)multipart/form-data\s*;.*?boundary="?([^";]+)', headers.get("content-type", ""))
    return f"--{found[1].strip()}--".encode("latin-1") if found else b""


def _with_headers(send: Any) -> Any:
    async def with_headers(message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(_HEADERS)
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return with_headers


def _name(host: str) -> str:
    """Returns the name of a host without its port.

    Example:
        >>> _name("LocalHost:8000"), _name("[::1]:80"), _name("a@b:1")
        ('localhost', '::1', '')
    """
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return ""
    return "" if "@" in host or parts.path or parts.query or parts.fragment else parts.hostname or ""
