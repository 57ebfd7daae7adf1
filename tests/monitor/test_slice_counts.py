from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import Engine, insert, select

from exporter.blocks import catch_up, rebuild
from exporter.prediction import Metadata, Prediction, columns
from exporter.sketches import read_sketch, slice_by
from exporter.slices import MOST_VALUES, name_slice, pack, unpack
from exporter.tables import blocks, predictions
from monitor.tallies import Span, Tally, read_tally
from tests.exporter.test_blocks import add, known, rows

__all__ = ["known"]
LANGUAGES = ("de", "en", "es")


def sliced(count: int, *, first: int = 0, values: Sequence[str] = LANGUAGES) -> list[Prediction]:
    rng = np.random.default_rng(first)
    metadata: list[Metadata] = [
        {"language": values[int(rng.integers(len(values)))], "vip": bool(rng.integers(2)), "load": 0.5}
        for _ in range(count)
    ]
    return [replace(row, metadata=own) for row, own in zip(rows(count, first=first), metadata, strict=True)]


def read(db: Engine, *, after: int = 0, take: int) -> Tally:
    with db.connect() as connection:
        sketch = read_sketch(connection, "router", "v1")
        assert sketch is not None
        span = Span(sketch=sketch, model="router", version="v1", after_seq=after, sliced=True)
        found = read_tally(connection, span, rows=take)
    assert found is not None
    return found


def sizes(tally: Tally) -> dict[str, int]:
    """Rows of every slice, by their labels: three classes at the end of its cells."""
    return {name: int(cells[-3:].sum()) for name, strata in tally.slices.items() for cells in strata.values()}


def by_value(made: Sequence[Prediction], key: str) -> dict[str, int]:
    return dict(Counter(f"{key}={row.metadata[key]}" for row in made))


def test_rows_are_counted_by_slice_as_they_come_in_batches_of_any_size(known: Engine) -> None:
    slice_by(known, "router", "v1", ["language", "vip", "load"])
    made = sliced(250)
    for start, end in ((0, 1), (1, 90), (90, 130), (130, 131), (131, 250)):
        add(known, made[start:end])
    found = read(known, take=250)
    assert sizes(found) == by_value(made, "language") | by_value(made, "vip")
    own = [
        cells
        for name, strata in found.slices.items()
        if name.startswith("language=")
        for cells in strata.values()
    ]
    sketch_cells = np.concatenate(
        [found.strata[0][found.places[name]] for name in ("similarity", "confidence", "label")]
    )
    assert np.sum(own, axis=0).tolist() == sketch_cells.tolist()


@pytest.mark.parametrize(("after", "take"), [(0, 1), (99, 2), (37, 130), (100, 100), (249, 1)])
def test_a_window_of_any_place_holds_exactly_its_slices(known: Engine, after: int, take: int) -> None:
    slice_by(known, "router", "v1", ["language"])
    made = sliced(250)
    add(known, made)
    assert sizes(read(known, after=after, take=take)) == by_value(made[after : after + take], "language")


def test_values_beyond_the_first_nine_are_one_slice(known: Engine) -> None:
    slice_by(known, "router", "v1", ["language"])
    made = [replace(row, metadata={"language": f"l{row.id[3:]}"}) for row in rows(120)]
    add(known, made[:60])
    add(known, made[60:])
    first = {f"language=l{number}": 1 for number in range(MOST_VALUES)}
    assert sizes(read(known, take=120)) == first | {"language=other": 120 - MOST_VALUES}
    assert sizes(read(known, after=110, take=5)) == {"language=other": 5}


@pytest.mark.parametrize(
    "value", ["", "x" * 65, "line\nbreak", "\x1b[31m", "other", "@all", "<!channel>", "https://evil.example"]
)
def test_a_value_that_must_not_be_shown_is_one_of_the_others(value: str) -> None:
    assert name_slice("language", value, []) == "language=other"


def test_without_slices_nothing_is_counted_or_stored(known: Engine) -> None:
    add(known, sliced(150))
    with known.connect() as connection:
        stored = connection.execute(select(blocks.c.slices, blocks.c.slice_counts)).all()
    assert {tuple(row) for row in stored} == {(None, None)}
    assert read(known, take=150).slices == {}


def test_rows_that_came_another_way_and_a_rebuild_are_counted_by_slice_too(known: Engine) -> None:
    made = sliced(330)
    add(known, made[:20])  # before the user named slices
    slice_by(known, "router", "v1", ["language"])
    with known.begin() as connection:
        connection.execute(insert(predictions), [columns(row) for row in made[20:250]])
    add(known, made[250:])
    assert catch_up(known, "router", "v1") == 310
    assert sizes(read(known, after=20, take=310)) == by_value(made[20:], "language")
    rebuild(known, "router", "v1")
    assert sizes(read(known, take=330)) == by_value(made, "language")


def test_other_keys_are_counted_from_the_next_row_on(known: Engine) -> None:
    made = sliced(150)
    slice_by(known, "router", "v1", ["language"])
    add(known, made[:50])
    slice_by(known, "router", "v1", ["vip"])
    add(known, made[50:])
    assert sizes(read(known, take=150)) == by_value(made[50:], "vip")


def test_what_is_packed_is_what_comes_back() -> None:
    counts = {"language=de": np.array([0, 100, 3]), "language=é": np.array([1, 0, 0])}
    packed = pack(counts)
    found = unpack(packed["slices"], packed["slice_counts"])
    assert {name: cells.tolist() for name, cells in found.items()} == {
        "language=de": [0, 100, 3],
        "language=é": [1, 0, 0],
    }
    assert unpack(*pack({}).values()) == {}
