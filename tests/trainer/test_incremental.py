"""Learning new classes without losing the old: replay, weights, the anchor, the fresh control."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainer.artifact import Version, open_version
from trainer.control import compare, steps
from trainer.errors import SpecError
from trainer.graph import Graph
from trainer.head import Head, anchored, fit_head
from trainer.known import beside_snapshot, of_parent
from trainer.replay import DAY_S, replay, weigh
from trainer.report import read_report
from trainer.rows import HoldoutRow, Row, read_snapshot, write_snapshot
from trainer.spec import FitTable, TrainSpec, parse_spec
from trainer.train import DataRef, Parent, train

Array = np.ndarray
HIDDEN = 12


def _cloud(classes: list[int], rows: int, seed: int) -> tuple[Array, Array]:
    """Unit rows around one direction per class."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(classes, rows)
    found = np.eye(HIDDEN)[truth] + rng.normal(scale=0.3, size=(len(truth), HIDDEN))
    return found / np.linalg.norm(found, axis=1, keepdims=True), truth


def _accuracy(head: Head, rows: Array, truth: Array) -> float:
    return float((head.logits(rows).argmax(axis=1) == truth).mean())


@pytest.fixture(scope="module")
def parent_head() -> Head:
    rows, truth = _cloud([0, 1, 2, 3], 40, seed=0)
    return fit_head(rows, truth, classes=4)


def test_an_anchored_head_learns_new_classes_from_their_rows_alone(parent_head: Head) -> None:
    rows, truth = _cloud([4, 5], 40, seed=1)
    names = list("abcdef")
    anchor = anchored(parent_head, names[:4], names, 1.0, replayed=False)
    old, told = _cloud([0, 1, 2, 3], 50, seed=2)
    new, also = _cloud([4, 5], 50, seed=3)
    naive, kept = fit_head(rows, truth, classes=6), fit_head(rows, truth, classes=6, anchor=anchor)
    assert _accuracy(naive, old, told) < 0.1
    assert _accuracy(kept, old, told) > _accuracy(parent_head, old, told) - 0.05
    assert _accuracy(kept, new, also) > 0.9


def test_a_row_of_weight_two_counts_like_two_rows() -> None:
    rows, truth = _cloud([0, 1, 2], 20, seed=0)
    weights = np.ones(60)
    weights[:20] = 2.0
    twice = fit_head(np.concatenate([rows, rows[:20]]), np.concatenate([truth, truth[:20]]), classes=3)
    heavy = fit_head(rows, truth, classes=3, weights=weights)
    assert np.abs(twice.weight - heavy.weight).max() < 0.02


def test_replay_is_a_share_of_the_rows_stratified_by_class_and_slice() -> None:
    old = [
        Row(text=f"o{n}", label="aab"[n % 3], fields=(f"channel={'mail' if n % 4 else 'chat'}",))
        for n in range(240)
    ]
    new = [Row(text=f"n{n}", label="c", origin="traffic") for n in range(90)]
    kept = [row for row in replay(old + new, FitTable(replay=0.25)) if row.origin == "base"]
    assert Counter(row.label for row in kept) == {"a": 20, "b": 10}
    assert Counter(row.fields for row in kept if row.label == "a") == {
        ("channel=mail",): 15,
        ("channel=chat",): 5,
    }
    assert replay(old, FitTable(replay=0.25)) == old


def test_an_anchored_training_replays_a_quarter_unless_it_may_keep_nothing() -> None:
    rows = [Row(text=f"o{n}", label="a") for n in range(90)]
    rows += [Row(text=f"n{n}", label="b", origin="traffic") for n in range(90)]
    assert len(replay(rows, FitTable(anchor=1.0))) == 120
    assert len(replay(rows, FitTable(anchor=1.0, replay=0.0))) == 90
    assert len(replay(rows, FitTable())) == 180


def test_a_budget_of_labels_takes_the_newest_traffic_then_old_rows() -> None:
    rows = [Row(text=f"o{n}", label="ab"[n % 2]) for n in range(10)]
    rows += [Row(text=f"n{n}", label="c", at=float(n % 3), origin="traffic") for n in range(6)]
    assert [row.text for row in replay(rows, FitTable(budget_labels=4))] == ["n1", "n2", "n4", "n5"]
    kept = Counter(row.label for row in replay(rows, FitTable(budget_labels=10)))
    assert kept == {"a": 2, "b": 2, "c": 6}


@pytest.mark.parametrize("fit", [{"replay": 0.01}, {"replay": 0.0}, {"replay": 0.04, "anchor": 1.0}])
def test_less_than_the_floor_is_refused(fit: dict[str, float]) -> None:
    tables = {"model": {"name": "toy"}, "data": {"train": "toy.jsonl"}, "fit": fit}
    with pytest.raises(SpecError, match=r"at least 0\.05"):
        parse_spec(tables)


def test_older_labels_weigh_less_and_rows_without_a_time_are_the_oldest() -> None:
    rows = [Row(text=str(n), label="a", at=n * DAY_S, origin="traffic") for n in range(3)]
    rows.append(Row(text="?", label="a", origin="traffic"))
    assert weigh(rows, FitTable(half_life_days=2.0), stand_for=1.0).tolist() == pytest.approx(
        [0.5, 0.5**0.5, 1.0, 0.5]
    )


def test_the_control_is_chosen_only_where_it_is_proven_better() -> None:
    right = np.arange(100) < 80
    assert compare(right, right)["chosen"] == "incremental"
    assert compare(right, np.arange(100) < 83)["chosen"] == "incremental"
    assert compare(right, np.arange(100) < 90)["chosen"] == "fresh"
    assert compare(np.zeros(0, dtype=bool), np.zeros(0, dtype=bool))["p"] == 1.0


def _train(
    spec: TrainSpec, rows: list[Row], holdout: list[HoldoutRow], out: Path, parent: Version | None = None
) -> Version:
    snapshot, digest = write_snapshot(rows, out.parent / "data")
    made = train(
        spec,
        train_rows=rows,
        holdout=holdout,
        data=DataRef(sha256=digest, rows=len(rows), path=snapshot),
        out=out,
        cache=out.parent / "cache",
        parent=None if parent is None else Parent(name="v1", folder=parent.path),
        progress=lambda _: None,
        now=0.0,
    )
    return open_version(made)


def _with(spec: TrainSpec, **fit: object) -> TrainSpec:
    return spec.model_copy(update={"fit": spec.fit.model_copy(update=fit)})


@pytest.mark.parametrize(("left", "anchor", "chosen"), [("fruit", 0.1, "incremental"), ("", 1.0, "fresh")])
def test_a_control_comes_in_time_and_the_better_one_stays(
    base: Path, rows: list[Row], tmp_path: Path, left: str, anchor: float, chosen: str
) -> None:
    """Where a class has no rows left, this toy's encoder cannot hold it: a fresh head keeps more."""
    spec = parse_spec(
        {
            "model": {"name": "toy", "base": str(base), "max_tokens": 16},
            "data": {"train": "toy.jsonl"},
            "fit": {"rung": "head", "threads": 1},
        }
    )
    held = [HoldoutRow(text=f"{row.text} the", label=row.label) for row in rows]
    first = _train(spec, rows, held, tmp_path / "v1")
    assert first.manifest.metrics["incremental"] == 0
    new = [replace(row, label="new", text=f"{row.text} of of", origin="traffic") for row in rows[:30]]
    new += [
        replace(row, text=f"{row.text} and", origin="traffic")
        for row in rows[30:]
        if row.label in ("metal", left)
    ]
    spec = _with(spec, anchor=anchor, replay=0.0, control_every=2)
    second = _train(spec, new, held, tmp_path / "v2", first)
    assert second.manifest.labels == ["fruit", "metal", "new"]
    assert second.manifest.metrics["incremental"] == 1
    assert steps(spec.fit, second) == 2
    third = _train(spec, new, held, tmp_path / "v3", second)
    report = read_report(third.path)
    assert report is not None
    control = report["control"]
    assert control["chosen"] == chosen
    assert (control["p"] <= 0.05) == (chosen == "fresh")
    assert third.manifest.metrics["incremental"] == (2 if chosen == "incremental" else 0)
    known = [row for row in held if row.label in third.manifest.labels]
    assert report["forgetting"]["hold-out"]["rows"] == len(known)
    assert ("fruit" in third.manifest.labels) == (chosen == "incremental")
    logits, _ = Graph(third.model_bytes, threads=1).answers([[2, 4, 3]])
    assert logits.shape == (1, len(third.manifest.labels))  # the chosen one's graph is there


def test_all_embeddings_of_a_large_training_are_there_for_the_next(
    base: Path, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.known.NEAREST_ROWS", 20)
    spec = parse_spec(
        {
            "model": {"name": "toy", "base": str(base), "max_tokens": 16},
            "data": {"train": "toy.jsonl"},
            "fit": {"rung": "head", "threads": 1},
        }
    )
    made = _train(spec, rows, [], tmp_path / "v1")
    kept = beside_snapshot(tmp_path / "data", made.manifest)
    assert kept.exists()
    found = of_parent(made, tmp_path / "data")
    assert set(found) == {
        row.text for row in read_snapshot(tmp_path / "data" / f"{made.manifest.data.sha256}.parquet")
    }
    kept.write_bytes(b"not an array")
    assert len(of_parent(made, tmp_path / "data")) <= 20
