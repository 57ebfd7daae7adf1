from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, update

from exporter.database import NOW
from exporter.settings import ExporterSettings
from exporter.tables import deployment_events
from monitor import lease
from monitor.channels import UnknownChannel
from monitor.cron import BadSchedule
from monitor.settings import ModelSettings, MonitorSettings
from monitor.tables import due_slots, leases
from monitor.worker import Worker, run_monitor
from tests.monitor.faulty import LEASE_S
from trainer.settings import TrainerSettings

FAULTS = 10


def start(db: Engine) -> subprocess.Popen[bytes]:
    url = db.url.render_as_string(hide_password=False)
    return subprocess.Popen([sys.executable, "-m", "tests.monitor.faulty", url])


def leader(db: Engine) -> int | None:
    """Process id of the holder."""
    with db.connect() as connection:
        holder = connection.execute(select(leases.c.holder)).scalar()
    return int(holder.split(":")[1]) if holder else None


def test_killed_and_frozen_processes_lose_no_slot_and_double_none(db: Engine) -> None:
    rng = random.Random(0)
    running = [start(db) for _ in range(3)]
    try:
        for fault in range(FAULTS):
            time.sleep(rng.uniform(0.6, 1.2))
            victim = next((one for one in running if one.pid == wait_for_leader(db, running)), running[0])
            if fault % 3 == 2:  # frozen for longer than its lease, then it goes on as if nothing had been
                victim.send_signal(signal.SIGSTOP)
                time.sleep(LEASE_S + 0.5)
                victim.send_signal(signal.SIGCONT)
            else:
                victim.kill()
                victim.wait()
                running = [one for one in running if one is not victim] + [start(db)]
        deadline = time.monotonic() + 20
        while late(db) and time.monotonic() < deadline:
            time.sleep(0.2)
    finally:
        for one in running:
            one.kill()
            one.wait()
    due, done = slots(db)
    missing = [slot for slot in expected(due) if slot not in set(due)]
    effects = Counter(effect(db))
    assert len(due) > FAULTS
    assert missing == []
    assert [slot for slot, times in effects.items() if times > 1] == []
    assert set(done) == set(effects)
    assert not late(db)


def wait_for_leader(db: Engine, running: list[subprocess.Popen[bytes]]) -> int | None:
    """A process needs a second to start: a fault is one only where somebody leads."""
    deadline = time.monotonic() + 20
    while leader(db) not in {one.pid for one in running} and time.monotonic() < deadline:
        time.sleep(0.05)
    return leader(db)


def slots(db: Engine) -> tuple[list[float], list[float]]:
    """All slots but the anchor, and those that are done."""
    statement = select(due_slots.c.due_at, due_slots.c.state, due_slots.c.attempt).order_by(
        due_slots.c.due_at
    )
    with db.connect() as connection:
        rows = connection.execute(statement).all()[1:]
    return [row.due_at for row in rows], [row.due_at for row in rows if row.state == "done"]


def expected(due: list[float]) -> list[float]:
    return [number / 2 for number in range(int(due[0] * 2), int(due[-1] * 2) + 1)]


def late(db: Engine) -> bool:
    """Whether a slot of the time before the last two seconds still waits."""
    statement = select(due_slots.c.due_at).where(
        due_slots.c.state.in_(("queued", "running")), due_slots.c.due_at < NOW - 2.0
    )
    with db.connect() as connection:
        return connection.execute(statement).first() is not None


def effect(db: Engine) -> list[float]:
    with db.connect() as connection:
        return [float(one) for one in connection.execute(select(deployment_events.c.version)).scalars()]


def worker(db: Engine, home: Path) -> Worker:
    return Worker(
        db=db,
        home=home,
        monitor=MonitorSettings(check="every 1s", retrain=""),
        models=lambda _: ModelSettings(),
        trainer=TrainerSettings(cache=home),
    )


def test_a_slot_that_fails_is_kept_with_its_error_and_the_worker_goes_on(
    home: Path, sqlite_db: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    one = worker(sqlite_db, home)
    one.lead()
    with sqlite_db.begin() as connection:
        connection.execute(update(due_slots).values(due_at=due_slots.c.due_at - 2.0))
    one.lead()
    one.models = lambda _: 1 / 0  # type: ignore[assignment,return-value]
    assert one.work_slot()
    with sqlite_db.connect() as connection:
        errors = (
            connection.execute(select(due_slots.c.error).where(due_slots.c.state == "failed")).scalars().all()
        )
    assert errors == ["ZeroDivisionError: division by zero"]
    assert "check:router@" in capsys.readouterr().out


def test_two_workers_have_one_leader(home: Path, sqlite_db: Engine) -> None:
    first, second = worker(sqlite_db, home), worker(sqlite_db, home)
    first.lead()
    second.lead()
    assert (first.epoch, second.epoch) == (1, None)


def test_a_monitor_checks_the_models_it_finds_until_it_is_stopped(home: Path, sqlite_db: Engine) -> None:
    stop = threading.Event()
    settings = MonitorSettings(check="every 200ms", retrain="", evidently=False)
    thread = threading.Thread(
        target=run_monitor, args=(sqlite_db, home, settings),
        kwargs={"models": lambda _: ModelSettings(), "trainer": TrainerSettings(cache=home),
                "exporter": ExporterSettings(), "stop": stop},
    )  # fmt: skip
    thread.start()
    deadline = time.monotonic() + 20
    while len(slots(sqlite_db)[1]) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    assert len(slots(sqlite_db)[1]) >= 2
    assert lease.acquire(sqlite_db, lease.LEADER, "next", lease_s=1) is not None  # it has let go


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        (MonitorSettings(check="soon"), BadSchedule),
        (MonitorSettings(notify=("telepathy://x",)), UnknownChannel),
    ],
)
def test_bad_settings_are_refused_before_anything_starts(
    settings: MonitorSettings, refused: type[Exception], home: Path, sqlite_db: Engine
) -> None:
    with pytest.raises(refused):
        run_monitor(
            sqlite_db, home, settings, models=lambda _: ModelSettings(), trainer=TrainerSettings(cache=home),
            exporter=ExporterSettings(), stop=threading.Event(),
        )  # fmt: skip


def test_importing_the_worker_loads_nothing_heavy() -> None:
    heavy = "torch transformers onnxruntime onnx evidently pandas sklearn scipy apprise"
    code = f"import sys, monitor.worker; print([m for m in {heavy.split()!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
