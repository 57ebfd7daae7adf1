"""Training specs: a wrong key or value is named, with what would be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.errors import SpecError
from trainer.spec import load_spec

MINIMAL = '[model]\nname = "router"\n[data]\ntrain = "train.jsonl"\n'


@pytest.mark.parametrize(
    ("extra", "key", "problem"),
    [
        ('[fit]\nrungs = "head"\n', "fit.rungs", "Known here: rung, epochs"),
        ('[fit]\nrung = "deep"\n', "fit.rung", "'full' or 'auto'"),
        ("[fit]\nlearning_rate = 2.0\n", "fit.learning_rate", "above 0 and at most 1"),
        ('[fit]\nlearning_rate = "fast"\n', "fit.learning_rate", '"auto"'),
        ('[fit]\ntracker = "notebook"\n', "fit.tracker", "mlflow"),
        ("[fit]\nepochs = 0\n", "fit.epochs", "greater than or equal to 1"),
        ("[training]\nx = 1\n", "training", "Known here: model, data, fit, gate"),
        ("[fit\n", "", "not TOML"),
    ],
)
def test_a_wrong_spec_names_the_key(extra: str, key: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(MINIMAL + extra, encoding="utf-8")
    with pytest.raises(SpecError, match=problem) as caught:
        load_spec(path)
    assert caught.value.key == key
    assert str(path) in str(caught.value)


def test_a_missing_spec_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        load_spec(tmp_path / "none.toml")


def test_paths_are_relative_to_the_spec(tmp_path: Path) -> None:
    (tmp_path / "encoder").mkdir()
    text = MINIMAL.replace('name = "router"', 'name = "router"\nbase = "encoder"') + 'holdout = "h.csv"\n'
    (tmp_path / "spec.toml").write_text(text, encoding="utf-8")
    spec = load_spec(tmp_path / "spec.toml")
    assert spec.data.train == tmp_path / "train.jsonl"
    assert spec.data.holdout == tmp_path / "h.csv"
    assert spec.model.base == str(tmp_path / "encoder")


def test_a_spec_survives_json(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(MINIMAL, encoding="utf-8")
    spec = load_spec(tmp_path / "spec.toml")
    assert type(spec).model_validate(spec.model_dump(mode="json")) == spec
