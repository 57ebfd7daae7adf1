from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, delete, insert, select

from exporter.blocks import catch_up, read_rows
from exporter.registration import register
from exporter.sketch import Sketch
from exporter.sketches import read_sketch
from exporter.tables import blocks, labels, predictions
from monitor.evidence import bettors, open_wealth
from monitor.reference import freeze_season, read_live_reference
from monitor.tallies import Span, Tally, read_answers, read_before, read_period, read_tally
from tests.exporter.test_blocks import START, add, rows
from tests.exporter.versions import build_version


@pytest.fixture
def known(db: Engine, tmp_path: Path) -> Engine:
    register(db, tmp_path, build_version(tmp_path / "built", holdout_rows=80), threads=1, now=1e9)
    return db


def sketch_of(db: Engine) -> Sketch:
    with db.connect() as connection:
        found = read_sketch(connection, "router", "v1")
    assert found is not None
    return found


def read(db: Engine, *, after: int, take: int) -> Tally | None:
    span = Span(sketch=sketch_of(db), model="router", version="v1", after_seq=after)
    with db.connect() as connection:
        return read_tally(connection, span, rows=take)


def counted(db: Engine, first_seq: int, last_seq: int) -> list[int]:
    """The rows themselves, counted."""
    sketch = sketch_of(db)
    with db.connect() as connection:
        found = read_rows(
            connection, "router", "v1", after_seq=first_seq - 1, until_seq=last_seq, limit=10_000
        )
    return [int(rows) for rows in sketch.count(sketch.place(found))]


@given(st.integers(0, 340), st.integers(1, 350))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_window_of_any_place_and_size_holds_exactly_its_rows(
    sqlite_known: Engine, after: int, take: int
) -> None:
    found = read(sqlite_known, after=after, take=take)
    if after + take > 350:
        assert found is None
        return
    assert found is not None
    assert (found.first_seq, found.last_seq, found.rows) == (after + 1, after + take, take)
    assert found.strata[0].tolist() == counted(sqlite_known, after + 1, after + take)


@pytest.fixture
def sqlite_known(sqlite_db: Engine, tmp_path: Path) -> Engine:
    """350 rows, 20 s apart: blocks of a hundred rows, cut by the hour."""
    register(sqlite_db, tmp_path, build_version(tmp_path / "built", holdout_rows=80), threads=1, now=1e9)
    add(sqlite_db, rows(350, every_s=20.0))
    return sqlite_db


def test_whole_blocks_are_added_without_a_look_at_the_predictions(known: Engine) -> None:
    add(known, rows(300))
    with known.begin() as connection:
        connection.execute(delete(predictions))
    found = read(known, after=100, take=200)
    assert found is not None
    assert found.strata[0][sketch_of(known).places["label"]].sum() == 200
    assert found.end_at == START + 299


def test_blocks_of_another_sketch_are_counted_again_from_the_rows(known: Engine) -> None:
    add(known, rows(200))
    expected = counted(known, 1, 200)
    with known.begin() as connection:
        connection.execute(blocks.update().values(sketch="older", counts=b"x"))
    found = read(known, after=0, take=200)
    assert found is not None
    assert found.strata[0].tolist() == expected


def test_a_period_is_whole_hours_and_over_when_a_later_row_has_come(known: Engine) -> None:
    span = Span(sketch=sketch_of(known), model="router", version="v1")
    add(known, rows(180, every_s=60.0))  # three hours
    with known.connect() as connection:
        first = read_period(connection, span, period=7200.0)
        assert read_period(connection, span, period=7 * 86_400.0) is None
    assert first is not None
    assert (first.rows, first.last_seq) == (120, 120)


def test_what_severity_looks_back_on_ends_with_the_window(known: Engine) -> None:
    add(known, rows(500))
    span = Span(sketch=sketch_of(known), model="router", version="v1")
    with known.connect() as connection:
        found = read_before(connection, span, until_seq=400, rows=300)
        assert read_before(connection, span, until_seq=400, rows=500) is None
    assert found is not None
    assert (found.first_seq, found.last_seq, found.rows) == (101, 400, 300)


def test_the_first_rows_stay_the_same_whatever_leaves_or_comes(known: Engine) -> None:
    """Blocks that end with an hour, so that none ends at the thousandth row."""
    add(known, rows(1090, every_s=40.0))
    with known.connect() as connection:
        was = read_live_reference(connection, "router", "v1", "none").first
    assert was is not None
    assert (was.rows, was.first_seq, was.last_seq) == (1080, 1, 1080)  # 90 rows an hour
    with known.begin() as connection:
        connection.execute(delete(predictions).where(predictions.c.seq <= 1000))
    add(known, rows(1100, first=1090, every_s=40.0))
    with known.connect() as connection:
        now = read_live_reference(connection, "router", "v1", "none").first
    assert now is not None
    assert (now.rows, now.last_seq) == (was.rows, was.last_seq)
    assert now.strata[0].tolist() == was.strata[0].tolist()


def test_answers_are_counted_right_and_wrong_as_their_labels_come(known: Engine) -> None:
    made = rows(6)
    add(known, made)
    with known.begin() as connection:
        for number, row in enumerate(made[:5]):
            given = row.label if number < 3 else "another"
            connection.execute(insert(labels).values(prediction_id=row.id, label=given, source="", at=0.0))
    with known.connect() as connection:
        found = read_answers(connection, "router", "v1", after_label_seq=0)
        later = read_answers(connection, "router", "v1", after_label_seq=4)
        none = read_answers(connection, "router", "v1", after_label_seq=5)
    assert (found.strata[0].tolist(), found.rows, found.accuracy) == ([2, 3], 5, 0.6)
    assert (later.rows, later.last_seq) == (1, 5)
    assert (none.rows, none.last_seq, none.accuracy) == (0, 5, None)


def test_the_first_whole_day_becomes_the_reference_of_the_hours_and_is_never_bet_on(known: Engine) -> None:
    add(known, rows(25 * 60, every_s=60.0))
    assert not freeze_season(known, "router", "v1", "hour-of-week", now=1e9)
    assert freeze_season(known, "router", "v1", "hour-of-day", now=1e9)
    with known.connect() as connection:
        frozen = read_live_reference(connection, "router", "v1", "hour-of-day")
    assert frozen.complete
    assert frozen.last_seq == 24 * 60
    held = frozen.of("similarity")
    assert len(held) == 24
    assert {int(cells.sum()) for cells in held.values()} == {60}
    assert np.sum(list(held.values()), axis=0).tolist() == _similarity(known, 24 * 60)
    add(known, rows(60 * 24, first=25 * 60, every_s=60.0))
    assert freeze_season(known, "router", "v1", "hour-of-day", now=2e9)
    with known.connect() as connection:
        assert read_live_reference(connection, "router", "v1", "hour-of-day").last_seq == 24 * 60


def _similarity(db: Engine, rows_: int) -> list[int]:
    return counted(db, 1, rows_)[sketch_of(db).places["similarity"]]


def test_before_the_season_is_complete_there_is_nothing_to_bet_against(known: Engine) -> None:
    add(known, rows(100))
    with known.connect() as connection:
        reference = read_live_reference(connection, "router", "v1", "hour-of-day")
    assert not reference.complete
    detector = next(one for one in bettors() if one.name == "similarity")
    assert open_wealth(detector, reference).log_e == 0


def test_a_stratum_with_too_few_rows_is_not_bet_on(known: Engine) -> None:
    add(known, rows(2 * 1440 // 6, every_s=360.0))  # ten rows an hour
    assert freeze_season(known, "router", "v1", "hour-of-day", now=1e9)
    with known.connect() as connection:
        reference = read_live_reference(connection, "router", "v1", "hour-of-day")
    detector = next(one for one in bettors() if one.name == "similarity")
    assert set(open_wealth(detector, reference).m) == {(11,)}


def test_catching_up_twice_counts_nothing_twice(known: Engine) -> None:
    add(known, rows(10))
    with known.begin() as connection:
        connection.execute(delete(blocks))
    assert [catch_up(known, "router", "v1") for _ in range(2)] == [10, 0]
    with known.connect() as connection:
        assert connection.execute(select(blocks.c.rows)).scalars().all() == [10]
