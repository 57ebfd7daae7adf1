"""A sweep over a small real history, and the grids that it refuses."""

from __future__ import annotations

from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.engines import open_engine
from monitor.backtest.answers import Known, Reader, embeddings
from monitor.backtest.first import MODEL, Plan, prepare
from monitor.backtest.past import Event
from monitor.backtest.sweep import MOST, Policy, SweepError, changed, grid, sweep
from monitor.config import Settings
from monitor.settings import ModelSettings, MonitorSettings
from tests.monitor import tiny
from trainer.artifact import open_version
from trainer.settings import TrainerSettings
from trainer.spec import parse_spec

HOUR = 3600.0
ROUNDED = 1e-2  # what an embedding kept in half precision may move a score of the toy


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_base(tmp_path_factory.mktemp("base") / "encoder")


def given(base: Path, home: Path) -> tuple[list[Event], Plan, Settings]:
    rng = np.random.default_rng(0)
    mail = tiny.mail(rng, 400) + tiny.mail(rng, 400, new=True)
    events = [Event(number * HOUR, text, desk, {}) for number, (text, desk) in enumerate(mail)]
    spec = parse_spec(
        {
            "model": {"name": MODEL, "base": str(base), "max_tokens": 16},
            "data": {"train": "history.jsonl"},
            "fit": {"rung": "head", "threads": 1},
            "gate": {"parity_max_abs": 0.01},
        }
    )
    plan = Plan(
        history=Path("history.jsonl"), train_rows=300, window=100, label_delay=HOUR, label_rate=1.0, seed=0,
        spec=spec,
    )  # fmt: skip
    settings = Settings(
        home=home,
        trainer=TrainerSettings(cache=base.parent / "cache", threads=1),
        monitor=MonitorSettings(retrain="", evidently=False),
        models={MODEL: ModelSettings(window=100, min_labels=100, cooldown=0.0, margin=0.2)},
    )
    return events, plan, settings


def test_each_policy_is_replayed_over_the_same_first_version(base: Path, tmp_path: Path) -> None:
    policies = (Policy(name="configured"), Policy(name="a person starts it", changes={"approval": True}))
    told: list[str] = []

    def note(policy: str, *_: Any) -> None:
        told.append(policy)

    found = sweep(*given(base, tmp_path), policies, progress=note)
    ours, never = found["runs"]
    assert (ours["policy"], never["policy"]) == ("configured", "a person starts it")
    assert set(told) == {"v1", "configured", "a person starts it"}
    assert ours["summary"]["promotions"] >= 1
    assert never["summary"]["retrains"] == 0
    assert never["summary"]["mean_accuracy"] == never["summary"]["frozen_mean_accuracy"]
    for name in ("frozen_mean_accuracy", "oracle_mean_accuracy"):
        assert ours["summary"][name] == never["summary"][name]
    assert ours["pages"][0] == never["pages"][0]
    assert ours["pareto"]
    assert ours["summary"]["cpu_seconds"] > never["summary"]["cpu_seconds"]


def test_an_answer_from_a_known_embedding_is_the_engines(base: Path, tmp_path: Path) -> None:
    events, plan, settings = given(base, tmp_path)
    shared = prepare(events, plan, settings)
    folder = next((tmp_path / "versions").rglob("manifest.json")).parent
    version = open_version(folder)
    later = events[300:]
    Reader(version, shared.known, threads=1, first=True).answers(later)
    reader = Reader(version, shared.known, threads=1, first=False)
    assert reader._engine is None  # its encoder is known: nothing is embedded again
    ours, theirs = reader.answers(later), open_engine(version, threads=1).run([event.text for event in later])
    scores, exact = (np.array([one.scores for one in answers]) for answers in (ours, theirs))
    assert np.allclose(scores, exact, atol=ROUNDED)
    clear = np.abs(exact[:, 0] - exact[:, 1]) > 2 * ROUNDED  # nearer to a tie the rounding may decide
    assert clear.mean() > 0.8
    assert all(mine.label == its.label for mine, its in compress(zip(ours, theirs, strict=True), clear))
    assert np.allclose([one.similarity for one in ours], [one.similarity for one in theirs], atol=1e-3)


def test_a_version_with_another_encoder_answers_by_its_engine(base: Path, tmp_path: Path) -> None:
    events, plan, settings = given(base, tmp_path)
    shared = prepare(events, plan, settings)
    version = open_version(next((tmp_path / "versions").rglob("manifest.json")).parent)
    other = Known()
    texts = [event.text for event in events[:300]]
    answers = shared.known.answers(open_engine(version, threads=1), texts)
    other.by_text = dict(zip(texts, answers[1:] + answers[:1], strict=True))  # embeddings of other texts
    assert embeddings(answers).shape == (300, 32)
    assert Reader(version, other, threads=1, first=False)._engine is not None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("min_label=100", "not a key of a policy"),
        ("min_labels=", "no value"),
        ("min_labels=many", "min_labels"),
        ("verdict_share=2", "verdict_share"),
        ("min_labels=" + ",".join(map(str, range(1, MOST + 3))), f"at most {MOST}"),
    ],
)
def test_a_wrong_grid_is_refused_by_name(text: str, problem: str) -> None:
    with pytest.raises(SweepError, match=problem):
        grid([text])


def test_a_grid_is_every_combination() -> None:
    policies = grid(["min_labels=100,200", "cooldown=0s,1h"])
    assert len({policy.name for policy in policies}) == 4
    settings = changed(ModelSettings(window=7), policies[-1])
    assert (settings.min_labels, settings.cooldown, settings.window) == (200, 3600.0, 7)
