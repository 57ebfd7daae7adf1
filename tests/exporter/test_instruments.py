from __future__ import annotations

import time
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine

from exporter.instruments import MODELS, VERSIONS, Instruments
from exporter.ledger import Ledger
from exporter.loader import Loader
from tests.exporter.rows import prediction


def value(instruments: Instruments, name: str, **labels: str) -> float | None:
    return instruments.registry.get_sample_value(f"trueup_{name}", labels)


def test_a_served_version_begins_at_zero_so_that_the_first_event_is_an_increase() -> None:
    instruments = Instruments()
    instruments.serving.labels("router", "v1").set(1)
    assert value(instruments, "predictions_total", model="router", version="v1") == 0
    assert value(instruments, "versions_refused_total", model="router") == 0
    assert value(instruments, "version_swaps_total", model="router") == 0
    assert value(instruments, "labels_total", status="error") == 0
    assert value(instruments, "ledger_write_errors_total") == 0


def test_old_versions_are_forgotten_and_counted() -> None:
    instruments = Instruments()
    for number in range(VERSIONS + 4):
        instruments.predictions.labels("router", f"v{number}").inc()
    text = instruments.text().decode()
    assert text.count("trueup_predictions_total{") == VERSIONS
    assert value(instruments, "predictions_total", model="router", version="v0") is None
    assert value(instruments, "predictions_total", model="router", version=f"v{VERSIONS + 3}") == 1
    assert value(instruments, "label_overflow_total", metric="trueup_predictions_total") == 4


def test_models_over_the_limit_are_one() -> None:
    instruments = Instruments()
    for number in range(MODELS + 5):
        instruments.predictions.labels(f"m{number}", "v1").inc()
    assert value(instruments, "predictions_total", model="other", version="other") == 5
    assert value(instruments, "label_overflow_total", metric="trueup_predictions_total") == 5


def test_what_is_not_watched_is_no_number() -> None:
    assert str(value(Instruments(), "ledger_lag_seconds")) == "nan"


def test_the_disk_and_the_ledger_are_read_at_each_scrape(tmp_path: Path) -> None:
    instruments = Instruments()
    lag = [(0.0, 0)]
    instruments.watch(tmp_path, lambda: lag[-1])
    assert value(instruments, "ledger_lag_bytes") == 0
    lag.append((7.0, 100))
    assert value(instruments, "ledger_lag_seconds") == 7
    assert value(instruments, "ledger_lag_bytes") == 100
    free, size = value(instruments, "disk_free_bytes"), value(instruments, "disk_size_bytes")
    assert free is not None
    assert size is not None
    assert 0 < free < size


def test_the_ledger_lags_until_its_rows_are_in_the_database(sqlite_db: Engine, tmp_path: Path) -> None:
    clock = iter(float(second) for second in range(100))
    folder = tmp_path / "ledger"
    ledger = Ledger(folder, "e-1-x", durability="process", segment_bytes=4096)
    loader = Loader(sqlite_db, folder, interval_s=60, now=lambda: next(clock))
    loader.run_once()
    assert loader.lag() == (0.0, 0)
    ledger.append([prediction(1)])
    seconds, size = loader.lag()
    assert seconds > 0
    assert size > 0
    loader.run_once()
    assert loader.lag() == (0.0, 0)
    ledger.close()


def test_a_database_that_fails_leaves_the_ledger_behind(sqlite_db: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    ledger = Ledger(folder, "e-1-x", durability="process", segment_bytes=4096)
    loader = Loader(sqlite_db, folder, interval_s=60)
    ledger.append([prediction(1)])
    with sqlite_db.begin() as connection:
        connection.exec_driver_sql("drop table ledger_positions")
    loader.run_once()
    assert loader.lag()[1] > 0
    ledger.close()


def test_fifty_models_stay_small() -> None:
    instruments = Instruments()
    for number in range(50):
        for version in ("v11", "v12"):
            instruments.serving.labels(f"model-{number:02d}", version).set(1)
            instruments.predictions.labels(f"model-{number:02d}", version).inc(12345)
        instruments.run_seconds.labels(f"model-{number:02d}").observe(0.012)
    for route in ("/v1/predict", "/v1/labels", "/metrics", "/healthz", "/readyz", "/v1/models", "other"):
        for status in ("200", "400", "404", "413", "429", "500", "503"):
            instruments.requests.labels(route, status).inc()
        instruments.request_seconds.labels(route).observe(0.1)
    started = time.perf_counter()
    text = instruments.text()
    print(f"{len(text)} bytes, {1e3 * (time.perf_counter() - started):.1f} ms")
    assert len(text) <= 150_000


def test_the_description_is_what_is_told() -> None:
    instruments = Instruments()
    instruments.serving.labels("router", "v1").set(1)
    instruments.requests.labels("other", "200").inc()
    instruments.request_seconds.labels("other").observe(0.1)
    instruments.provider.labels("router", "v1", "CPUExecutionProvider").set(1)
    told = {family.name: family for family in text_string_to_metric_families(instruments.text().decode())}
    for one in instruments.described:
        family = told[one.name.removesuffix("_total")]
        assert family.type == one.kind
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels == set(one.labels), one.name


def test_no_label_can_hold_what_a_client_sent() -> None:
    allowed = {"route", "status", "model", "version", "part", "metric", "provider", "kind"}
    assert {label for one in Instruments().described for label in one.labels} <= allowed


def test_one_process_is_one_exporter() -> None:
    """Two servers in one process share no number; nothing writes prometheus_client's files for many."""
    one, other = Instruments(), Instruments()
    one.loaded.inc(5)
    assert value(other, "ledger_rows_loaded_total") == 0
