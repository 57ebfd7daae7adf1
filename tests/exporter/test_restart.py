"""An exporter goes and another one comes, while clients ask."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
from sqlalchemy import Engine

from exporter.server import inherited_socket
from tests.exporter.exporter_process import exporter_process
from tests.exporter.load_client import Load, clients
from tests.exporter.test_promises import assert_recorded_once, numbered, send
from tests.exporter.test_trials import until


def listening() -> socket.socket:
    made = socket.create_server(("127.0.0.1", 0), backlog=1024)
    made.setblocking(False)
    return made


def test_a_restart_on_a_shared_socket_fails_no_request(home: Path, sqlite_db: Engine) -> None:
    load, text = Load(), numbered()

    async def scene(url: str) -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(clients(url, 16, text, load, stop=stop))
        for restart in range(3):
            with exporter_process(home, inherited=shared, store_text="full") as (process, _):
                await asyncio.sleep(0.4)
                send(process, signal.SIGTERM)()  # the next one is not there yet: connections wait
                await asyncio.to_thread(process.join, 30)
                assert process.exitcode == 0, restart
        with exporter_process(home, inherited=shared, store_text="full"):
            await asyncio.sleep(0.3)
            stop.set()
            await running

    with listening() as shared:
        host, port = shared.getsockname()
        asyncio.run(scene(f"http://{host}:{port}"))
    assert load.failed == []
    assert load.cut == 0
    assert len(load.answered) > 200
    with exporter_process(home):  # loads what the last one left
        until(lambda: not [path for path in (home / "ledger").glob("*/*.ledger") if path.stat().st_size])
    assert_recorded_once(sqlite_db, load)


def test_a_draining_exporter_is_not_ready_still_answers_and_asks_clients_to_close(home: Path) -> None:
    body = {"model": "router", "inputs": ["where is my card"]}
    with (
        exporter_process(home, drain_s=30) as (process, url),
        httpx.Client(base_url=url, timeout=20) as client,
    ):
        assert client.get("/readyz").status_code == 200
        send(process, signal.SIGTERM)()
        until(lambda: client.get("/readyz").status_code == 503)
        assert client.get("/readyz").json()["status"] == "stopping"
        answer = client.post("/v1/predict", json=body)
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")


SAID = "from exporter.server import *; print(inherited_socket(os.environ).getsockname()[1])"


def test_a_socket_is_inherited_as_systemd_hands_it_over() -> None:
    root = Path(__file__).resolve().parents[2]
    shell = f'LISTEN_PID=$$ LISTEN_FDS=1 exec {sys.executable} -c "{SAID}" 3<&0 0</dev/null'
    with listening() as shared:
        said = subprocess.run(
            ["sh", "-c", shell],
            stdin=shared.fileno(),
            env=os.environ | {"PYTHONPATH": str(root)},
            check=True,
            capture_output=True,
        )
        assert int(said.stdout) == shared.getsockname()[1]
    assert inherited_socket({}) is None
    assert inherited_socket({"LISTEN_PID": "1", "LISTEN_FDS": "1"}) is None


def test_an_idle_exporter_keeps_no_loaded_text_on_its_disk(home: Path) -> None:
    body = {"model": "router", "inputs": ["my card number is a secret"]}
    with exporter_process(home, store_text="full", segment_age_s=0.3) as (_, url):
        assert httpx.post(f"{url}/v1/predict", json=body).status_code == 200
        until(lambda: not [path for path in (home / "ledger").glob("*/*.ledger") if path.stat().st_size])
