"""What the exporter promises, attacked over real HTTP."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, select

from exporter.database import open_database, sqlite_url
from exporter.loader import load_once
from exporter.registry import promote, register
from exporter.tables import predictions, rollups
from tests.exporter.conftest import deploy
from tests.exporter.exporter_process import exporter_process
from tests.exporter.load_client import Load, clients
from tests.exporter.versions import build_version

KILLS = 25  # on each database


def numbered() -> Callable[[], str]:
    numbers = itertools.count()
    return lambda: f"text {next(numbers)}"


async def load_until(
    url: str, load: Load, text: Callable[[], str], seconds: float, then: Callable[[], None]
) -> None:
    """Eight clients; after `seconds` `then` happens, and they go on until it ended them."""
    stop = asyncio.Event()
    running = asyncio.create_task(clients(url, 8, text, load, stop=stop))
    await asyncio.sleep(seconds)
    await asyncio.to_thread(then)
    if not running.done():
        await asyncio.sleep(seconds)
    stop.set()
    await running


def send(process: BaseProcess, number: signal.Signals) -> Callable[[], None]:
    assert process.pid is not None
    return partial(os.kill, process.pid, number)


def assert_recorded_once(db: Engine, load: Load) -> None:
    with db.connect() as connection:
        rows = connection.execute(select(predictions.c.id, predictions.c.text)).all()
        rolled = select(func.sum(rollups.c.rows)).where(rollups.c.series == "label")
        assert connection.scalar(rolled) == len(rows)
    texts = dict(rows)
    assert len(texts) == len(rows)
    assert [row for row, _ in load.answered if row not in texts] == []
    assert all(texts[row] == text for row, text in load.answered)
    assert len(set(texts.values())) == len(rows)  # every text was sent once: none was recorded twice


def test_answered_predictions_survive_kill_9_exactly_once(tmp_path: Path, db: Engine) -> None:
    load, text, moments = Load(), numbered(), random.Random(7)
    deploy(db, tmp_path, build_version(tmp_path / "built"))
    given: dict[str, Any] = {"segment_bytes": 65536, "load_interval_s": 0.05, "store_text": "full"}
    url = db.url.render_as_string(hide_password=False)
    for _ in range(KILLS):
        with exporter_process(tmp_path, database_url=url, **given) as (process, address):
            seconds = moments.uniform(0.02, 0.3)
            asyncio.run(load_until(address, load, text, seconds, send(process, signal.SIGKILL)))
            process.join()
    load_once(db, tmp_path / "ledger")
    assert load.failed == []
    assert len(load.answered) > 10 * KILLS
    assert_recorded_once(db, load)
    assert list((tmp_path / "ledger").iterdir()) == []


def test_sigterm_answers_what_was_accepted_and_leaves_nothing_in_the_ledger(home: Path) -> None:
    load, text = Load(), numbered()
    with exporter_process(home, store_text="full") as (process, url):
        asyncio.run(load_until(url, load, text, 0.7, send(process, signal.SIGTERM)))
        process.join(30)
        assert process.exitcode == 0
    db = open_database(sqlite_url(home))
    assert load.failed == []
    assert_recorded_once(db, load)
    assert list((home / "ledger").iterdir()) == []
    db.dispose()


def test_a_version_is_swapped_under_load_without_a_failed_request(home: Path, sqlite_db: Engine) -> None:
    register(sqlite_db, home, build_version(home / "second", seed=1), threads=1, now=0.0)
    load, text = Load(), numbered()

    def swap() -> None:
        assert promote(sqlite_db, "router", "v2", expected="v1", reason="test", actor="test")

    with exporter_process(home, poll_s=0.05, store_text="full") as (process, url):
        asyncio.run(load_until(url, load, text, 1.0, swap))
        send(process, signal.SIGTERM)()
        process.join(30)
    assert load.failed == []
    assert load.cut == 0
    switched = load.versions.index("v2")
    assert set(load.versions[:switched]) == {"v1"}
    assert load.versions[-1] == "v2"
    assert_recorded_once(sqlite_db, load)


def test_a_harmed_version_is_refused_on_swap_and_the_champion_keeps_serving(
    home: Path, sqlite_db: Engine
) -> None:
    register(sqlite_db, home, build_version(home / "second", seed=1), threads=1, now=0.0)
    model = home / "versions" / "router" / "v2" / "model.onnx"
    content = bytearray(model.read_bytes())
    content[100] ^= 1
    model.write_bytes(content)
    load, text = Load(), numbered()

    def swap() -> None:
        assert promote(sqlite_db, "router", "v2", expected="v1", reason="test", actor="test")

    with exporter_process(home, poll_s=0.05) as (_, url):
        asyncio.run(load_until(url, load, text, 0.6, swap))
        log = (home / "exporter.log").read_text()
    assert load.failed == []
    assert set(load.versions) == {"v1"}
    assert '"event": "version_refused"' in log
    assert "sha256 differs" in log
    assert "text 1" not in log


def test_an_exporter_that_starts_on_a_harmed_champion_serves_the_one_before(
    home: Path, sqlite_db: Engine
) -> None:
    register(sqlite_db, home, build_version(home / "second", seed=1), threads=1, now=0.0)
    assert promote(sqlite_db, "router", "v2", expected="v1", reason="test", actor="test")
    (home / "versions" / "router" / "v2" / "manifest.json").unlink()
    load, text = Load(), numbered()
    with exporter_process(home) as (_, url):
        asyncio.run(load_until(url, load, text, 0.2, lambda: None))
    assert set(load.versions) == {"v1"}
