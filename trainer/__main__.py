"""`python -m trainer REQUEST.json OUT_DIR`: one training in a process that may be killed at any moment.

Progress goes to stdout as one JSON object per line; the last line says `done`, `error`, `paused` or
`cancelled`. SIGTERM pauses: a checkpoint is written, and the same request goes on from there, as it does
after any death. SIGINT cancels: the checkpoints are removed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from trainer.crossfit import Judged
from trainer.decoder import TASK as GENERATION
from trainer.decoder.sealed import open_sealed
from trainer.errors import CancelledError, PausedError, RequestError, TrainerError, VersionRefusedError
from trainer.fitting.checkpoint import beside
from trainer.generation.version import train_decoder
from trainer.rows import read_holdout, read_snapshot
from trainer.spec import TrainSpec, parse_spec
from trainer.tagging import TASK as TAGGING
from trainer.tagging.version import train_tagger
from trainer.train import DataRef, Parent, Progress, train

EVERY_S = 0.5
ENDS = {signal.SIGTERM: PausedError, signal.SIGINT: CancelledError}
STATUS = {PausedError: 3, CancelledError: 4}


def main(arguments: list[str]) -> int:
    """Run one request; 0 done, 2 refused, 3 paused, 4 cancelled."""
    # Read when torch loads. Threads that spin while they wait cost twice the processor on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    lines = _Lines(_claimed_stdout())
    if len(arguments) != 2:
        lines.say(
            {"stage": "error", "kind": "UsageError", "message": "python -m trainer REQUEST.json OUT_DIR"}
        )
        return 2
    for number in ENDS:
        signal.signal(number, lines.asked)
    try:
        version = _run(Path(arguments[0]), Path(arguments[1]), lines)
    except (PausedError, CancelledError) as end:
        stage = "paused" if isinstance(end, PausedError) else "cancelled"
        lines.say({"stage": stage, "message": str(end)})
        return STATUS[type(end)]
    except TrainerError as error:
        lines.say({"stage": "error", "kind": type(error).__name__, "message": str(error)})
        return 2
    lines.say({"stage": "done", "version_dir": str(version)})
    return 0


def _run(path: Path, out: Path, lines: _Lines) -> Path:
    request = _request(path)
    spec, snapshot = parse_spec(request["spec"], path), Path(request["train"])
    checkpoints = Path(request["checkpoints"] or beside(out))
    if _made(spec, request["data_sha256"], out):
        shutil.rmtree(checkpoints, ignore_errors=True)
        return out
    rows = read_snapshot(snapshot)
    given: dict[str, Any] = {
        "train_rows": rows,
        "holdout": read_holdout(Path(request["holdout"])),
        "data": DataRef(sha256=request["data_sha256"], rows=len(rows), path=snapshot),
        "out": out,
        "cache": Path(request["cache"]),
        "parent": _parent(request["parent"], path),
        "progress": lines.progress,
        "now": time.time(),
        "checkpoints": checkpoints,
    }
    try:
        if spec.model.task == GENERATION:
            return train_decoder(spec, **given)
        if spec.model.task == TAGGING:
            return train_tagger(spec, **given)
        return train(spec, **given, judged=_judged(request))
    except CancelledError:
        shutil.rmtree(checkpoints, ignore_errors=True)
        raise


def _made(spec: TrainSpec, data_sha256: str, out: Path) -> bool:
    """Whether an attempt that died after its last step has sealed this very version."""
    try:
        manifest = open_sealed(out).manifest
    except VersionRefusedError:
        return False
    return (manifest.spec, manifest.data.sha256) == (spec.model_dump(mode="json"), data_sha256)


def _judged(request: dict[str, Any]) -> Judged | None:
    if request["judged"] is None:
        return None
    return Judged(rows=read_holdout(Path(request["judged"])), out=Path(request["unseen"]))


def _parent(given: dict[str, Any] | None, path: Path) -> Parent | None:
    if given is None:
        return None
    try:
        folder, known = given["folder"], given["known"]
        return Parent(name=given["name"], folder=folder and Path(folder), known=known and Path(known))
    except (KeyError, TypeError) as error:
        raise RequestError(path, "its parent needs name, folder and known") from error


def _request(path: Path) -> dict[str, Any]:
    try:
        request = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RequestError(path, f"it cannot be read ({error})") from error
    wanted = {
        "spec", "train", "holdout", "data_sha256", "parent", "cache", "checkpoints", "judged", "unseen"
    }  # fmt: skip
    if not isinstance(request, dict) or set(request) != wanted:
        raise RequestError(path, f"it needs exactly the keys {', '.join(sorted(wanted))}")
    return request


class _Lines:
    """JSON lines: the first of each stage at once, later ones at most every EVERY_S seconds."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._stage = ""
        self._at = 0.0
        self._end: type[TrainerError] | None = None

    def asked(self, number: int, _: object) -> None:
        """Hear a signal; the next progress ends the training."""
        self._end = ENDS[signal.Signals(number)]

    def progress(self, progress: Progress) -> None:
        if self._end is not None:
            raise self._end()
        now = time.monotonic()
        if progress.stage != self._stage or now - self._at >= EVERY_S or progress.done == progress.total:
            self._stage, self._at = progress.stage, now
            self.say(asdict(progress))

    def say(self, line: dict[str, Any]) -> None:
        self._output.write(json.dumps(line) + "\n")
        self._output.flush()


def _claimed_stdout() -> TextIO:
    """The real stdout; what libraries print (ONNX Runtime's optimiser does) goes to stderr from now on."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return output


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stderr.flush()
    # Native threads may abort an interpreter that winds down while they start; nothing is left to do.
    os._exit(status)
