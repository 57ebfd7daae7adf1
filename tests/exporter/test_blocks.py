from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, insert, select

from exporter.blocks import HOUR_S, ROWS, catch_up, cuts, rebuild
from exporter.descriptors import describe
from exporter.loader import store
from exporter.prediction import Prediction, columns
from exporter.registration import register
from exporter.sketches import read_sketch
from exporter.tables import blocks, predictions
from tests.exporter.rows import prediction
from tests.exporter.versions import build_version

START = 1.7e9 // HOUR_S * HOUR_S


@pytest.fixture
def known(db: Engine, tmp_path: Path) -> Engine:
    """A database that knows version v1 of "router"."""
    register(db, tmp_path, build_version(tmp_path / "built", holdout_rows=80), threads=1, now=1e9)
    return db


def rows(count: int, *, first: int = 0, every_s: float = 1.0, version: str = "v1") -> list[Prediction]:
    rng = np.random.default_rng(first)
    described = describe("please help with my card, card lost")
    return [
        prediction(
            number,
            id=f"{version}-{number}",
            version=version,
            at=START + number * every_s,
            label=str(rng.choice(["yes", "no", "maybe"])),
            score=float(rng.random()),
            similarity=float(rng.random()),
            embedding=rng.normal(size=16).astype("<f2").tobytes(),
            descriptors=described.numbers,
            words=described.words,
        )
        for number in range(first, first + count)
    ]


def add(db: Engine, made: list[Prediction]) -> None:
    with db.begin() as connection:
        store(connection, made)


def held(db: Engine, version: str = "v1") -> list[tuple[int, int, int, int, bytes]]:
    query = select(blocks.c.first_seq, blocks.c.last_seq, blocks.c.rows, blocks.c.hour, blocks.c.counts)
    with db.connect() as connection:
        found = connection.execute(query.where(blocks.c.version == version).order_by(blocks.c.first_seq))
        return [tuple(row) for row in found]


def test_batches_fill_blocks_of_a_hundred_rows_whatever_their_size(known: Engine) -> None:
    made = rows(250)
    for start, end in ((0, 1), (1, 90), (90, 130), (130, 131), (131, 250)):
        add(known, made[start:end])
    assert [(first, last, size) for first, last, size, _, _ in held(known)] == [
        (1, 100, 100),
        (101, 200, 100),
        (201, 250, 50),
    ]


def test_blocks_add_up_to_the_rows_counted_together(known: Engine) -> None:
    made = rows(130)
    add(known, made[:60])
    add(known, made[60:])
    with known.connect() as connection:
        sketch = read_sketch(connection, "router", "v1")
    assert sketch is not None
    total = np.sum([np.frombuffer(counts, dtype=np.uint8) for *_, counts in held(known)], axis=0)
    assert (total == sketch.count(sketch.place(made))).all()


def test_a_block_never_holds_rows_of_two_hours(known: Engine) -> None:
    add(known, rows(90, every_s=60.0))
    assert [(size, (hour - START) / HOUR_S) for _, _, size, hour, _ in held(known)] == [(60, 0), (30, 1)]


def test_late_rows_have_a_block_of_their_own_hour(known: Engine) -> None:
    add(known, rows(10, first=4000))
    add(known, rows(5))
    add(known, rows(5, first=4010))
    assert [(size, (hour - START) / HOUR_S) for _, _, size, hour, _ in held(known)] == [
        (10, 1),
        (5, 0),
        (5, 1),
    ]


def test_versions_are_counted_apart_and_those_without_a_reference_not_at_all(known: Engine) -> None:
    add(known, [*rows(10), *rows(10, version="v2"), *rows(10, first=10)])
    assert [(first, last, size) for first, last, size, _, _ in held(known)] == [(1, 30, 20)]
    assert held(known, "v2") == []


def test_rows_that_came_another_way_are_counted_later_and_none_is_left_out(known: Engine) -> None:
    made = rows(330)
    add(known, made[:20])
    with known.begin() as connection:
        connection.execute(insert(predictions), [columns(row) for row in made[20:250]])
    add(known, made[250:])
    assert [size for _, _, size, _, _ in held(known)] == [20]
    assert catch_up(known, "router", "v1") == 310
    assert catch_up(known, "router", "v1") == 0
    assert [size for _, _, size, _, _ in held(known)] == [100, 100, 100, 30]


def test_a_rebuild_gives_the_same_blocks(known: Engine) -> None:
    for start in range(0, 400, 80):
        add(known, rows(80, first=start, every_s=20.0))
    before = held(known)
    with known.begin() as connection:
        connection.execute(blocks.update().where(blocks.c.first_seq == 1).values(counts=b"broken"))
    assert rebuild(known, "router", "v1") == 400
    assert held(known) == before


def test_embedding_sums_of_merged_blocks_are_those_of_their_rows(known: Engine) -> None:
    made = rows(40)
    add(known, made[:15])
    add(known, made[15:])
    with known.connect() as connection:
        packed = connection.execute(select(blocks.c.embedding_sum)).scalar_one()
    vectors = np.stack([np.frombuffer(row.embedding, dtype="<f2") for row in made]).astype(float)
    np.testing.assert_allclose(np.frombuffer(packed, dtype="<f4"), vectors.sum(axis=0), atol=1e-3)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=400), st.integers(0, ROWS - 1), st.integers(0, 2))
@settings(deadline=None)
def test_parts_cover_the_batch_once_and_no_part_is_too_large(hours: list[int], held: int, open_: int) -> None:
    parts = list(cuts(hours, held, open_))
    assert [number for start, end in parts for number in range(start, end)] == list(range(len(hours)))
    for number, (start, end) in enumerate(parts):
        assert len(set(hours[start:end])) == 1
        room = ROWS - held if number == 0 and hours[0] == open_ else ROWS
        assert 0 < end - start <= room
