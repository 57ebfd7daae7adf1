"""Splitting rows: nothing is both learnt and used as proof."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from trainer.errors import DataError
from trainer.replay import replay
from trainer.rows import Row
from trainer.spec import FitTable, load_spec
from trainer.split import prepare, stratified


def _spec(folder: Path, rows: list[tuple[str, str]], holdout: list[tuple[str, str]] | None = None) -> Path:
    for name, part in (("train", rows), ("holdout", holdout or [])):
        lines = [json.dumps({"text": text, "label": label}) + "\n" for text, label in part]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    path = folder / "spec.toml"
    held = 'holdout = "holdout.jsonl"\n' if holdout else ""
    path.write_text(f'[model]\nname = "toy"\n[data]\ntrain = "train.jsonl"\n{held}', encoding="utf-8")
    return path


def test_texts_of_the_holdout_are_not_trained_on(tmp_path: Path) -> None:
    rows = [(f"{label}{n}", label) for n in range(4) for label in "ab"]
    path = _spec(tmp_path, rows, [("a0", "a"), ("other", "b")])
    train, held = prepare(load_spec(path), path)
    assert len(train) == 7
    assert [row.text for row in held] == ["a0", "other"]


def test_a_fifth_of_every_class_is_held_out_the_same_way_each_time(tmp_path: Path) -> None:
    path = _spec(tmp_path, [(f"{label}{n}", label) for n in range(20) for label in "ab"])
    train, held = prepare(load_spec(path), path)
    assert Counter(row.label for row in held) == {"a": 4, "b": 4}
    assert not {row.text for row in train} & {row.text for row in held}
    assert prepare(load_spec(path), path) == (train, held)


def test_repeated_texts_fall_on_one_side() -> None:
    rows = [Row(text=f"{label}{n % 5}", label=label) for n in range(20) for label in "ab"]
    rest, held = stratified(rows, 0.4, seed=0)
    assert held
    assert not {row.text for row in rest} & {row.text for row in held}


def test_a_class_of_one_row_is_refused(tmp_path: Path) -> None:
    path = _spec(tmp_path, [("a1", "a"), ("a2", "a"), ("b1", "b")])
    with pytest.raises(DataError, match="'b' has a single row"):
        prepare(load_spec(path), path)


def test_replay_keeps_all_traffic_and_the_mix_of_classes() -> None:
    old = [Row(text=f"o{n}", label="aab"[n % 3]) for n in range(90)]
    new = [Row(text=f"n{n}", label="b", origin="traffic") for n in range(5)]
    kept = replay(old + new, FitTable(replay_rows=30, seed=1))
    assert Counter(row.label for row in kept if row.origin == "base") == {"a": 20, "b": 10}
    assert kept[-5:] == new
    assert kept == replay(old + new, FitTable(replay_rows=30, seed=1))
