"""What recording costs: `python -m tests.benchmarks.ledger_cost [--rows N] [--server-ms MS]`, JSON lines.

Foreground is what a reply waits for (row, encoding, one write), background the loader's processor time: of
many rows at once, and of passes that find PASS of them. On PostgreSQL the server's is left out. `--server-ms`
is the processor time of one request, to put both into a share.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, delete, func, insert, select

from exporter import inserting
from exporter.ledger import Ledger
from exporter.loader import load_once
from exporter.prediction import Prediction, columns
from exporter.tables import predictions
from tests.benchmarks.endurance import homes
from tests.exporter.rows import prediction
from tests.exporter.versions import HIDDEN

PASS = 60  # rows that half a second brings at 120 requests/s
TEXT = "The quick brown fox asks the help desk why its parcel has not come yet, and when it will. " * 3


def rows(count: int, first: int, *, hidden: int = 384) -> list[Prediction]:
    """As the real encoder's: 384 numbers of embedding, 4 labels, 300 characters, descriptors, words."""
    words = np.random.default_rng(0).integers(0, 4096, size=50).astype("<u2").tobytes()
    return [
        prediction(
            number,
            id=f"{number:032x}",
            text=TEXT,
            embedding=bytes(2 * hidden),
            words=words,
            scores=(0.9, 0.05, 0.03, 0.02),
            descriptors=(0.2, 0.1, 0),
        )
        for number in range(first, first + count)
    ]


def foreground(folder: Path, batch: int, durability: Any) -> float:
    """Median microseconds a record of one append."""
    writer = Ledger(folder, f"w{batch}{durability}", durability=durability, segment_bytes=1 << 26)
    found, took = rows(batch, 0), []
    for _ in range(500):
        began = time.perf_counter()
        writer.append(found)
        took.append((time.perf_counter() - began) / batch)
    writer.close()
    return median(took) * 1e6


def background(db: Engine, folder: Path, count: int) -> float:
    """Microseconds of processor a record, from the ledger to the database with rollups and blocks."""
    writer = Ledger(folder, "loaded", durability="process", segment_bytes=1 << 26)
    for first in range(0, count, 16):
        writer.append(rows(16, first, hidden=HIDDEN))  # of the version whose blocks are counted
    writer.close()
    began = time.process_time()
    loaded = load_once(db, folder)
    return (time.process_time() - began) / loaded * 1e6


def passes(db: Engine, folder: Path) -> float:
    """Median microseconds of processor a record, where a pass of the loader finds PASS of them."""
    writer, took = Ledger(folder, "passes", durability="process", segment_bytes=1 << 26), []
    for number in range(20):
        for first in range(0, PASS, 15):
            writer.append(rows(15, 2_000_000 + 1000 * number + first, hidden=HIDDEN))
        began = time.process_time()
        assert load_once(db, folder) == PASS
        took.append((time.process_time() - began) / PASS)
    writer.close()
    return median(took) * 1e6


def inserted(
    db: Engine, count: int, way: Callable[[Connection, list[Prediction]], object]
) -> tuple[float, float]:
    """(wall, processor) microseconds a row of storing alone."""
    found = rows(count, 1_000_000)
    with db.begin() as connection:
        connection.execute(delete(predictions))
        began, spent = time.perf_counter(), time.process_time()
        way(connection, found)
        took = time.perf_counter() - began, time.process_time() - spent
        assert connection.scalar(select(func.count()).select_from(predictions)) == count
        connection.rollback()
    return took[0] / count * 1e6, took[1] / count * 1e6


def _many(connection: Connection, found: list[Prediction]) -> None:
    connection.execute(insert(predictions), [columns(row) for row in found])


def main(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for durability in ("process", "power"):
            line: dict[str, Any] = {"foreground_us": durability}
            for batch in (1, 16):
                line[f"batch_{batch}"] = round(foreground(Path(folder), batch, durability), 2)
            print(json.dumps(line), flush=True)
    for database in ("sqlite", "postgresql"):
        with homes(database) as (home, db):
            for count, spent in (
                (arguments.rows, background(db, home / "ledger", arguments.rows)),
                (PASS, passes(db, home / "ledger")),
            ):
                line = {"background_us": database, "rows": count, "cpu": round(spent, 1)}
                if arguments.server_ms:
                    line["share_of_server_cpu"] = round(spent / arguments.server_ms / 1e3, 4)
                print(json.dumps(line), flush=True)
            for name, way in (("insert many", _many), ("ours", inserting.insert_predictions)):
                wall, cpu = inserted(db, arguments.rows, way)
                told = {"stored_us": database, "by": name, "wall": round(wall, 1), "cpu": round(cpu, 1)}
                print(json.dumps(told), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--server-ms", type=float, default=0.0)
    main(parser.parse_args())
