"""`make bench-serving`: ours beside the bare graph and beside peers, JSON lines.

python -m tests.benchmarks.serving [VERSION_DIR TEXTS.jsonl] [--rounds N] [--seconds S] [--only NAME …]

Without a version it makes one: a head on the real encoder, taught on 20 Newsgroups, and its int8 twin, which
peers do not have: it is a row of its own beside a floor of its own. Rounds are interleaved, so that a busy
machine hurts everybody alike; the client is a process of its own on the same cores. Wall-clock figures of a
shared machine lie; processor milliseconds per request lie less.
"""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from exporter.database import open_database, sqlite_url
from exporter.engines import usable
from exporter.registry import promote, register
from exporter.speed import bare_run, read
from exporter.tables import metadata
from tests.benchmarks.client import read_texts
from tests.benchmarks.int8 import with_int8
from tests.benchmarks.serving_model import make
from tests.exporter.exporter_process import exporter_process
from trainer import artifact
from trainer.artifact import Version, open_version

THREADS = 2
FLOORS = {"trueup": "bare graph", "trueup int8": "bare int8 graph"}
PEERS = ("fastapi-pipeline", "fastapi-ort", "litserve-ort", "litserve-ort-batch")
MODEL, POOLED = "router", ", a batch a thread"
START_S = 120.0


def bare(directory: Path, texts: list[str], seconds: float, *, pooled: bool) -> dict[str, Any]:
    """A session alone on tokens that are there already: all texts sorted by length, 8 at a time.

    `pooled`: two batches at a time with a thread each, otherwise one batch with two threads.
    """
    version = open_version(directory)
    file = artifact.INT8 if _is_int8(version) else artifact.MODEL
    run = bare_run(version, read(version, texts), threads=THREADS, file=file, pooled=pooled)
    here, done = psutil.Process(), 0
    before, start = cpu(here), time.perf_counter()
    while time.perf_counter() - start < seconds:
        run()
        done += len(texts)
    wall = time.perf_counter() - start
    return {"per_second": round(done / wall, 1), "cpu_ms": round((cpu(here) - before) / done * 1e3, 3)}


def deploy(directory: Path, home: Path) -> None:
    """A home whose database serves the version."""
    db = open_database(sqlite_url(home))
    metadata.create_all(db)
    version = register(db, home, directory, threads=THREADS, now=time.time())
    promote(db, MODEL, version, expected=None, reason="bench", actor="bench")
    db.dispose()


@contextmanager
def ours(directory: Path) -> Iterator[tuple[int, str]]:
    with tempfile.TemporaryDirectory() as folder:
        deploy(directory, Path(folder))
        with exporter_process(Path(folder), threads=THREADS) as (process, url):
            assert process.pid is not None
            yield process.pid, url


@contextmanager
def peer(name: str, directory: Path) -> Iterator[tuple[int, str]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tests.benchmarks.peers", name, str(directory), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        _wait(f"http://127.0.0.1:{port}/health", process)
        yield process.pid, f"http://127.0.0.1:{port}"
    finally:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
        process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=1)
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(url)


def measure(pid: int, url: str, clients: int, seconds: float, texts: Path) -> dict[str, Any]:
    """What the client saw, and the processor time of the server with its children."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    before = sum(map(cpu, family))
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.client",
        url,
        str(clients),
        str(seconds),
        str(texts),
        MODEL,
    ]
    told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    spent = (sum(map(cpu, family)) - before) / (told["requests"] + clients) * 1e3
    return {
        **told,
        "cpu_ms": round(spent, 3),
        "rss_mb": sum(one.memory_info().rss for one in family) // 10**6,
    }


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def tell(name: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    """One line: the median of the rounds, and how many there were."""
    line = {"server": name, "rounds": len(found)}
    for key in found[0]:
        line[key] = median(one[key] for one in found)
    print(json.dumps(line), flush=True)
    return line


def main(arguments: argparse.Namespace) -> None:
    directory, path = arguments.version, arguments.texts
    with ExitStack() as stack:
        if directory is None:
            directory, path = make(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        versions = {"trueup": directory}
        if not _is_int8(open_version(directory)):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            versions["trueup int8"] = with_int8(directory, folder / "int8")
        servers = {name: stack.enter_context(ours(version)) for name, version in versions.items()}
        for name in PEERS if arguments.only is None else arguments.only:
            servers[name] = stack.enter_context(peer(name, directory))
        found: dict[str, list[dict[str, Any]]] = {}
        for number in range(arguments.rounds):
            for name, told in _round(versions, servers, path, arguments):
                print(json.dumps({"round": number, "server": name} | told), flush=True)
                found.setdefault(name, []).append(told)
    lines = {name: tell(name, rounds) for name, rounds in found.items()}
    print(json.dumps(ratios(lines)), flush=True)


def _round(
    versions: dict[str, Path], servers: dict[str, tuple[int, str]], path: Path, arguments: argparse.Namespace
) -> Iterator[tuple[str, dict[str, Any]]]:
    texts, seconds = read_texts(path), arguments.seconds
    for name, version in versions.items():
        for pooled, way in ((False, ""), (True, POOLED)):
            yield f"{FLOORS[name]}{way}", bare(version, texts, seconds, pooled=pooled)
    for clients in arguments.clients:
        for name, (pid, url) in servers.items():
            yield f"{name}, {clients} clients", measure(pid, url, clients, seconds, path)


def _is_int8(version: Version) -> bool:
    return usable(version.manifest.engines)[0] == "cpu-int8"


def ratios(lines: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Ours by the others', per second at 64 clients, each by its own floor, and p99 at 8 clients."""
    found = {}
    for own, floor in FLOORS.items():
        many, few = (lines.get(f"{own}, {clients} clients") for clients in (64, 8))
        for name, line in lines.items():
            is_peer = name.startswith(PEERS)
            if many and (name in (floor, f"{floor}{POOLED}") or (is_peer and name.endswith(", 64 clients"))):
                found[f"requests/s of {own} by {name}"] = round(many["per_second"] / line["per_second"], 3)
            if few and is_peer and name.endswith(", 8 clients"):
                found[f"p99 of {own} by {name}"] = round(few["p99_ms"] / line["p99_ms"], 3)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("version", type=Path, nargs="?")
    parser.add_argument("texts", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--clients", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--only", nargs="*", choices=PEERS)
    main(parser.parse_args())
