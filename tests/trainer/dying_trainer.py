"""A training that is killed at named points, one attempt after the other, and then left alone.

`python -m tests.trainer.dying_trainer REQUEST OUT POINT[:N[:SIGNAL]] …` prints one JSON line per attempt.
Each is a fork that sends itself SIGKILL, or another signal, at the N-th time that it comes to its point.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, Literal

from trainer.fitting.checkpoint import beside

When = Literal["before", "after", "half"]
# name: (module, function, when); "half" is in the middle of writing a file. In the order of a training.
POINTS: dict[str, tuple[str, str, When]] = {
    "data": ("trainer.train", "check_rows", "after"),
    "embedding": ("trainer.fit", "embed", "after"),
    "learning-rate": ("trainer.fitting.phase", "range_test", "after"),
    "step": ("trainer.fitting.loop", "Training.step", "after"),
    "tensors": ("trainer.fitting.checkpoint", "_write_synced", "half"),
    "facts": ("trainer.fitting.checkpoint", "_write_synced", "half"),
    "manifest": ("trainer.fitting.checkpoint", "_write_synced", "half"),
    "rename": ("trainer.fitting.checkpoint", "_sync", "after"),
    "forget": ("trainer.fitting.checkpoint", "_sync", "after"),
    "export": ("trainer.rungs", "export_proven", "after"),
    "seal": ("trainer.artifact", "_sync", "before"),
    "sealed": ("trainer.train", "seal", "after"),
}
FILES = {"tensors": 0, "facts": 1, "manifest": 2}  # of the three of a checkpoint
SYNCS = {"rename": 0, "forget": 1}  # of the two of a checkpoint: before and after it is renamed


def call_of(point: str, number: int) -> int:
    """Which call of the point's function is its N-th time: a checkpoint makes several."""
    if point in FILES:
        return 3 * (number - 1) + FILES[point] + 1
    return 2 * (number - 1) + SYNCS[point] + 1 if point in SYNCS else number


def arm(point: str, number: int, sent: signal.Signals) -> None:
    """Let this process send itself a signal at the point."""
    module, path, when = POINTS[point]
    owner: Any = importlib.import_module(module)
    *within, name = path.split(".")
    for part in within:
        owner = getattr(owner, part)
    real, left = getattr(owner, name), [call_of(point, number)]

    def dying(*arguments: Any, **named: Any) -> Any:
        left[0] -= 1
        if left[0]:
            return real(*arguments, **named)
        done = real(*arguments, **named) if when == "after" else None
        if when == "half":
            arguments[0].write_bytes(arguments[1][: len(arguments[1]) // 2])
        os.kill(os.getpid(), sent)
        return done

    setattr(owner, name, dying)


def attempt(request: str, out: Path, asked: str) -> dict[str, Any]:
    """One attempt in a fork, and what it left; `asked` is POINT[:N[:SIGNAL]] or empty."""
    told = asked.split(":")
    point, number, sent = told + ["", "1", "KILL"][len(told) :]
    pid = os.fork()
    if pid == 0:
        child = importlib.import_module("trainer.__main__")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if point:
            arm(point, int(number), signal.Signals[f"SIG{sent}"])
        os._exit(child.main([request, str(out)]))
    status = os.waitpid(pid, 0)[1]
    return {
        "point": point,
        "status": os.waitstatus_to_exitcode(status),
        "sealed": (out / "manifest.json").exists(),
        "checkpoints": sorted(step.name for step in beside(out).glob("*/step-*")),
    }


def main(request: str, out: str, *points: str) -> None:
    """Die at every point in turn, then finish."""
    for heavy in ("torch.onnx", "transformers", "peft", "onnxruntime", "sklearn.linear_model"):
        importlib.import_module(heavy)
    for asked in [*points, ""]:
        print(json.dumps(attempt(request, Path(out), asked)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
