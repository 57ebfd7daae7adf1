"""Requests per second beside the bare engine: `python -m tests.benchmarks.serving VERSION_DIR TEXTS.jsonl`.

Wall-clock figures of a shared machine lie; processor milliseconds per request do not.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import tempfile
import time
from pathlib import Path

import psutil

from exporter.database import open_database, sqlite_url
from exporter.engines import open_engine
from exporter.registry import promote, register
from exporter.tables import metadata
from tests.exporter.exporter_process import exporter_process
from tests.exporter.load_client import Load, clients
from trainer.artifact import open_version

SECONDS = 8.0
TEXTS = 512
THREADS = 2


def main(directory: Path, texts: list[str]) -> None:
    floor = bare_engine(directory, texts)
    report("bare engine, batches of 64", *floor)
    report("bare engine, one by one", *bare_engine(directory, texts, take=1))
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        model = deploy(directory, home)
        with exporter_process(home, threads=THREADS) as (process, url):
            server = psutil.Process(process.pid)
            for number in (1, 8, 64):
                load_for(url, number, texts, model, 1.5)
                before, start = cpu(server), time.perf_counter()
                load = load_for(url, number, texts, model, SECONDS)
                wall, spent = time.perf_counter() - start, cpu(server) - before
                done = len(load.answered)
                median = sorted(load.seconds)[done // 2] * 1e3
                report(f"HTTP, {number} clients", done / wall, spent / done * 1e3, floor[1])
                print(f"    median {median:.1f} ms, failed {len(load.failed) + load.cut}")


def bare_engine(directory: Path, texts: list[str], take: int = 64) -> tuple[float, float]:
    """(texts per second, processor ms per text) of the engine alone."""
    engine = open_engine(open_version(directory), threads=THREADS)
    here = psutil.Process()
    done, before, start = 0, cpu(here), time.perf_counter()
    chosen = itertools.cycle(texts)
    while time.perf_counter() - start < SECONDS:
        engine.run(list(itertools.islice(chosen, take)))
        done += take
    return done / (time.perf_counter() - start), (cpu(here) - before) / done * 1e3


def deploy(directory: Path, home: Path) -> str:
    db = open_database(sqlite_url(home))
    metadata.create_all(db)
    model = open_version(directory).manifest.model
    version = register(db, home, directory, threads=THREADS, now=time.time())
    promote(db, model, version, expected=None, reason="bench", actor="bench")
    db.dispose()
    return model


def load_for(url: str, number: int, texts: list[str], model: str, seconds: float) -> Load:
    load, chosen = Load(), itertools.cycle(texts)

    async def run() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, stop.set)
        await clients(url, number, lambda: next(chosen), load, stop=stop, model=model)

    asyncio.run(run())
    return load


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def report(what: str, per_second: float, cpu_ms: float, floor_ms: float | None = None) -> None:
    share = f"  ({floor_ms / cpu_ms:.0%} of the floor's economy)" if floor_ms else ""
    print(f"{what:28} {per_second:8.1f} /s   {cpu_ms:7.2f} CPU ms each{share}", flush=True)


if __name__ == "__main__":
    lines = Path(sys.argv[2]).read_text(encoding="utf-8").splitlines()[:TEXTS]
    main(Path(sys.argv[1]), [json.loads(line)["text"] for line in lines])
