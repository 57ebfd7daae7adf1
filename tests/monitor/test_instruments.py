from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, insert, update

from exporter.tables import deployments, versions
from monitor.evidence import detectors
from monitor.instruments import METRICS, StatusMetrics
from monitor.tables import checks, deliveries, due_slots, episodes, evidence, jobs, leases, notices

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: bytes) -> Samples:
    """Parsed by Prometheus' own client: {(name, labels): value}."""
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in text_string_to_metric_families(text.decode())
        for one in family.samples
    }


def told(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((f"trueup_{name}", frozenset(labels.items())))


def fill(db: Engine, models: int, *, detectors_each: list[str] | None = None) -> None:
    """A fleet with one window, one retrain and one promotion each; model 0 drifts."""
    names = detectors_each or [one.name for one in detectors()]
    window: dict[str, Any] = {
        "version": "v1", "first_seq": 1, "last_seq": 200, "last_label_seq": 9, "window_end_at": 990.0,
        "rows": 200, "labelled": 90, "accuracy": 0.75, "log_e": 11.5, "log_page_line": 4.6, "at": 1000.0,
    }  # fmt: skip
    job: dict[str, Any] = {
        "trigger": "page", "state": "done", "attempt": 1, "max_attempts": 3, "not_before": 0.0,
        "cancel_requested": False, "progress": {}, "created_at": 10.0, "updated_at": 0.0, "finished_at": 70.0,
        "verdict": {"promote": True, "numbers": {"recent": {"gain": 0.1, "gain_lower_95": 0.05}}},
    }  # fmt: skip
    with db.begin() as connection:
        for number in range(models):
            name = f"model-{number:02d}"
            version = {"model": name, "version": "v1", "number": 1, "state": "champion", "path": "p"}
            manifest = {"rung": "head", "metrics": {"accuracy": 0.95}}
            connection.execute(
                insert(versions).values(**version, manifest_sha256="0", manifest=manifest, created_at=5.0)
            )
            connection.execute(
                insert(deployments).values(model=name, champion="v1", revision=2, changed_at=6.0)
            )
            state = "drift" if number == 0 else "ok"
            row = insert(checks).values(model=name, state=state, paged=number == 0, decision={}, **window)
            check = connection.execute(row.returning(checks.c.id)).scalar_one()
            shown = {"rows": 200, "enough": True, "effect": -0.41237, "p_value": 0.012345, "log_e": 2.3456}
            connection.execute(
                insert(evidence),
                [{"check_id": check, "detector": one, "detail": {}, **shown} for one in names],
            )
            connection.execute(insert(jobs).values(model=name, dedupe_key=name, **job))
            for due in (60.0, 120.0):
                slot = {"schedule": f"check:{name}", "due_at": due, "state": "done", "attempt": 1, "epoch": 1}
                connection.execute(insert(due_slots).values(**slot))
        connection.execute(
            insert(episodes).values(
                model="model-00", version="v1", cause='dr"ift', state="firing", opened_at=50.0, fired_at=50.0,
                detail={},
            )
        )  # fmt: skip
        connection.execute(
            insert(notices).values(
                id=1, model="model-00", version="v1", kind="firing", group_id=1, causes=["drift"],
                dedupe_key="d", key="k", created_at=50.0,
            )
        )  # fmt: skip
        for channel, state, attempt, error in (
            ("log", "sent", 1, None), ("mailto:1", "waiting", 2, "refused"), ("slack:2", "waiting", 0, None)
        ):  # fmt: skip
            delivery = {"notice_id": 1, "channel": channel, "state": state, "attempt": attempt}
            connection.execute(insert(deliveries).values(not_before=0.0, error=error, **delivery))


def fill_window(db: Engine, model: str) -> None:
    """One more window, without labels and without requests."""
    with db.begin() as connection:
        connection.execute(
            insert(checks).values(
                model=model, version="v1", state="ok", first_seq=201, last_seq=500, last_label_seq=9,
                rows=300, labelled=0, paged=False, decision={}, at=1100.0,
            )
        )  # fmt: skip


def test_the_newest_window_retrain_and_schedule_of_each_model_are_told(db: Engine, tmp_path: Path) -> None:
    fill(db, 2)
    found = samples(StatusMetrics(db, tmp_path).text())
    own = {"model": "model-01", "version": "v1"}
    assert told(found, "champion", **own) == 1
    assert told(found, "accuracy", **own) == 0.75
    assert told(found, "holdout_accuracy", **own) == 0.95
    assert told(found, "check_rows", **own) == 200
    assert told(found, "check_labels", **own) == 90
    assert told(found, "check_delay_seconds", **own) == 10
    assert told(found, "evidence_powers", **own) == pytest.approx(11.5 / 2.302585, rel=1e-4)
    assert told(found, "detector_effect", model="model-01", detector="similarity") == -0.41237
    assert told(found, "check_run_timestamp_seconds", model="model-01") == 120
    assert told(found, "check_interval_seconds", model="model-01") == 60
    assert told(found, "retrains_total", model="model-01", outcome="promoted") == 1
    assert told(found, "retrains_total", model="model-01", outcome="failed") == 0
    assert told(found, "retrain_seconds", model="model-01") == 60
    assert told(found, "verdict_gain_lower", model="model-01") == 0.05
    assert told(found, "deployments_total", model="model-01") == 2
    assert (told(found, "model_state", model="model-00"), told(found, "model_state", model="model-01")) == (
        3,
        2,
    )
    assert (
        told(found, "episode_opened_timestamp_seconds", model="model-00", cause='dr"ift', state="firing")
        == 50
    )
    assert (told(found, "notifications_undelivered"), told(found, "notification_tries")) == (1, 2)
    assert (told(found, "leader"), told(found, "database_up")) == (0, 1)


def test_the_error_rate_of_the_newest_hour_is_told_beside_a_later_window(db: Engine, tmp_path: Path) -> None:
    fill(db, 1, detectors_each=["error_rate"])
    with db.begin() as connection:
        connection.execute(update(checks).values(error_rate=0.5))
    fill_window(db, "model-00")
    found = samples(StatusMetrics(db, tmp_path).text())
    assert told(found, "check_rows", model="model-00", version="v1") == 300
    assert told(found, "detector_effect", model="model-00", detector="error_rate") == -0.41237


def test_no_data_is_not_no_drift(db: Engine, tmp_path: Path) -> None:
    fill(db, 1)
    with db.begin() as connection:
        connection.execute(update(evidence).values(enough=False))
        connection.execute(update(checks).values(state="not enough data", accuracy=None, log_e=None))
        connection.execute(update(episodes).values(state="resolved", resolved_at=60.0))
    found = samples(StatusMetrics(db, tmp_path).text())
    assert told(found, "model_state", model="model-00") == 1
    names = {name for name, _ in found}
    assert not names & {"trueup_accuracy", "trueup_evidence_powers", "trueup_detector_effect"}


def test_a_check_of_the_version_before_says_nothing_of_the_champion(db: Engine, tmp_path: Path) -> None:
    fill(db, 1)
    with db.begin() as connection:
        connection.execute(update(episodes).values(state="resolved", resolved_at=60.0))
        connection.execute(update(checks).values(version="v0"))
    found = samples(StatusMetrics(db, tmp_path).text())
    assert told(found, "model_state", model="model-00") == 0
    assert told(found, "evidence_powers", model="model-00", version="v1") is None


def test_failed_slots_and_the_leader_are_told(db: Engine, tmp_path: Path) -> None:
    now = time.time()
    with db.begin() as connection:
        for number, state in enumerate(("failed", "queued")):
            slot = {
                "schedule": "check:a",
                "due_at": now - 100 - number,
                "state": state,
                "attempt": 1,
                "epoch": 1,
            }
            connection.execute(insert(due_slots).values(**slot))
        connection.execute(insert(leases).values(name="scheduler", holder="h", epoch=4, expires_at=now + 100))
    found = samples(StatusMetrics(db, tmp_path).text())
    assert told(found, "slots_failed", kind="check") == 1
    assert told(found, "slots_waiting") == 1
    assert told(found, "slot_lag_seconds") == pytest.approx(101, abs=5)
    assert (told(found, "leader"), told(found, "leader_changes_total")) == (1, 4)


def test_too_many_series_leave_out_the_least_important_metric_and_count_it(
    sqlite_db: Engine, tmp_path: Path
) -> None:
    fill(sqlite_db, 10, detectors_each=[f"detector_{number}" for number in range(30)])
    lines = StatusMetrics(sqlite_db, tmp_path, size=10**6).text().decode().splitlines()
    details = ("trueup_detector_effect", "trueup_detector_p_value", "process_", "#")
    always = sum(len(line) + 1 for line in lines if not line.startswith(details))
    comments = sum(len(line) + 1 for line in lines if line.startswith("#") and "trueup" in line)
    metrics = StatusMetrics(sqlite_db, tmp_path, size=always + comments + 4_000)  # 40 effects are 3 kB
    metrics.text()
    found = samples(metrics.text())
    names = [name for name, _ in found]
    assert names.count("trueup_detector_powers") == 300
    assert names.count("trueup_detector_effect") == 40
    assert "trueup_detector_p_value" not in names
    assert told(found, "label_overflow_total", metric="trueup_detector_p_value") == 300
    assert told(found, "label_overflow_total", metric="trueup_detector_effect") == 260


def test_more_open_causes_than_anybody_configured_are_one(sqlite_db: Engine, tmp_path: Path) -> None:
    fill(sqlite_db, 1)
    with sqlite_db.begin() as connection:
        for number in range(40):
            row = {"version": "v1", "state": "firing", "opened_at": 1.0, "detail": {}}
            connection.execute(insert(episodes).values(model="model-00", cause=f"threshold:{number}", **row))
    text = StatusMetrics(sqlite_db, tmp_path).text().decode()
    assert text.count("trueup_episode_opened_timestamp_seconds{") == 33
    assert 'cause="other"' in text


def test_a_database_that_does_not_answer_is_told(sqlite_db: Engine, tmp_path: Path) -> None:
    with sqlite_db.begin() as connection:
        evidence.drop(connection)
        checks.drop(connection)
    found = samples(StatusMetrics(sqlite_db, tmp_path).text())
    assert told(found, "database_up") == 0
    assert told(found, "disk_free_bytes") is not None


def test_fifty_models_stay_small(db: Engine, tmp_path: Path, record_property: Any) -> None:
    fill(db, 50)
    metrics = StatusMetrics(db, tmp_path)
    took = []
    for _ in range(20):
        started = time.perf_counter()
        text = metrics.text()
        took.append(1e3 * (time.perf_counter() - started))
    record_property("median_ms", statistics.median(took))  # told, not asserted: machines differ
    print(f"{db.dialect.name}: {len(text)} bytes, median {statistics.median(took):.1f} ms")
    assert len(text) <= 150_000


def test_every_metric_is_documented_once() -> None:
    assert len({one.name for one in METRICS}) == len(METRICS)
    assert all(one.name.endswith("_total") == (one.kind == "counter") for one in METRICS)
