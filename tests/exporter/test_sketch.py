from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, select

from exporter.answered import Answered, columns_of
from exporter.profile import FITTED
from exporter.registration import register
from exporter.sketch import NUMBERS, SERIES, cells, edges_of, fit_sketch, from_bytes, gaps, to_bytes
from exporter.sketches import ReplayedRow, read_sketch, write_sketch
from exporter.tables import sketches
from monitor import ranks
from tests.exporter.versions import build_version
from tests.monitor.counted import NAMES, NEAREST, Sample, sample

VALUES = st.lists(st.floats(-3, 3, width=16), min_size=1, max_size=60)


def in_cells(reference: np.ndarray, rows: np.ndarray) -> tuple[ranks.Ints, ranks.Ints]:
    """Both samples, counted in the cells of the reference."""
    edges = edges_of(reference)
    size = 2 * edges.size + 1
    there, here = (np.bincount(cells(edges, found), minlength=size) for found in (reference, rows))
    return there, here


@given(VALUES, VALUES)
@settings(max_examples=200, deadline=None)
def test_counts_by_cells_are_the_counts_of_the_rows_where_nothing_is_tied(
    a: list[float], b: list[float]
) -> None:
    rng = np.random.default_rng(len(a))
    reference = np.array(a) + rng.random(len(a)) * 1e-6
    rows = np.array(b) + rng.random(len(b)) * 1e-6
    m = ranks.gaps(reference.size, "down")
    there, here = in_cells(reference, rows)
    by_cells = ranks.place(there, here, m, reference_seed=1, seed=2)
    assert by_cells.tolist() == ranks.count(reference, rows, m, reference_seed=3, seed=4)


@pytest.mark.parametrize("values", [2, 5, 40])
def test_counts_by_cells_have_the_law_of_the_rows_counts_where_rows_are_tied(values: int) -> None:
    rng = np.random.default_rng(values)
    reference, rows = (
        rng.integers(values, size=200).astype(float),
        rng.integers(values, size=90).astype(float),
    )
    m = ranks.gaps(200, "down")
    there, here = in_cells(reference, rows)
    by_cells = [ranks.place(there, here, m, reference_seed=k, seed=10_000 + k) for k in range(2000)]
    by_rows = [ranks.count(reference, rows, m, reference_seed=k, seed=20_000 + k) for k in range(2000)]
    drawn = {"cells": np.array(by_cells), "rows": np.array(by_rows)}
    means = {name: np.mean(found, axis=0) for name, found in drawn.items()}
    spread = np.sqrt(sum(np.var(found, axis=0) for found in drawn.values()) / 2000)
    assert (np.abs(means["cells"] - means["rows"]) <= 4.5 * spread + 1e-9).all()
    spreads = {name: np.std(found, axis=0) for name, found in drawn.items()}
    assert np.allclose(spreads["cells"], spreads["rows"], rtol=0.2, atol=0.05)


def test_a_row_is_counted_alike_alone_and_in_a_batch() -> None:
    sketch = fit_sketch(sample(300, 0).rows, sample(300, 0).truth, NAMES, nearest=NEAREST)
    rows = sample(50, 1).rows
    together = sketch.place(rows)
    alone = np.concatenate([sketch.place([row]) for row in rows])
    assert (together == alone).all()


def test_every_row_is_in_one_cell_of_every_series() -> None:
    sketch = fit_sketch(sample(300, 0).rows, sample(300, 0).truth, NAMES, nearest=NEAREST)
    counts = sketch.count(sketch.place(sample(80, 1).rows))
    assert {name: int(counts[sketch.places[name]].sum()) for name in SERIES} == dict.fromkeys(SERIES, 80)
    assert all(sketch.reference[name].sum() == (150 if name in FITTED else 300) for name in NUMBERS)


def test_rows_of_which_nothing_is_known_are_in_no_cell() -> None:
    sketch = fit_sketch(sample(300, 0).rows, sample(300, 0).truth, NAMES, nearest=NEAREST)
    row = ReplayedRow(label="nobody's", score=float("nan"), similarity=None, characters=3)
    counts = sketch.count(sketch.place([row]))
    found = {name for name in SERIES if counts[sketch.places[name]].any()}
    assert found == {"characters", "latency"}


def test_embeddings_of_another_length_are_no_embeddings() -> None:
    sketch = fit_sketch(sample(300, 0).rows, sample(300, 0).truth, NAMES, nearest=NEAREST)
    row = replace(sample(1, 1).rows[0], embedding=b"\x00\x3c" * 3)
    counts = sketch.count(sketch.place([row]))
    assert not counts[sketch.places["class_distance"]].any()
    assert counts[sketch.places["similarity"]].sum() == 1


def test_rows_that_made_the_profile_are_not_ranked_by_it() -> None:
    """They would lie nearer to their own mean than any new row can: e would grow on clean streams."""
    clean, cheating = [], []
    for seed in range(60):
        found = sample(160, seed)
        sketch = fit_sketch(found.rows, found.truth, NAMES)
        new = sketch.numbers(_answered(sample(200, 1000 + seed)))["class_distance"]
        old = sketch.numbers(_answered(found))["class_distance"]
        clean.append((new[:, None] > old[1::2]).mean())
        cheating.append((new[:, None] > old[::2]).mean())
    assert abs(np.mean(clean) - 0.5) < 4 * np.std(clean) / np.sqrt(60)
    assert np.mean(cheating) > 0.5 + 4 * np.std(cheating) / np.sqrt(60)


def _answered(found: Sample) -> Answered:
    return columns_of(found.rows, NAMES)


def test_a_sketch_survives_its_bytes_and_keeps_its_name() -> None:
    sketch = fit_sketch(sample(100, 0).rows, sample(100, 0).truth, NAMES, nearest=NEAREST)
    read = from_bytes(to_bytes(sketch))
    assert read.name == sketch.name != ""
    rows = sample(40, 3).rows
    assert (read.place(rows) == sketch.place(rows)).all()
    assert all((read.reference[name] == sketch.reference[name]).all() for name in sketch.reference)


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_a_tiny_hold_out_gives_a_sketch_too(rows: int) -> None:
    sketch = fit_sketch(sample(rows, 0).rows, sample(rows, 0).truth, NAMES, nearest=NEAREST)
    assert sketch.count(sketch.place(sample(5, 1).rows)).sum() > 0
    assert sketch.right.sum() + sketch.wrong.sum() == rows


@pytest.mark.parametrize("bins", ["ends", "even"])
def test_gaps_hold_every_reference_row(bins: str) -> None:
    assert all(sum(gaps(rows, bins)) == rows + 1 for rows in range(50))  # type: ignore[arg-type]


def test_registering_a_version_writes_its_sketch_once(db: Engine, tmp_path: Path) -> None:
    built = build_version(tmp_path / "built", holdout_rows=60)
    version = register(db, tmp_path / "home", built, threads=1, now=1e9)
    with db.connect() as connection:
        sketch = read_sketch(connection, "router", version)
        assert connection.scalar(select(sketches.c.name)) == sketch.name  # type: ignore[union-attr]
        assert read_sketch(connection, "router", version) is sketch
        assert read_sketch(connection, "router", "v9") is None
    assert sketch is not None
    assert sketch.reference["similarity"].sum() == 30  # half of the hold-out is in_reference
    assert sketch.reference["word_rarity"].sum() == 15


def test_a_version_of_an_earlier_release_is_sketched_from_what_was_kept(db: Engine, tmp_path: Path) -> None:
    built = build_version(tmp_path / "built", holdout_rows=60)
    register(db, tmp_path / "home", built, threads=1, now=1e9)
    with db.begin() as connection:
        full = read_sketch(connection, "router", "v1")
        connection.execute(sketches.delete())
        bare = read_sketch(connection, "router", "v1")
        assert bare is not None
        assert full is not None
        assert (bare.reference["similarity"] == full.reference["similarity"]).all()
        assert bare.reference["class_distance"].sum() == 0
        write_sketch(connection, "router", "v1", full)
