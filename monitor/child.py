"""The trainer as a child process: its progress lines read, its life ended when it must not go on."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from monitor.errors import MonitorError

_GRACE_S = 10.0  # between SIGTERM and SIGKILL
# In the child, before it becomes the command: prctl(PR_SET_PDEATHSIG, SIGKILL), unless it is too late.
_LEASH = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[2], sys.argv[2:])
"""
Beat = Callable[[dict[str, Any] | None], None]


class TrainingDied(MonitorError):
    """The child ended without a word; another attempt may do better."""

    def __init__(self, code: int, log: Path) -> None:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        super().__init__(f"The training process {how}. The end of its log ({log.name}): {_tail(log)}")


class TrainingRefused(MonitorError):
    """The trainer named what is wrong; the same input will fail again."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def run_trainer(request: Path, out: Path, *, log: Path, beat: Beat, every_s: float) -> Path:
    """Run `python -m trainer` in a session of its own; returns the sealed directory.

    `beat` gets a progress line at each new stage and every `every_s` seconds, None where there was none; what
    it raises ends the child and is raised again. Raises TrainingDied, TrainingRefused.
    """
    with log.open("ab") as errors, _child(request, out, errors) as child:
        lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        reader = threading.Thread(target=_read, args=(child, lines), daemon=True)
        reader.start()
        last = _follow(lines, beat, every_s)
        code = child.wait()
    if last.get("stage") == "done" and code == 0:
        return Path(last["version_dir"])
    if last.get("stage") == "error":
        raise TrainingRefused(str(last.get("kind")), str(last.get("message")))
    raise TrainingDied(code, log)


def _follow(lines: queue.SimpleQueue[dict[str, Any] | None], beat: Beat, every_s: float) -> dict[str, Any]:
    """Pass progress on until the child closes its output; returns its last line."""
    last: dict[str, Any] = {}
    beaten = time.monotonic()
    while True:
        try:
            line = lines.get(timeout=max(0.01, beaten + every_s - time.monotonic()))
        except queue.Empty:
            beat(None)
            beaten = time.monotonic()
            continue
        if line is None:
            return last
        if line.get("stage") != last.get("stage") or time.monotonic() - beaten >= every_s:
            beat(line)
            beaten = time.monotonic()
        last = line


def _read(child: subprocess.Popen[bytes], lines: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    assert child.stdout is not None
    for raw in child.stdout:
        with contextlib.suppress(ValueError):
            line = json.loads(raw)
            if isinstance(line, dict):
                lines.put(line)
    lines.put(None)


@contextlib.contextmanager
def _child(request: Path, out: Path, errors: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(
        leashed([sys.executable, "-m", "trainer", str(request), str(out)]),
        env={**os.environ, "PYTHONPATH": _paths()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        start_new_session=True,  # a Ctrl-C at the terminal is for the monitor, which then ends the child
    )
    try:
        yield child
    finally:
        _end(child)
        assert child.stdout is not None
        child.stdout.close()


def leashed(command: Sequence[str]) -> list[str]:
    """The command, to be ended by Linux when the thread that starts it dies, even of kill -9.

    Otherwise the training of a dead monitor would go on beside that of the next attempt.
    """
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-c", _LEASH, str(os.getpid()), *command]


def _paths() -> str:
    """The child finds the packages where this process has them, whatever its folder."""
    root = str(Path(__file__).resolve().parent.parent)
    return os.pathsep.join(part for part in (root, os.environ.get("PYTHONPATH", "")) if part)


def _end(child: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE_S)


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1][:300] if lines else "empty"
