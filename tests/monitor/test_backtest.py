"""A history through the whole loop on virtual time, with a tiny encoder and real training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monitor.backtest.first import MODEL, Plan
from monitor.backtest.past import Event
from monitor.backtest.replay import replay
from monitor.config import Settings
from monitor.settings import ModelSettings, MonitorSettings
from tests.monitor import tiny
from trainer.settings import TrainerSettings
from trainer.spec import parse_spec

HOUR = 3600.0


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_base(tmp_path_factory.mktemp("base") / "encoder")


def run(base: Path, home: Path, mail: list[tuple[str, str]], *, retrain: str) -> dict[str, Any]:
    """One mail an hour, the first 300 to train on, windows of 100, every label an hour late."""
    events = [
        Event(at=number * HOUR, text=text, label=desk, slices={}) for number, (text, desk) in enumerate(mail)
    ]
    spec = parse_spec(
        {
            "model": {"name": MODEL, "base": str(base), "max_tokens": 16},
            "data": {"train": "history.jsonl"},
            "fit": {"rung": "head", "threads": 1},
            "gate": {"parity_max_abs": 0.01},
        }
    )
    plan = Plan(
        history=Path("history.jsonl"),
        train_rows=300,
        window=100,
        label_delay=HOUR,
        label_rate=1.0,
        spec=spec,
        seed=0,
    )
    settings = Settings(
        home=home,
        trainer=TrainerSettings(cache=base.parent / "cache", threads=1),
        monitor=MonitorSettings(retrain=retrain, evidently=False),
        models={MODEL: ModelSettings(window=100, min_labels=100, cooldown=0.0, margin=0.2)},
    )
    return replay(events, plan, settings, progress=lambda *_: None)


def test_a_schedule_retrains_on_virtual_time_without_any_drift(base: Path, tmp_path: Path) -> None:
    mail = tiny.mail(np.random.default_rng(0), 700)
    told = run(base, tmp_path, mail, retrain="0 0 * * 0")  # Sundays at midnight: 700 hours hold four of them
    retrains = told["retrains"]
    assert {one["trigger"] for one in retrains} == {"schedule"}
    assert 1 <= len(retrains) <= 3  # 17 days after the training rows
    assert not told["pages"]


def test_without_a_schedule_clean_traffic_is_left_alone(base: Path, tmp_path: Path) -> None:
    told = run(base, tmp_path, tiny.mail(np.random.default_rng(0), 600), retrain="")
    assert told["retrains"] == []
    assert [window["version"] for window in told["windows"]] == ["v1"] * 3


def test_a_new_class_is_learnt_and_a_slip_of_the_pen_is_not(base: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    later = [(text, "crypto" if desk == "money" else desk) for text, desk in tiny.mail(rng, 500, new=True)]
    later[::150] = [(text, "sprot") for text, _ in later[::150]]
    told = run(base, tmp_path, tiny.mail(rng, 400) + later, retrain="")
    promoted = [one for one in told["retrains"] if one["verdict"] == "promoted"]
    assert "Learns new classes: 'crypto'." in promoted[0]["reasons"]
    assert any("'sprot'" in reason and "min_class_rows" in reason for reason in promoted[-1]["reasons"])
    assert told["summary"]["labels_new"] > 0
    assert told["summary"]["labels_refused"] == 0
    assert np.mean([window["accuracy"] for window in told["windows"][-2:]]) > 0.9
    assert np.mean([window["frozen_accuracy"] for window in told["windows"][-2:]]) < 0.6


def test_new_mail_is_paged_and_won_back(base: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    told = run(base, tmp_path, tiny.mail(rng, 500) + tiny.mail(rng, 600, new=True), retrain="")
    summary = told["summary"]
    assert told["pages"]
    assert any(one["verdict"] == "promoted" for one in told["retrains"])
    assert summary["mean_accuracy"] > summary["frozen_mean_accuracy"]
    assert summary["oracle_mean_accuracy"] >= summary["mean_accuracy"] - 0.02
