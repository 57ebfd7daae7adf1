"""The ASGI application: route, admit, handle, answer, count."""

from __future__ import annotations

import asyncio
import hmac
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing

from prometheus_client import Counter, Histogram

from exporter.access import Access
from exporter.errors import RateLimitError, UnauthorizedError
from exporter.http import (
    decisions,
    documentation,
    generation,
    native,
    open_inference,
    openai,
    operations,
)
from exporter.http.asgi import (
    Answer,
    Bodies,
    Call,
    ErrorForm,
    Headers,
    Methods,
    Receive,
    Route,
    Routes,
    Scope,
    Send,
)
from exporter.http.limits import RateLimits
from exporter.http.refusals import error_answer, refusal
from exporter.instruments import Instruments
from exporter.labels import LabelOutcome
from exporter.service import Service
from exporter.settings import ExporterSettings

RecordLabels = Callable[[Sequence[tuple[str, str]]], list[LabelOutcome]]
GONE = 499  # as nginx counts requests whose client went away
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,128}")


def application(
    service: Service,
    record: RecordLabels,
    settings: ExporterSettings,
    instruments: Instruments,
    access: Access,
) -> Application:
    """The ASGI application; `record` stores labels and may block."""
    routes = [
        *native.routes(service, record, settings, instruments),
        *openai.routes(service, settings),
        *generation.routes(service, settings),
        *decisions.routes(service, settings),
        *open_inference.routes(service, settings),
        *operations.routes(service, instruments),
    ]
    routes += documentation.routes(routes, settings)
    return Application(Routes(routes), settings, instruments, access)


class Application:
    """Answers every request, whatever happens in its handler."""

    def __init__(
        self, routes: Routes, settings: ExporterSettings, instruments: Instruments, access: Access
    ) -> None:
        self.routes = routes
        self._instruments, self._access = instruments, access
        self._limits = RateLimits(settings.requests_per_minute)
        self._bodies = Bodies(settings.max_body_bytes)
        self._metrics_token = settings.metrics_token.get_secret_value().encode()
        self._counted: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        call = Call(scope, receive, dict(scope["headers"]), self._bodies)
        methods, call.path = self.routes.find(scope["raw_path"])
        route = _route(methods, scope["method"])
        request_id = _request_id(call)
        try:
            call.id = request_id.decode()
            answer = await self._answer(call, route, methods)
            await _send(send, answer, request_id)
            status = answer.status
        except asyncio.CancelledError:  # the client went away: nobody is there to be answered
            status = GONE
        self._count("other" if route is None else route.path, status, started)

    async def _answer(self, call: Call, route: Route | None, methods: Methods) -> Answer:
        if route is None:
            return _not_routed(call, methods)
        left: Headers = ()
        try:
            if route.needs:
                left = self._admit(call, route)
            answer = await route.handle(call)
        except Exception as error:  # one bad request must not end the server; refusal logs what is unforeseen
            answer = refusal(error, route.errors, call.id)
            if isinstance(error, RateLimitError):
                left = error.headers
        answer.headers += left
        return answer

    def _admit(self, call: Call, route: Route) -> Headers:
        """Set the caller and return what is left to it. Raises what a 401, 403, 429 or 503 says."""
        if route.path == "/metrics" and self._metrics_token:
            given = call.headers.get(b"authorization", b"").removeprefix(b"Bearer ")
            if not hmac.compare_digest(given, self._metrics_token):
                raise UnauthorizedError("Send [exporter] metrics_token as `Authorization: Bearer …`.")
            return ()
        call.caller = self._access.known(call.header(b"authorization"), origin=call.header(b"origin"))
        call.caller.require(*route.needs)
        return self._limits.take(call.caller)

    def _count(self, path: str, status: int, started: float) -> None:
        found = self._counted.get((path, status))
        if found is None:
            of = self._instruments
            found = of.requests.labels(path, status), of.request_seconds.labels(path)
            self._counted[path, status] = found
        found[0].inc()
        found[1].observe(time.perf_counter() - started)


def _route(methods: Methods, method: str) -> Route | None:
    return methods.get("GET" if method == "HEAD" else method)


def _not_routed(call: Call, methods: Methods) -> Answer:
    form: ErrorForm = "text" if call.scope["raw_path"].startswith(b"/v2") else "object"
    if not methods:
        return error_answer("Not Found", 404, "not_found", form=form)
    allowed = ((b"allow", ", ".join(sorted(methods)).encode()),)
    return error_answer("Method Not Allowed", 405, "method_not_allowed", form=form, headers=allowed)


async def _send(send: Send, answer: Answer, request_id: bytes) -> None:
    headers = [(b"content-type", answer.media_type), (b"x-request-id", request_id), *answer.headers]
    if answer.stream is None:
        headers.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if answer.stream is not None:
        async with aclosing(answer.stream) as chunks:  # also where the client goes between two of them
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": answer.body})


def _request_id(call: Call) -> bytes:
    given = call.headers.get(b"x-request-id", b"")
    return given if _REQUEST_ID.fullmatch(given) else os.urandom(16).hex().encode()
