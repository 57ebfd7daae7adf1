"""A real exporter in a process of its own: started, watched, killed.

Started by a fork server that has the libraries imported, so that a test can afford twenty of them.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from exporter.server import serve
from exporter.settings import ExporterSettings

START_S = 60
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.exporter.exporter_process", "exporter.engines.cpu", "onnx"])


@contextmanager
def exporter_process(
    home: Path, *, inherited: socket.socket | None = None, **settings: object
) -> Iterator[tuple[ForkServerProcess, str]]:
    """(process, URL); killed at the end if it still runs. Its log is appended to home/exporter.log."""
    ready = home / f"ready-{time.monotonic_ns()}"
    given = ExporterSettings.model_validate({"port": 0, "threads": 1} | settings)
    process = _CONTEXT.Process(target=_serve, args=(given, home, ready, inherited))
    process.start()
    try:
        yield process, _url(process, ready, home / "exporter.log")
    finally:
        process.kill()
        process.join()
        process.close()


def _serve(settings: ExporterSettings, home: Path, ready: Path, inherited: socket.socket | None) -> None:
    log = os.open(home / "exporter.log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    serve(settings, home, ready=lambda url: _announce(ready, url), inherited=inherited)


def _announce(path: Path, url: str) -> None:
    beside = path.with_suffix(".part")
    beside.write_text(url)
    beside.rename(path)


def _url(process: ForkServerProcess, ready: Path, log: Path) -> str:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if ready.exists():
            return ready.read_text()
        assert process.is_alive(), log.read_text()
        time.sleep(0.01)
    raise TimeoutError(log.read_text())
