"""Calls in, answers out: what every protocol shares, over ASGI 3."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote_to_bytes

from exporter.access import LOCAL, Caller
from exporter.errors import BusyError, RequestError
from exporter.keys import AccessRole

Scope: TypeAlias = Mapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, Any]]]
Send: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[None]]
Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]
ErrorForm = Literal["object", "text"]

BODIES = 16  # bodies of the greatest size that may be on their way at once
to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


@dataclass(slots=True)
class Answer:
    """A `stream` is sent in place of the body, as it comes; it tells of its own errors."""

    body: bytes
    status: int = 200
    headers: Headers = ()
    media_type: bytes = b"application/json"
    stream: AsyncGenerator[bytes] | None = None


def json_answer(content: Any, status: int = 200, headers: Headers = ()) -> Answer:
    """Raises ValueError for NaN, which is not JSON."""
    return Answer(to_json(content).encode(), status, headers)


class Bodies:
    """Reads bodies: each no longer than `limit`, all together BODIES times that. See protocol.py for time."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0

    async def read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """Raises RequestError (413, or 400 where the client went away), BusyError."""
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and int(declared[:20]) > self._limit:
            raise self._too_large()
        body = bytearray()
        try:
            while await self._more(body, receive):
                pass
        finally:
            self._held -= len(body)
        return bytes(body)

    async def _more(self, body: bytearray, receive: Receive) -> bool:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RequestError("The client went away.", None)
        chunk = message.get("body", b"")
        if len(body) + len(chunk) > self._limit:
            raise self._too_large()
        if self._held + len(chunk) > BODIES * self._limit:
            raise BusyError
        body += chunk
        self._held += len(chunk)
        return bool(message.get("more_body"))

    def _too_large(self) -> RequestError:
        return RequestError(
            f"The body may have {self._limit} bytes.", None, status=413, code="body_too_large"
        )


@dataclass(slots=True)
class Call:
    """One request. `path` holds the values of the route's {names}, decoded."""

    scope: Scope
    receive: Receive
    headers: Mapping[bytes, bytes]
    bodies: Bodies
    path: Mapping[str, str] = field(default_factory=dict)
    caller: Caller = LOCAL
    id: str = ""  # x-request-id

    def header(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    async def body(self) -> bytes:
        """Raises RequestError, BusyError."""
        return await self.bodies.read(self.headers, self.receive)


Handle: TypeAlias = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """One of `needs` is enough; none: open to everybody. `errors` is the form of `error` in refusals."""

    method: Literal["GET", "POST"]
    path: str  # "/v1/models/{model}": a name stands for one segment, which may hold %2F
    handle: Handle
    needs: tuple[AccessRole, ...] = ()
    errors: ErrorForm = "object"


Methods: TypeAlias = Mapping[str, Route]


class Routes:
    """Routes by path.

    >>> async def nothing(call): ...
    >>> routes = Routes([Route("GET", "/v1/models/{model}", nothing)])
    >>> routes.find(b"/v1/models/a%2Fb")[1]
    {'model': 'a/b'}
    """

    def __init__(self, routes: list[Route]) -> None:
        self.all = routes
        self._fixed: dict[bytes, dict[str, Route]] = {}
        self._named: dict[tuple[str, ...], dict[str, Route]] = {}
        for route in routes:
            if "{" in route.path:
                self._named.setdefault(tuple(route.path.split("/")), {})[route.method] = route
            else:
                self._fixed.setdefault(route.path.encode(), {})[route.method] = route

    def find(self, raw_path: bytes) -> tuple[Methods, dict[str, str]]:
        """Routes of this path by method, and the values of its names; no routes where there is none."""
        fixed = self._fixed.get(raw_path)
        if fixed is not None:
            return fixed, {}
        segments = [unquote_to_bytes(part).decode(errors="replace") for part in raw_path.split(b"/")]
        for template, methods in self._named.items():
            if len(template) == len(segments):
                pairs = list(zip(template, segments, strict=True))
                if all(name == value or (name[:1] == "{" and value) for name, value in pairs):
                    return methods, {name[1:-1]: value for name, value in pairs if name[:1] == "{"}
        return {}, {}
