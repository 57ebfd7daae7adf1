"""A real Prometheus and a real Alertmanager on free ports, and sinks for what the latter delivers."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from monitor.demo.processes import free_port

BINARIES = ("prometheus", "promtool", "prometheus-alertmanager")
START_S = 20.0


def need(*binaries: str) -> None:
    """Skip where Debian's packages `prometheus` and `prometheus-alertmanager` are not installed."""
    for name in binaries or BINARIES:
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed here: apt-get install prometheus prometheus-alertmanager")


def get(url: str, **parameters: Any) -> Any:
    """JSON; an error of the API comes back as its JSON too."""
    query = urllib.parse.urlencode(parameters, doseq=True)
    try:
        with urllib.request.urlopen(f"{url}?{query}", timeout=10) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        return json.load(error)


def until(what: str, found: Callable[[], Any], *, timeout_s: float = START_S) -> Any:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := found():
            return value
        time.sleep(0.1)
    raise TimeoutError(what)


@contextmanager
def running(command: list[str], log: Path, ready: str) -> Iterator[None]:
    """A process that answers 200 at `ready`; ended, whatever happens."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            until(f"{command[0]}: {log.read_text(errors='replace')[-2000:]}", lambda: _answers(ready))
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def prometheus(folder: Path, config: str) -> Iterator[str]:
    """URL of a Prometheus with this configuration."""
    url = f"http://127.0.0.1:{free_port()}"
    file = folder / "prometheus.yml"
    file.write_text(config)
    subprocess.run(["promtool", "check", "config", str(file)], check=True, capture_output=True)
    command = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder / 'tsdb'}",
               f"--web.listen-address={url.removeprefix('http://')}", "--log.level=warn"]  # fmt: skip
    with running(command, folder / "prometheus.log", f"{url}/-/ready"):
        yield url


@contextmanager
def alertmanager(folder: Path, config: str) -> Iterator[str]:
    """URL of an Alertmanager with this configuration; it gossips with nobody."""
    url = f"http://127.0.0.1:{free_port()}"
    (folder / "alertmanager.yml").write_text(config)
    command = ["prometheus-alertmanager", f"--config.file={folder / 'alertmanager.yml'}",
               f"--storage.path={folder / 'alerts'}", "--cluster.listen-address=",
               f"--web.listen-address={url.removeprefix('http://')}"]  # fmt: skip
    with running(command, folder / "alertmanager.log", f"{url}/-/ready"):
        yield url


@dataclass(slots=True)
class Webhook:
    """What Alertmanager posts."""

    received: list[dict[str, Any]] = field(default_factory=list)

    def statuses(self, alert: str) -> list[str]:
        """firing, resolved, … of one alert in order."""
        return [
            one["status"]
            for post in self.received
            for one in post["alerts"]
            if one["labels"]["alertname"] == alert
        ]

    @contextmanager
    def listening(self) -> Iterator[str]:
        received = self.received

        class Hook(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


@dataclass(slots=True)
class Mailbox:
    """An SMTP server of the smallest kind (RFC 5321 without extensions); keeps whole messages."""

    messages: list[str] = field(default_factory=list)

    @contextmanager
    def listening(self) -> Iterator[str]:
        loop = asyncio.new_event_loop()
        server = loop.run_until_complete(asyncio.start_server(self._session, "127.0.0.1", 0))
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            loop.call_soon_threadsafe(server.close)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):  # of a client that was killed
            await self._talk(reader, writer)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 sink\r\n")
        while line := (await reader.readline()).decode().strip().upper():
            if line == "DATA":
                writer.write(b"354 go on\r\n")
                self.messages.append((await reader.readuntil(b"\r\n.\r\n")).decode())
            if line == "QUIT":
                writer.write(b"221 bye\r\n")
                break
            writer.write(b"250 ok\r\n")
        writer.close()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:
            return bool(response.status == 200)
    except OSError:
        return False
