from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Engine, select, update

from exporter import registry
from exporter.database import open_database, sqlite_url
from exporter.settings import ExporterSettings
from monitor import jobs, lease, retrain, schedule
from monitor.channels import UnknownChannel, UnusableChannel
from monitor.compose import Pairing, write_pairing
from monitor.cron import BadSchedule
from monitor.migrate import upgrade
from monitor.schedule import Slot
from monitor.sending import Sender
from monitor.settings import ModelSettings, MonitorSettings
from monitor.tables import due_slots, leases
from monitor.worker import Worker, run_monitor
from tests.benchmarks.faults import run_faults
from trainer.settings import TrainerSettings

FAULTS = 20  # on each database


def test_killed_and_frozen_monitors_miss_nothing_and_double_nothing(db: Engine) -> None:
    found = run_faults(db, FAULTS, seed=0, lease_s=1.0)
    assert found["faults"] == FAULTS
    assert found["slots"]["due"] > FAULTS
    assert found["retrains"]["queued"] > FAULTS / 2
    for what, wrong in (
        ("slots", ["missed", "doubled", "failed", "without_effect"]),
        ("retrains", ["lost", "doubled", "without_effect"]),
    ):
        assert {key: found[what][key] for key in wrong} == dict.fromkeys(wrong, 0)
    assert found["stale_rows"] == 0


def slots(db: Engine, schedule: str = "check:router") -> list[float]:
    """Those that are done, but the first, which was never due."""
    statement = select(due_slots.c.due_at).where(due_slots.c.state == "done")
    statement = statement.where(due_slots.c.schedule == schedule).order_by(due_slots.c.due_at)
    with db.connect() as connection:
        return list(connection.execute(statement).scalars())[1:]


def worker(db: Engine, home: Path) -> Worker:
    return Worker(
        db=db,
        home=home,
        monitor=MonitorSettings(check="every 1s", retrain="", clean=""),
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
    while len(slots(sqlite_db)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    assert len(slots(sqlite_db)) >= 2
    assert lease.acquire(sqlite_db, lease.LEADER, "next", lease_s=1) is not None  # it has let go


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        (MonitorSettings(check="soon"), BadSchedule),
        (MonitorSettings(retrain="0 3 31 2 *"), BadSchedule),
        (MonitorSettings(clean="daily"), BadSchedule),
        (MonitorSettings(time_zone="Europe/Atlantis"), BadSchedule),
        (MonitorSettings(notify=("telepathy://x",)), UnknownChannel),
        (MonitorSettings(notify=("webhook+https://example.org/",)), UnusableChannel),
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


@pytest.fixture
def migrated(tmp_path: Path) -> Iterator[Engine]:
    """What `trueup monitor` meets: a database with its migrations, below the home folder `tmp_path`."""
    db = open_database(sqlite_url(tmp_path))
    upgrade(db)
    yield db
    db.dispose()


def test_the_monitor_command_refuses_a_bad_schedule_before_it_leads(tmp_path: Path, migrated: Engine) -> None:
    command = monitor_command(tmp_path, 'check = "0 3 * *"')
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "'0 3 * *' is not a schedule" in " ".join(done.stderr.split())
    assert holder(migrated) is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_monitor_told_to_stop_gives_its_job_back_and_lets_go_of_the_lease(
    number: signal.Signals, tmp_path: Path, migrated: Engine
) -> None:
    with migrated.begin() as connection:
        jobs.enqueue(connection, "router", trigger="manual", dedupe_key="k", base_version="v1")
    command = monitor_command(tmp_path, "")
    running = subprocess.Popen([sys.executable, "-m", "tests.monitor.stopped", *command[3:]])
    try:
        wait(lambda: jobs.list_jobs(migrated)[0].progress == {"stage": "fit"})
        wait(lambda: holder(migrated) is not None)
        assert lease.acquire(migrated, lease.LEADER, "next", lease_s=1) is None
        running.send_signal(number)
        assert running.wait(30) == 0
    finally:
        running.kill()
        running.wait()
    (job,) = jobs.list_jobs(migrated)
    assert (job.state, job.attempt, job.max_attempts) == ("queued", 1, 4)
    assert lease.acquire(migrated, lease.LEADER, "next", lease_s=1) == 2
    assert jobs.claim(migrated, "next", lease_s=1) is not None


def holder(db: Engine) -> str | None:
    with db.connect() as connection:
        name: str | None = connection.execute(select(leases.c.holder)).scalar()
    return name


def monitor_command(home: Path, line: str) -> list[str]:
    (home / "trueup.toml").write_text(
        f'home = "{home}"\n[monitor]\nport = 0\nevidently = false\n{line}\n', encoding="utf-8"
    )
    return [sys.executable, "-m", "monitor", "monitor", "--config", str(home / "trueup.toml")]


def wait(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_slot_that_takes_longer_than_its_lease_stays_with_its_worker(home: Path, sqlite_db: Engine) -> None:
    slow = worker(sqlite_db, home)
    slow.monitor = slow.monitor.model_copy(update={"job_lease_s": 0.4})
    slow.lead()
    with sqlite_db.begin() as connection:
        connection.execute(update(due_slots).values(due_at=due_slots.c.due_at - 1.5))
    slow.lead()
    thieves: list[Slot | None] = []

    def check(_: str) -> ModelSettings:
        while schedule.claim_slot(sqlite_db, "other", lease_s=60) is not None:
            pass  # the other slots that are due
        time.sleep(1.2)
        thieves.append(schedule.claim_slot(sqlite_db, "thief", lease_s=0.4))
        return ModelSettings()

    slow.models = check
    assert slow.work_slot()
    assert thieves == [None]
    assert len(slots(sqlite_db)) == 1


def test_a_registration_that_takes_longer_than_the_jobs_lease_stays_with_its_worker(
    home: Path, sqlite_db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite_db.begin() as connection:
        jobs.enqueue(connection, "router", trigger="manual", dedupe_key="k", base_version="v1")
    slow = worker(sqlite_db, home)
    slow.monitor = slow.monitor.model_copy(update={"job_lease_s": 0.4})
    job = jobs.claim(sqlite_db, "slow", lease_s=0.4)
    assert job is not None
    thieves: list[jobs.Job | None] = []

    def register(*_: object, **__: object) -> str:
        time.sleep(1.2)
        thieves.append(jobs.claim(sqlite_db, "thief", lease_s=0.4))
        return "v2"

    monkeypatch.setattr(registry, "register", register)
    monkeypatch.setattr(retrain, "_sealed", lambda *_: home)
    write_pairing(Pairing(parent="v1", base_rows=1, recent_ids=(), labels_used=1), home / "pairing.json")
    assert retrain._candidate(slow.workshop(job), job)[0] == "v2"
    assert thieves == [None]


def test_a_leader_that_was_replaced_tells_nobody(
    home: Path, sqlite_db: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    monkeypatch.setattr(Sender, "beat", lambda _, epoch: told.append(epoch))
    old, new = worker(sqlite_db, home), worker(sqlite_db, home)
    old.lead()
    old.tell()
    assert len(told) == 1
    lease.release(sqlite_db, lease.LEADER, old.holder)
    new.lead()
    old.tell()
    assert len(told) == 1


def test_the_trainer_of_a_killed_monitor_dies_with_it() -> None:
    code = (
        "import subprocess, sys, time; from monitor.child import leashed;"
        "print(subprocess.Popen(leashed(['sleep', '600'])).pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        wait(lambda: child.name() == "sleep")
        parent.kill()
    wait(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_importing_the_worker_loads_nothing_heavy() -> None:
    heavy = "torch transformers onnxruntime onnx evidently pandas sklearn scipy apprise matplotlib PIL"
    code = f"import sys, monitor.worker; print([m for m in {heavy.split()!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
