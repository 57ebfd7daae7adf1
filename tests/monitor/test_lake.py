from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from sqlalchemy import Engine, insert, select

from exporter import registry
from exporter.labels import record_labels
from exporter.loader import store
from exporter.tables import predictions, sealed_days
from monitor.housekeeping import clean
from monitor.lake import days, seal
from monitor.lake.files import LakeFileError
from monitor.quality.requests import next_labels
from monitor.settings import MonitorSettings
from monitor.tables import checks, label_requests
from tests.exporter.rows import prediction
from tests.exporter.versions import build_version

DAY = 86400.0
START = 1.7e9 // DAY * DAY  # 2023-11-14
STEPS = (
    ("files.write", 1),
    ("files.compare", 1),
    ("days.record", 1),
    ("files.place", 1),
    ("rows.remove", 1),
    ("rows.brief", 2),  # some rows are gone, some are not
    ("files.sweep", 1),
    ("days.close", 1),
)


@pytest.fixture
def filled(db: Engine, tmp_path: Path) -> Engine:
    """Four days of ten rows of a version that served; the third row of each day has a label."""
    registry.register(db, tmp_path, build_version(tmp_path / "built"), threads=1, now=1e9)
    with db.begin() as connection:
        store(connection, [row(day, number) for day in range(4) for number in range(10)])
    record_labels(db, [(id_of(day, 2), "yes") for day in range(4)], source="test", now=1.0)
    return db


def id_of(day: int, number: int) -> str:
    """As recording.prediction_id makes them, but for the random part."""
    return f"{int((START + day * DAY + number) * 1e3):012x}{number:020x}"


def row(day: int, number: int, **changes: object):  # type: ignore[no-untyped-def]
    return prediction(number, id=id_of(day, number), at=START + day * DAY + number, **changes)


def in_database(db: Engine) -> set[str]:
    with db.connect() as connection:
        return set(connection.scalars(select(predictions.c.id)))


def in_lake(lake: Path) -> list[str]:
    if not any(lake.glob("*/*/*.parquet")):
        return []
    found = duckdb.execute("select id from read_parquet(?) order by seq", [f"{lake}/*/*/*.parquet"])
    return [id_ for (id_,) in found.fetchall()]


EVERY = {id_of(day, number) for day in range(4) for number in range(10)}
LABELLED = {id_of(day, 2) for day in range(4)}


def test_whole_old_days_move_and_labelled_rows_stay(filled: Engine, tmp_path: Path) -> None:
    assert seal(filled, tmp_path / "lake", before=START + 2.5 * DAY) == 18
    moved = {id_of(day, number) for day in range(2) for number in range(10)} - LABELLED
    assert in_database(filled) == EVERY - moved
    assert set(in_lake(tmp_path / "lake")) == moved
    names = sorted(path.name for path in (tmp_path / "lake/router/v1").iterdir())
    assert names == ["2023-11-14.parquet", "2023-11-15.parquet"]
    assert seal(filled, tmp_path / "lake", before=START + 2.5 * DAY) == 0


def test_a_file_holds_every_column_as_it_was(filled: Engine, tmp_path: Path) -> None:
    query = select(predictions).where(predictions.c.id == id_of(0, 1))
    with filled.connect() as connection:
        was = dict(connection.execute(query).mappings().one())
    seal(filled, tmp_path / "lake", before=START + DAY)
    file = tmp_path / "lake/router/v1/2023-11-14.parquet"
    found = duckdb.execute("select * from read_parquet(?) where id = ?", [str(file), id_of(0, 1)])
    names = [column[0] for column in found.description or ()]
    values = dict(zip(names, found.fetchone() or (), strict=True))
    lists = {"scores": "[0.75, 0.25]", "metadata": '{"region": "eu", "vip": true}', "descriptors": None}
    assert values == was | lists


def test_a_label_for_a_sealed_prediction_is_told_so(filled: Engine, tmp_path: Path) -> None:
    seal(filled, tmp_path / "lake", before=START + DAY)
    rows = [
        (id_of(0, 1), "yes"),
        (id_of(0, 2), "yes"),
        (id_of(0, 2), "no"),
        (id_of(1, 1), "yes"),
        ("x", "yes"),
    ]
    outcomes = record_labels(filled, rows, source="test", now=2.0)
    assert [(one.status, one.code) for one in outcomes] == [
        ("error", "sealed"),
        ("duplicate", None),
        ("error", "conflict"),
        ("stored", None),
        ("error", "unknown_id"),
    ]


def test_no_label_comes_between_the_file_and_the_removal(
    filled: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = []

    def remove(db: Engine, groups: object) -> int:
        (outcome,) = record_labels(db, [(id_of(0, 1), "yes")], source="test", now=2.0)
        codes.append(outcome.code)
        return 0

    monkeypatch.setattr("monitor.lake.rows.remove", remove)
    oldest = iter([START, float("inf")])
    monkeypatch.setattr("monitor.lake.oldest_unsealed", lambda *_: next(oldest))
    seal(filled, tmp_path / "lake", before=START + DAY)
    assert codes == ["sealed"]


def test_rows_that_come_late_are_another_part(filled: Engine, tmp_path: Path) -> None:
    seal(filled, tmp_path / "lake", before=START + DAY)
    with filled.begin() as connection:
        store(connection, [row(0, 77)])
    assert seal(filled, tmp_path / "lake", before=START + DAY) == 1
    assert (tmp_path / "lake/router/v1/2023-11-14.1.parquet").exists()
    assert in_lake(tmp_path / "lake")[-1] == id_of(0, 77)


def test_rows_drawn_for_a_label_stay(filled: Engine, tmp_path: Path) -> None:
    drawn = {
        "prediction_id": id_of(0, 5), "model": "router", "version": "v1", "strategy": "uniform",
        "probability": 0.1, "draw": "d", "first_seq": 1, "last_seq": 40, "rate": 0.1, "at": 1.0,
    }  # fmt: skip
    with filled.begin() as connection:
        connection.execute(insert(label_requests).values(**drawn))
    assert seal(filled, tmp_path / "lake", before=START + DAY) == 8
    assert id_of(0, 5) in in_database(filled)


def test_no_row_of_a_day_that_is_being_sealed_is_drawn(filled: Engine, tmp_path: Path) -> None:
    days.mark(filled, "router", "v1", at=START, until_seq=40)
    drawn = {one.id for one in next_labels(filled, "router", "v1", 40, 1, now=1.0)}
    assert drawn == EVERY - LABELLED - {id_of(0, number) for number in range(10)}


@pytest.mark.parametrize(("windows", "moved"), [(0, 0), (19, 0), (20, 18)])
def test_of_a_version_that_serves_only_rows_before_its_last_windows_move(
    windows: int, moved: int, filled: Engine, tmp_path: Path
) -> None:
    assert registry.promote(filled, "router", "v1", expected=None, reason="r", actor="a")
    judged = {
        "model": "router", "version": "v1", "state": "ok", "first_seq": 21, "last_seq": 22,
        "last_label_seq": 0, "rows": 2, "labelled": 0, "paged": False, "at": 1.0,
    }  # fmt: skip
    with filled.begin() as connection:
        connection.execute(insert(checks), [judged] * windows or [judged | {"first_seq": None}])
    assert seal(filled, tmp_path / "lake", before=START + 9 * DAY) == moved


def test_a_damaged_file_costs_no_row(filled: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.lake.files.place", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        seal(filled, tmp_path / "lake", before=START + DAY)
    monkeypatch.undo()
    (written,) = (tmp_path / "lake/router/v1").iterdir()
    written.write_bytes(written.read_bytes()[:-9])
    with pytest.raises(LakeFileError, match="was changed"):
        seal(filled, tmp_path / "lake", before=START + DAY)
    assert in_database(filled) == EVERY


def test_two_that_seal_one_day_at_once_leave_one_file(
    filled: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monitor.lake import days

    def record(db: Engine, day: days.Day) -> days.Day:
        monkeypatch.undo()
        seal(db, tmp_path / "lake", before=START + DAY)  # the other is faster
        return days.record(db, day)

    monkeypatch.setattr("monitor.lake.days.record", record)
    seal(filled, tmp_path / "lake", before=START + DAY)
    assert len(in_lake(tmp_path / "lake")) == 9
    assert len(list((tmp_path / "lake/router/v1").iterdir())) == 1
    with filled.connect() as connection:
        assert connection.scalars(select(sealed_days.c.state)).all() == ["sealed"]


@pytest.mark.parametrize(("step", "call"), STEPS)
def test_whoever_dies_at_a_step_loses_and_doubles_nothing(
    step: str, call: int, filled: Engine, tmp_path: Path
) -> None:
    lake, url = tmp_path / "lake", filled.url.render_as_string(hide_password=False)
    given = [url, str(lake), str(START + DAY), step, str(call)]
    command = [sys.executable, "-m", "tests.monitor.dying_sealer", *given]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL
    assert in_database(filled) | set(in_lake(lake)) == EVERY
    seal(filled, lake, before=START + DAY)
    assert in_database(filled) == EVERY - set(in_lake(lake))
    assert sorted(in_lake(lake)) == sorted({id_of(0, number) for number in range(10)} - LABELLED)
    assert [path.name for path in (lake / "router/v1").iterdir()] == ["2023-11-14.parquet"]


def test_housekeeping_fills_the_lake_only_where_there_is_one(filled: Engine, tmp_path: Path) -> None:
    now = START + 3 * DAY
    none = clean(filled, tmp_path, MonitorSettings(keep_predictions=DAY), now=now)
    some = clean(filled, tmp_path, MonitorSettings(keep_predictions=DAY, lake=Path("lake")), now=now)
    assert (none.predictions, some.predictions) == (0, 18)
    assert len(in_lake(tmp_path / "lake")) == 18


@pytest.mark.parametrize(("kept", "days_left"), [(25, 2), (20, 2), (19, 1), (5, 1), (40, 4), (0, 4)])
def test_beyond_so_many_rows_whole_days_move_whatever_their_age(
    filled: Engine, tmp_path: Path, kept: int, days_left: int
) -> None:
    settings = MonitorSettings(lake=Path("lake"), keep_predictions=1000 * DAY, keep_rows=kept)
    clean(filled, tmp_path, settings, now=START + 3.5 * DAY)
    first = 4 - days_left
    left = {id_of(day, number) for day in range(first, 4) for number in range(10)}
    assert in_database(filled) == left | LABELLED
