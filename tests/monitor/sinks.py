"""A real HTTP receiver for notices: keeps what it gets and answers what the test wants."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class Received:
    headers: dict[str, str]  # names in lower case
    body: bytes
    at: float


@dataclass(slots=True)
class HttpSink:
    """Refuses what comes while `status` is no 2xx; keeps that too."""

    status: int = 200
    location: str | None = None
    delay_s: float = 0.0  # between receipt and answer
    received: list[Received] = field(default_factory=list)
    host: str = ""

    @property
    def json_url(self) -> str:
        return f"json://{self.host}/"

    @property
    def webhook_url(self) -> str:
        return f"webhook+http://{self.host}/hook"

    @property
    def taken(self) -> list[Received]:
        return list(self.received) if self.status < 300 else []

    @contextmanager
    def listening(self) -> Iterator[None]:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                sink.received.append(Received(headers, body, time.time()))
                time.sleep(sink.delay_s)
                self.send_response(sink.status)
                if sink.location is not None:
                    self.send_header("Location", sink.location)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        server = _Server(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that was killed is what these tests are about."""
