from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import traceback
from base64 import b64encode
from dataclasses import asdict
from pathlib import Path

import pytest
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import OperationalError

from exporter.inserting import _copy, insert_predictions
from exporter.ledger import frame
from exporter.loader import Loader, load_once
from exporter.prediction import Prediction, decode, encode
from exporter.tables import ledger_positions, predictions, rollups
from tests.exporter.rows import closed_segment, ledger, only_segment, prediction


def stored(db: Engine) -> list[str]:
    with db.connect() as connection:
        return list(connection.scalars(select(predictions.c.id).order_by(predictions.c.seq)))


def test_loading_takes_new_rows_once_and_leaves_a_living_segment(tmp_path: Path, db: Engine) -> None:
    writer = ledger(tmp_path / "ledger")
    writer.append([prediction(0)])
    assert load_once(db, tmp_path / "ledger") == 1
    assert load_once(db, tmp_path / "ledger") == 0
    writer.append([prediction(1), prediction(2)])
    assert load_once(db, tmp_path / "ledger") == 2
    assert stored(db) == ["p0", "p1", "p2"]
    assert only_segment(tmp_path / "ledger").exists()
    writer.close()


def test_a_half_written_frame_of_a_living_writer_is_waited_for(tmp_path: Path, sqlite_db: Engine) -> None:
    folder = tmp_path / "ledger"
    writer = ledger(folder)
    writer.append([prediction(0)])
    data = frame(encode([prediction(1)]))
    with only_segment(folder).open("ab") as file:
        file.write(data[:30])
    assert load_once(sqlite_db, folder) == 1
    with only_segment(folder).open("ab") as file:
        file.write(data[30:])
    assert load_once(sqlite_db, folder) == 1
    assert stored(sqlite_db) == ["p0", "p1"]
    writer.close()


def test_a_dead_writers_torn_tail_is_dropped_and_its_folder_removed(
    tmp_path: Path, db: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "ledger"
    path = closed_segment(folder)
    os.truncate(path, path.stat().st_size - 1)
    told: list[str] = []
    assert load_once(db, folder, damaged=told.append) == 4
    assert told == ["torn"]
    assert stored(db) == ["p0", "p1", "p2", "p3"]
    assert "ledger_tail_torn" in "".join(capsys.readouterr())
    assert list(folder.iterdir()) == []


def test_damaged_bytes_are_set_aside(tmp_path: Path, sqlite_db: Engine) -> None:
    folder = tmp_path / "ledger"
    path = closed_segment(folder)
    content = bytearray(path.read_bytes())
    content[20] ^= 0xFF
    path.write_bytes(content)
    told: list[str] = []
    assert load_once(sqlite_db, folder, damaged=told.append) == 4
    assert told == ["damaged"]
    (kept,) = (folder / ".damaged").iterdir()
    assert kept.read_bytes() == content[: kept.stat().st_size]


def test_a_crash_between_commit_and_removal_doubles_nothing(tmp_path: Path, db: Engine) -> None:
    folder = tmp_path / "ledger"
    path = closed_segment(folder)
    content = path.read_bytes()
    assert load_once(db, folder) == 6
    path.parent.mkdir()
    path.write_bytes(content)  # as if the removal had not reached the disk
    assert load_once(db, folder) == 0
    assert not path.exists()
    assert len(stored(db)) == 6


def test_rows_rollups_and_position_are_written_together(tmp_path: Path, db: Engine) -> None:
    folder = tmp_path / "ledger"
    writer = ledger(folder)
    writer.append([prediction(0), prediction(1, label="no"), prediction(2)])
    load_once(db, folder)
    writer.append([prediction(3)])
    load_once(db, folder)
    writer.close()
    counted = select(rollups.c.bin, rollups.c.rows).where(rollups.c.series == "label")
    with db.connect() as connection:
        assert dict(connection.execute(counted).all()) == {"yes": 3, "no": 1}
        by_series = select(rollups.c.series, func.sum(rollups.c.rows)).group_by(rollups.c.series)
        totals = dict(connection.execute(by_series).all())
        position = connection.scalar(select(ledger_positions.c.position))
    series = ("label", "confidence", "label_confidence", "similarity", "tokens")
    assert totals == dict.fromkeys(series, 4)
    assert position == only_segment(folder).stat().st_size


def test_labels_of_places_are_counted_by_their_kinds_and_long_ones_are_loaded(
    tmp_path: Path, db: Engine
) -> None:
    """Nearly every text has other places: a row a text for ever, and keys longer than PostgreSQL takes."""
    draw, names = random.Random(0), [f"{number:032x}" for number in range(200)]
    places = sorted(draw.sample(range(10**6), 800))
    entities = [
        json.dumps([[start, start + 1, kind] for start, kind in zip(places[first:], names, strict=False)])
        for first in range(2)
    ]
    writer = ledger(tmp_path / "ledger")
    writer.append([prediction(0, label=entities[0]), prediction(1, label=entities[1])])
    writer.append([prediction(2, label='[[0, 4, "city"]]'), prediction(3, label='[[2, 9, "city"]]')])
    writer.close()
    assert load_once(db, tmp_path / "ledger") == 4
    counted = select(rollups.c.bin, rollups.c.rows).where(rollups.c.series == "label")
    with db.connect() as connection:
        bins = dict(connection.execute(counted).all())
    assert bins.pop('["city"]') == 2
    assert list(bins.values()) == [2]


LOADER = """
import sys
from pathlib import Path
from exporter.database import open_database
from exporter.loader import load_once
db = open_database(sys.argv[1])
print("go", flush=True)
while True:
    load_once(db, Path(sys.argv[2]))
"""


def test_loaders_killed_at_any_time_lose_and_double_nothing(tmp_path: Path, db: Engine) -> None:
    folder = tmp_path / "ledger"
    writer = ledger(folder, segment_bytes=20_000)
    url = db.url.render_as_string(hide_password=False)
    root = Path(__file__).resolve().parents[2]
    number = 0
    for kill in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", LOADER, url, str(folder)],
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(root)},
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        child.stdout.readline()
        for _ in range(60 * (kill + 1)):
            writer.append([prediction(number), prediction(number + 1)])
            number += 2
        child.kill()
        child.wait()
        child.stdout.close()
    writer.close()
    load_once(db, folder)
    assert stored(db) == [f"p{n}" for n in range(number)]


BYTES = list(Prediction.__dataclass_fields__).index("embedding")


def test_rows_of_earlier_releases_ledgers_are_read_too() -> None:
    later = ("generation", "parts")
    row = [value for name, value in asdict(prediction(1)).items() if name not in later]
    row[BYTES] = b64encode(row[BYTES]).decode()
    assert decode(json.dumps([row[:-2]]).encode()) == [prediction(1)]
    assert decode(json.dumps([row]).encode()) == [prediction(1)]


SECRET = "a client's own words"


def test_a_copy_that_fails_tells_its_kind_and_no_row(
    tmp_path: Path, db: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    if db.dialect.name != "postgresql":
        pytest.skip("COPY is PostgreSQL's")
    raises = (
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = '53100'; END $$"
    )
    on_insert = "CREATE TRIGGER one BEFORE INSERT ON predictions FOR EACH ROW EXECUTE FUNCTION full_disk()"
    with db.begin() as connection:
        connection.execute(text(raises))
        connection.execute(text(on_insert))
    writer = ledger(tmp_path / "ledger")
    writer.append([prediction(0, text=SECRET)])
    Loader(db, tmp_path / "ledger", interval_s=60).run_once()
    said = capsys.readouterr()
    assert "ledger_not_loaded" in said.out + said.err
    assert SECRET not in said.out + said.err
    with db.begin() as connection, pytest.raises(OperationalError, match="DiskFull") as failed:
        insert_predictions(connection, [prediction(0, text=SECRET)])
    assert SECRET not in "".join(traceback.format_exception(failed.value))
    with db.begin() as connection:
        connection.execute(text("DROP TRIGGER one ON predictions"))
    assert load_once(db, tmp_path / "ledger") == 1
    writer.close()


def test_a_connection_lost_before_a_copy_is_replaced(tmp_path: Path, db: Engine) -> None:
    if db.dialect.name != "postgresql":
        pytest.skip("COPY is PostgreSQL's")

    def lose() -> None:
        with db.begin() as connection, db.begin() as other:
            own = connection.scalar(text("SELECT pg_backend_pid()"))
            other.execute(text("SELECT pg_terminate_backend(:own)"), {"own": own})
            _copy(connection, [prediction(1)])

    with pytest.raises(OperationalError):
        lose()
    writer = ledger(tmp_path / "ledger")
    writer.append([prediction(2)])
    assert load_once(db, tmp_path / "ledger") == 1
    assert stored(db) == ["p2"]
    writer.close()


def test_a_last_pass_that_fails_ends_the_loader_in_order(
    tmp_path: Path, sqlite_db: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(rows: int) -> None:
        raise ValueError(rows)

    writer = ledger(tmp_path / "ledger")
    writer.append([prediction(0)])
    loader = Loader(sqlite_db, tmp_path / "ledger", interval_s=60, loaded=refused)
    loader.start()
    loader.stop()
    said = capsys.readouterr()
    assert "ledger_loader_failed" in said.out + said.err
    writer.close()
