"""`make bench`: the figures of this machine, one JSON line each; minutes, not part of the tests.

python -m tests.benchmarks                          all of the below
python -m tests.benchmarks.pager null               false pages over clean streams
python -m tests.benchmarks.pager delay              windows until a page
python -m tests.benchmarks.serving VERSION TEXTS    requests per second beside the bare engine
python -m tests.benchmarks.clinc HISTORY            a history for `trueup backtest`
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.clinc import data_folder, write_history


def run(*arguments: str) -> None:
    """Run a module of this interpreter; its output is ours."""
    subprocess.run([sys.executable, "-m", *arguments], check=True)


def main() -> None:
    """Run every benchmark that this machine has the data for."""
    print(
        json.dumps(
            {"machine": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version()}
        )
    )
    for fast in ([], ["--fast"]):
        run("monitor", "demo", "--json", *fast)
    run("tests.benchmarks.pager", "null")
    run("tests.benchmarks.pager", "delay", "--streams", "100")
    if not (data_folder() / "clinc150").exists():
        print(json.dumps({"skipped": "backtest: no CLINC150 under TRUEUP_DATA"}))
        return
    with tempfile.TemporaryDirectory() as folder:
        history = write_history(Path(folder) / "clinc.jsonl")
        run("monitor", "backtest", str(history), "--train-rows", "1500", "--window", "300", "--json")


if __name__ == "__main__":
    main()
