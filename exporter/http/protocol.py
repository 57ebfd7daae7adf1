"""uvicorn's HTTP/1.1 protocol with bounds on a request, and a task that ends with its client."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from exporter.http.refusals import error_answer

MAX_HEAD_BYTES = 64 * 1024


class BoundedProtocol(HttpToolsProtocol):
    """A request's head and its trailers may have MAX_HEAD_BYTES, and the whole of it take `read_timeout_s`.

    uvicorn would wait and gather for ever. A client that takes nothing of its answers for as long is left.
    When the client goes away, the task that answers it is cancelled.
    """

    read_timeout_s = 30.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_bytes = 0
        self._in_head = self._in_message = self._has_body = False
        self._timer: asyncio.TimerHandle | None = None
        self._untaken: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._has_taken()
        super().connection_lost(exc)
        if self._task is not None and not self._task.done():
            self._task.cancel()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._untaken = self.loop.call_later(self.read_timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._has_taken()
        super().resume_writing()

    def _has_taken(self) -> None:
        if self._untaken is not None:
            self._untaken.cancel()
            self._untaken = None

    def data_received(self, data: bytes) -> None:
        self._has_body = False
        super().data_received(data)
        if not self._in_message or self.transport.is_closing():
            return
        if self._in_head or not self._has_body:  # after the body come trailers
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._end("The request's head is too long.", 431, "head_too_large")
                return
        if self._timer is None:  # only a request in several pieces costs one
            self._start_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = self._in_message = True
        self._head_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # a trailer must not become a header of a request that is being answered
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._has_body = True
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_message = False
        self._stop_timer()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(msg, 400, "invalid_http")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._task = self.loop.create_task(cycle.run_asgi(app))
        self._task.add_done_callback(self.tasks.discard)
        self.tasks.add(self._task)

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(self.read_timeout_s, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._end("The request came too slowly.", 408, "timeout")

    def _end(self, message: str, status: int, code: str) -> None:
        """Close, and say why where that is an answer to a request."""
        if self._in_head or (self._in_message and not self.cycle.response_complete):
            self._refuse(message, status, code)
        else:
            self.transport.close()

    def _refuse(self, message: str, status: int, code: str) -> None:
        self._stop_timer()
        answer = error_answer(message, status, code)
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + head % len(answer.body) + answer.body)
        self.transport.close()


def bounded(read_timeout_s: float) -> type[BoundedProtocol]:
    """The protocol class with its own time limit: uvicorn makes the objects itself."""
    return type("BoundedProtocol", (BoundedProtocol,), {"read_timeout_s": read_timeout_s})
