"""Generated requests against a real exporter: `python -m tests.benchmarks.fuzz [--examples 200]`."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from tests.exporter.attack import attack
from tests.exporter.conftest import deploy_new_home
from tests.exporter.exporter_process import exporter_process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=200, help="of either kind, for each operation")
    examples = parser.parse_args().examples
    with tempfile.TemporaryDirectory() as name:
        home = deploy_new_home(Path(name))
        with exporter_process(home) as (process, url):
            server = psutil.Process(process.pid)
            before, started = server.memory_info().rss, time.perf_counter()
            sent = attack(url, httpx.get(f"{url}/openapi.json").json(), examples=examples)
            told = {
                "benchmark": "fuzz",
                "requests": sent,
                "seconds": round(time.perf_counter() - started, 1),
                "grown_mib": round((server.memory_info().rss - before) / 2**20, 1),
            }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
