"""Requests per second of the HTTP layer alone, by wrk: `python -m tests.benchmarks.http_layer [--seconds 8]`.

`layer`: the real application, keys and protocol in front of a service that has every answer ready.
`recorded`: the real service and ledger too, in front of an engine that does nothing; without the loader.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from exporter.access import Access
from exporter.database import open_database, sqlite_url
from exporter.deployed import Deployed
from exporter.engines import Answer, Encoded, Encoder
from exporter.http import application
from exporter.instruments import Instruments
from exporter.keys import create_key
from exporter.ledger import Ledger
from exporter.packing import Packing
from exporter.prediction import Prediction
from exporter.recording import Input, prediction_id
from exporter.server import Drain, run
from exporter.service import Served, Service
from exporter.settings import ExporterSettings
from exporter.tables import metadata
from tests.exporter.rows import prediction

LABELS = ["yes", "no", "maybe"]
SCRIPT = """
wrk.method = "POST"
wrk.body = '{{"model": "router", "inputs": ["where is my card"]}}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {key}"
"""


class NoEngine:
    """Says yes."""

    name, provider, labels = "none", "none", LABELS
    encoder: Encoder | None = None
    packing = Packing(rows=64, tokens=512, reach=512)

    def run(self, texts: Sequence[str]) -> list[Answer]:
        return self.answer(self.encode(texts))

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        return [Encoded([1] * 7, 7, truncated=False)] * len(texts)

    def answer(self, batch: Sequence[Encoded]) -> list[Answer]:
        return [Answer(LABELS[0], 0.9, (0.9, 0.05, 0.05), b"\0" * 32, 0.5, 7, False)] * len(batch)

    def close(self) -> None:
        pass


class OneModel:
    """A fleet of one."""

    def __init__(self) -> None:
        manifest: Any = SimpleNamespace(task="classification")
        self._one = Deployed("router", "v1", 1, manifest, NoEngine())

    def deployed(self, model: str) -> Deployed:
        return self._one

    def route(self, model: str, key: str) -> Deployed:
        return self._one

    def serving(self) -> list[Deployed]:
        return [self._one]

    def shadow(self, model: str) -> None:
        return None

    def take_back(self, failed: Deployed) -> None:
        raise AssertionError(failed)


class NothingGenerates:
    """No model here writes text."""

    def generates(self, _: str) -> bool:
        return False


class ReadyService:
    """Every answer ready, but for its id."""

    def __init__(self) -> None:
        self.generating = NothingGenerates()
        self._row: Prediction = prediction(0, scores=(0.9, 0.05, 0.05), score=0.9)

    async def predict(self, model: str, inputs: Sequence[Input], *_: Any, **__: Any) -> Served:
        rows = [self._copy() for _ in inputs]
        return Served(model, "v1", LABELS, rows)

    def _copy(self) -> Prediction:
        object.__setattr__(self._row, "id", prediction_id(time.time()))
        return self._row


def serve(mode: str, folder: Path) -> None:
    settings, instruments = ExporterSettings(port=0), Instruments()
    db = open_database(sqlite_url(folder))
    service: Any = ReadyService()
    if mode == "recorded":
        ledger = Ledger(
            folder / "ledger", "bench", durability="process", segment_bytes=settings.segment_bytes
        )
        service = Service(OneModel(), ledger, settings, instruments)  # type: ignore[arg-type]
        service.start()
    access = Access(db, local=False)
    access.start()
    app = application(service, lambda rows: [], settings, instruments, access)
    listening = socket.create_server(("127.0.0.1", 0))
    drain = Drain(lambda: None, seconds=0, shared=False)
    run(app, settings, listening, lambda url: print(url, flush=True), drain)


@contextmanager
def server(mode: str, folder: Path) -> Iterator[tuple[psutil.Process, str]]:
    command = [sys.executable, "-m", "tests.benchmarks.http_layer", "serve", mode, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield psutil.Process(child.pid), child.stdout.readline().strip()
        finally:
            child.terminate()


def measure(mode: str, clients: int, seconds: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        db = open_database(sqlite_url(folder))
        metadata.create_all(db)
        key = create_key(db, "bench", ["ingest"], now=time.time()).secret
        db.dispose()
        script = folder / "post.lua"
        script.write_text(SCRIPT.format(key=key))
        with server(mode, folder) as (process, url):
            wrk(url, script, clients, 2)
            before = cpu(process)
            said = wrk(url, script, clients, seconds)
            spent = cpu(process) - before
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said).group(1))  # type: ignore[union-attr]
    failed = re.search(r"Non-2xx[^:]*: (\d+)", said)
    return {
        "benchmark": f"http_{mode}",
        "clients": clients,
        "seconds": seconds,
        "requests_per_s": round(rate),
        "server_cpu_us": round(spent / (rate * seconds) * 1e6, 1),
        "failed": int(failed.group(1)) if failed else 0,
    }


def wrk(url: str, script: Path, clients: int, seconds: int) -> str:
    command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", "-s", str(script), f"{url}/v1/predict"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--clients", type=int, nargs="+", default=[64])
    parser.add_argument("--modes", nargs="+", default=["layer", "recorded"])
    given = parser.parse_args()
    if shutil.which("wrk") is None:
        print(json.dumps({"skipped": "http_layer: wrk is not installed (Debian package wrk)"}))
        return
    for mode in given.modes:
        for clients in given.clients:
            print(json.dumps(measure(mode, clients, given.seconds)), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
