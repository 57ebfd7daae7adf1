"""Load in a process of its own: `python -m tests.benchmarks.client URL CLIENTS SECONDS TEXTS.jsonl MODEL`."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop

from tests.exporter.load_client import Load, clients


def drive(url: str, number: int, seconds: float, texts: Sequence[str], model: str) -> dict[str, Any]:
    """Closed loop; every client has had an answer before the clock starts."""
    load, chosen = Load(), itertools.cycle(texts)
    started = 0.0

    async def run() -> None:
        nonlocal started
        stop = asyncio.Event()
        running = asyncio.create_task(
            clients(url, number, lambda: next(chosen), load, stop=stop, model=model)
        )
        while len(load.seconds) < number and not running.done():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        load.seconds.clear()
        started = time.perf_counter()
        asyncio.get_running_loop().call_later(seconds, stop.set)
        await running

    uvloop.run(run())  # the client takes of the same processor
    wall, took = time.perf_counter() - started, sorted(load.seconds)
    return {
        "clients": number,
        "requests": len(took),
        "per_second": round(len(took) / wall, 1),
        "p50_ms": round(took[len(took) // 2] * 1e3, 2),
        "p99_ms": round(took[int(len(took) * 0.99)] * 1e3, 2),
        "failed": len(load.failed) + load.cut,
    }


def read_texts(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    url, number, seconds, path, model = sys.argv[1:6]
    print(json.dumps(drive(url, int(number), float(seconds), read_texts(Path(path)), model)))
