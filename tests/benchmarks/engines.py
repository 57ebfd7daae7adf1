"""Engines of MiniLM on this machine: `python -m tests.benchmarks.engines [--rounds N]`.

Trains a head on the real encoder, sees to an int8 graph, runs `trueup bench engines` on it, and keeps what it
says under tests/benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from exporter.database import open_database, sqlite_url
from exporter.registry import promote, register
from tests.benchmarks.int8 import with_int8
from tests.benchmarks.serving_model import make
from trainer.artifact import INT8

RESULTS = Path(__file__).parent / "results"
MAX_TOKENS = 256


def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / ".trueup"
        directory, _ = make(Path(folder), max_tokens=MAX_TOKENS)
        version = "v1"
        if not (directory / INT8).exists():
            db = open_database(sqlite_url(home))
            built = with_int8(directory, Path(folder) / "int8")
            version = register(db, home, built, threads=arguments.threads, now=time.time())
            promote(db, "router", version, expected="v1", reason="bench", actor="bench")
            db.dispose()
        command = [sys.executable, "-m", "monitor", "bench", "engines", "router", version, "--json"]
        command += ["--rounds", str(arguments.rounds)]
        ran = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE)
    found = {"at": datetime.now(UTC).isoformat(timespec="seconds"), **json.loads(ran.stdout)}
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(found, indent=2)
    (RESULTS / "engines.json").write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    main(parser.parse_args())
