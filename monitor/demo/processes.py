"""The demo's child processes: started on free ports, watched for memory, always stopped."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import psutil

from monitor.errors import MonitorError


class ChildFailedError(MonitorError):
    """A child process of the demo did not come up."""

    def __init__(self, name: str, log: Path) -> None:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
        super().__init__(f"`trueup {name}` did not start; its log {log} ends with:\n{tail}")


def free_port() -> int:
    """Return a port that is free now on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Children:
    """`trueup serve` and `trueup monitor` as a user would start them."""

    def __init__(self, config: Path, logs: Path) -> None:
        self._config, self._logs = config, logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, ready: Mapping[str, str], *, timeout_s: float = 60.0) -> None:
        """Start each `trueup NAME` and wait until its URL answers 200."""
        self._logs.mkdir(parents=True, exist_ok=True)
        for name in ready:
            self._spawn(name)
        deadline = time.monotonic() + timeout_s
        for name, url in ready.items():
            while not _answers(url):
                if self._running[name].poll() is not None or time.monotonic() > deadline:
                    raise ChildFailedError(name, self._log(name))
                time.sleep(0.05)

    def _spawn(self, name: str) -> None:
        with self._log(name).open("wb") as output:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", "monitor", name, "--config", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    def stop(self) -> None:
        for child in self._running.values():
            child.terminate()
        for child in self._running.values():
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._running.clear()


class MemoryWatch:
    """Largest resident set of this process or any of its descendants, in MB, sampled five times a second."""

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        self._stop.set()
        self._thread.join()
        return self.peak_mb

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(0.2):
            for process in [me, *me.children(recursive=True)]:
                try:
                    self.peak_mb = max(self.peak_mb, process.memory_info().rss / 1e6)
                except psutil.NoSuchProcess:
                    continue


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as response:  # noqa: S310 -- our own loopback URL
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
