"""A real file system of one megabyte that fills, and empties again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine, func, select

from exporter.tables import predictions
from tests.exporter.exporter_process import exporter_process
from tests.exporter.test_trials import until

BODY = {"model": "router", "inputs": ["where is my card"]}


@pytest.fixture
def disk(home: Path) -> Iterator[Path]:
    """The ledger's folder, on a disk of its own."""
    folder = home / "ledger"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    filler = disk / ".filler"
    with filler.open("wb", buffering=0) as file:
        size = 65536
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
    return filler


@pytest.mark.parametrize("on_full", ["refuse", "answer"])
def test_a_full_disk_is_refused_or_answered_and_recovers_by_itself(
    home: Path, sqlite_db: Engine, disk: Path, on_full: str
) -> None:
    with (
        exporter_process(home, on_full=on_full) as (_, url),
        httpx.Client(base_url=url, timeout=20) as client,
    ):

        def ask() -> httpx.Response:
            return client.post("/v1/predict", json=BODY)

        def told(name: str) -> float:
            lines = client.get("/metrics").text.splitlines()
            return float(next(line.split()[1] for line in lines if line.startswith(f"trueup_{name} ")))

        assert ask().status_code == 200
        filler = fill(disk)
        ready = 503 if on_full == "refuse" else 200
        until(lambda: told("ledger_write_errors_total") > 0 or ask().status_code == 503)
        refused, shown = ask(), client.get("/readyz")
        assert refused.status_code == ready
        assert shown.status_code == ready
        if on_full == "refuse":
            assert refused.json()["error"]["code"] == "ledger_unavailable"
            assert refused.headers["retry-after"] == "1"
        assert (
            told("predictions_unrecorded_total") == 0
            if on_full == "refuse"
            else told("predictions_unrecorded_total") > 0
        )
        filler.unlink()
        kept = ask()
        assert kept.status_code == client.get("/readyz").status_code == 200
        row = kept.json()["predictions"][0]["id"]
        query = select(func.count()).where(predictions.c.id == row)

        def stored() -> bool:
            with sqlite_db.connect() as connection:
                return bool(connection.scalar(query))

        until(stored)
    assert '"event": "ledger_not_written"' in (home / "exporter.log").read_text()
