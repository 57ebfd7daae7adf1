"""`make bench`: the figures of this machine, one JSON line each; minutes, not part of the tests.

python -m tests.benchmarks                          the demos, the pager on simulated streams, a backtest
python -m tests.benchmarks NAME …                   one benchmark: any module of this folder
python -m tests.benchmarks monitor [--quick]        `make bench-monitor`: an hour or more
python -m tests.benchmarks.pager null               false pages of one bet over clean streams
python -m tests.benchmarks.pager delay              windows until a page, simulated
python -m tests.benchmarks.false_pages [--quick]    false pages of the whole pager, and of rival rules
python -m tests.benchmarks.delay [--quick]          windows until a page, on real text
python -m tests.benchmarks.llm_prompts              dated prompts to language models, and their shuffles
python -m tests.benchmarks.check_cost [--quick]     a window of a million rows; a thousand models
python -m tests.benchmarks.quality                  accuracy's interval: coverage and width; labels bought
python -m tests.benchmarks.histories [--quick]      the loop beside frozen and oracle, on public streams
python -m tests.benchmarks.verdict [--quick]        what the verdict and the canary let through
python -m tests.benchmarks.faults --database NAME   kill -9 and SIGSTOP of leader and worker
python -m tests.benchmarks.notices [--quick]        kill -9 of the monitor while it tells people
python -m tests.benchmarks.report_cost [--quick]    the Evidently child
python -m tests.benchmarks.page                     the status page: 50 models, 90 days, in Chromium
python -m tests.benchmarks.engines                  engines of MiniLM beside torch; kept under results/
python -m tests.benchmarks.serving [VERSION TEXTS]  `make bench-serving`: beside the bare graph and peers
python -m tests.benchmarks.decoder BASE FOLDER …    decoders beside transformers and genai
python -m tests.benchmarks.ledger_cost              what recording costs
python -m tests.benchmarks.endurance PART           kills, restarts, swaps, a million requests
python -m tests.benchmarks.llm_task FOLDER          what a decoder of 135M learns of the house format, by LoRA
python -m tests.benchmarks.adapter_swap BASE ADAPTER  a LoRA adapter swapped in genai, beside torch
python -m tests.benchmarks.crossfit                 how often a cross-fitted equal is promoted
python -m tests.benchmarks.trainer                  rungs, learning rate, padding, bf16, R-Drop on real text
python -m tests.benchmarks.data_gate                flipped labels and leaks that the data gate finds
python -m tests.benchmarks.trainer_faults           kill -9 of a training at twelve points
python -m tests.benchmarks.forgetting               three domains arrive: what is forgotten
python -m tests.benchmarks.head_quality             accuracy and calibration of a head
python -m tests.benchmarks.retrain_cost             a thousand labels to a sealed version
python -m tests.benchmarks.clinc HISTORY            a history for `trueup backtest`
python -m tests.benchmarks.architectures            encoders of ten architectures by every route of export
python -m tests.benchmarks.exports [PART]           MiniLM: seconds of an export; what int8 and fp16 cost
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
    for piece in ([], ["--fast"], ["--llm"]):
        run("monitor", "demo", "--json", *piece)
    run("tests.benchmarks.engines")
    run("tests.benchmarks.pager", "null")
    run("tests.benchmarks.pager", "delay", "--streams", "100")
    if not (data_folder() / "clinc150").exists():
        print(json.dumps({"skipped": "backtest: no CLINC150 under TRUEUP_DATA"}))
        return
    with tempfile.TemporaryDirectory() as folder:
        history = write_history(Path(folder) / "clinc.jsonl")
        run("monitor", "backtest", str(history), "--train-rows", "1500", "--window", "300", "--json")


def monitor(*, quick: bool) -> None:
    """Run every benchmark of the monitor; what needs the public data says so where it is missing."""
    fewer = ["--quick"] if quick else []
    for name in ("false_pages", "delay", "check_cost", "histories", "verdict", "report_cost"):
        run(f"tests.benchmarks.{name}", *fewer)
    run("tests.benchmarks.quality", *(["--runs", "20", "--recovery-runs", "2"] if quick else []))
    for database in ("sqlite", "postgresql"):
        run("tests.benchmarks.notices", "--database", database, *fewer)
        run("tests.benchmarks.faults", "--database", database, "--faults", "40" if quick else "500")


if __name__ == "__main__":
    if sys.argv[1:2] == ["monitor"]:
        monitor(quick="--quick" in sys.argv)
    elif len(sys.argv) > 1:
        run(f"tests.benchmarks.{sys.argv[1]}", *sys.argv[2:])
    else:
        main()
