"""What the exported graph costs where nothing else lives: `python -m trainer.serving_cost MODEL THREADS`.

Reads token numbers from stdin as JSON {"alone": [[…], …], "batches": [[[…], …], …]} and prints the figures.
A process of its own, because what a training has resident says nothing of a server.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainer.graph import Graph

BATCH = 8
Ids = Sequence[list[int]]


def measure(model: Path, ids: Ids, *, tokens: int, threads: int) -> dict[str, Any]:
    """Milliseconds of one text and of a micro-batch at p50 and p95, and MB resident, within `tokens`.

    A figure of fewer than five runs is left out.
    """
    asked = {"alone": _within(ids, tokens // 4), "batches": _batches(ids, 3 * tokens // 4)}
    command = [sys.executable, "-m", "trainer.serving_cost", str(model), str(threads)]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=False)
    found = json.loads(done.stdout) if done.returncode == 0 else {"note": "the graph could not be run alone"}
    return {"threads": threads, "model_mb": round(model.stat().st_size / 1e6, 1), **found}


def _within(ids: Ids, tokens: int) -> list[list[int]]:
    """As many texts, evenly spread, as `tokens` allow."""
    if not ids:
        return []
    mean = sum(map(len, ids)) / len(ids)
    count = int(min(len(ids), 100, tokens / mean))
    return [list(ids[place]) for place in np.linspace(0, len(ids) - 1, count).astype(int)]


def _batches(ids: Ids, tokens: int) -> list[list[list[int]]]:
    chosen = _within(ids, tokens)
    return [chosen[start : start + BATCH] for start in range(0, len(chosen) - BATCH + 1, BATCH)]


def _timed(graph: Graph, batches: Sequence[list[list[int]]]) -> dict[str, float] | None:
    times = []
    for batch in [*batches[:2], *batches]:  # the first two only warm up
        began = time.perf_counter()
        graph.run(batch)
        times.append(1000 * (time.perf_counter() - began))
    if len(batches) < 5:
        return None
    p50, p95 = np.quantile(times[2:], [0.5, 0.95])
    return {"p50": round(float(p50), 2), "p95": round(float(p95), 2), "runs": len(batches)}


def _resident_mb() -> float | None:
    """Of this process; None where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return round(int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024, 1)


def main(arguments: Sequence[str]) -> None:
    """Run one measurement."""
    asked = json.load(sys.stdin)
    graph = Graph(Path(arguments[0]), threads=int(arguments[1]))
    found = {
        "one_text_ms": _timed(graph, [[one] for one in asked["alone"]]),
        f"batch_of_{BATCH}_ms": _timed(graph, asked["batches"]),
        "resident_mb": _resident_mb(),
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
