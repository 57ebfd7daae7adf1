"""Engines of MiniLM on this machine, beside torch and the bare session.

    python -m tests.benchmarks.engines [--folder FOLDER] [--rounds N] [--texts N]

Trains a head on the real encoder in FOLDER, with every graph that the processor's engines want, unless one is
there already; then `trueup bench engines` races them, and what it says is kept in results/engines.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.kept import keep
from tests.benchmarks.serving_model import make

MAX_TOKENS = 256
ENGINES = ("cpu-fp32", "cpu-int8")


def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(arguments.folder or made)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / ".trueup").exists():
            make(folder, max_tokens=MAX_TOKENS, engines=ENGINES)
        if arguments.prepare:
            return
        command = [sys.executable, "-m", "monitor", "bench", "engines", "router", "v1", "--json"]
        command += ["--rounds", str(arguments.rounds), "--texts", str(arguments.texts)]
        ran = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE)
    sys.stdout.write(json.dumps(keep("engines", json.loads(ran.stdout))) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", help="where the version is, or is to be made and kept")
    parser.add_argument("--prepare", action="store_true", help="make the version, race nobody")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=256)
    main(parser.parse_args())
