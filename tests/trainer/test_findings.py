"""Faults of labelled rows: each kind is found where it is, and only there."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence

import numpy as np
import pytest

from tests.benchmarks.clinc import data_folder
from trainer.errors import FindingError, SpecError
from trainer.findings import Data, Finding, examine, kept, kinds, recorded, refuse
from trainer.findings.foreign_script import script
from trainer.rows import HoldoutRow, Row
from trainer.spec import parse_spec
from trainer.tasks.multi_label import canonical

CLEAN = [
    ("my screen stays black", "hardware"),
    ("the mouse does not move", "hardware"),
    ("send me the bill again", "invoice"),
    ("i was charged for nothing", "invoice"),
]
ENGLISH = [(f"what is on the screen of desk {number}?", "hardware") for number in range(10)]


def rows_of(*pairs: tuple[str, str]) -> list[Row]:
    return [Row(text=text, label=label) for text, label in pairs]


def varied(rows: int, label: str = "hardware", start: int = 0) -> list[tuple[str, str]]:
    """Texts with no two alike."""
    rng = np.random.default_rng(start)
    return [("".join(rng.choice(list("abcdefghij klmnop"), size=40)), label) for _ in range(rows)]


def held(*texts: str) -> list[HoldoutRow]:
    return [HoldoutRow(text=text, label="hardware") for text in texts]


CASES: list[tuple[str, Data, tuple[int, ...]]] = [
    ("exact_duplicates", Data(rows=rows_of(*CLEAN, ("My screen stays BLACK!", "hardware"))), (4,)),
    ("near_duplicates", Data(rows=rows_of(*CLEAN, ("the mouse does not move, really", "hardware"))), (4,)),
    ("conflicting_labels", Data(rows=rows_of(*CLEAN, ("my screen stays black", "invoice"))), (0,)),
    ("conflicting_labels", Data(rows=rows_of(("👍", "invoice"), ("👍", "hardware"))), (0,)),
    ("leakage", Data(rows=rows_of(*CLEAN), holdout=held("The mouse does not move!", "else")), (1,)),
    ("rare_classes", Data(rows=rows_of(*varied(12), *CLEAN[2:])), (12, 13)),
    ("imbalance", Data(rows=rows_of(*varied(200), *CLEAN[2:])), ()),
    ("truncated", Data(rows=rows_of(*CLEAN), lengths=[9, 200, 5, 300], max_tokens=64), (3, 1)),
    (
        "foreign_script",
        Data(rows=rows_of(*varied(30), ("мой экран чёрный", "hardware"), ("42", "invoice"))),
        (30, 31),
    ),
    (
        "foreign_language",
        Data(
            rows=rows_of(
                *ENGLISH,
                ("wo ist die Karte, die ich verloren habe", "hardware"),
                ("mais je ne suis pas dans le train", "invoice"),
            )
        ),
        (10, 11),
    ),
    ("personal_data", Data(rows=rows_of(*CLEAN, ("write to ann@example.org", "invoice"))), (4,)),
    (
        "class_shift",
        Data(
            rows=rows_of(*varied(100), *varied(100, "invoice", 1)),
            holdout=held(*("x" * n for n in range(1, 60))),
        ),
        (),
    ),
    (
        "text_shift",
        Data(
            rows=rows_of(*varied(120)),
            traffic=[f"{text} {text} {text}" for text, _ in varied(60, start=3)],
        ),
        (),
    ),
]


def found(kind: str, data: Data) -> Finding | None:
    return next(iter(examine(data, {}, only=[kind])), None)


@pytest.mark.parametrize(("kind", "data", "rows"), CASES, ids=[case[0] for case in CASES])
def test_a_fault_is_found_where_it_is(kind: str, data: Data, rows: tuple[int, ...]) -> None:
    finding = found(kind, data)
    assert finding is not None
    assert finding.rows == rows
    assert {example.row for example in finding.examples} <= set(rows)


@pytest.mark.parametrize("kind", kinds())
def test_good_rows_and_no_rows_have_no_fault(kind: str) -> None:
    good = rows_of(*varied(40), *varied(40, "invoice", 1))
    assert found(kind, Data(rows=good, holdout=held("abc def"), lengths=[5] * 80, max_tokens=64)) is None
    assert found(kind, Data(rows=[])) is None


def test_every_kind_has_a_case() -> None:
    assert {case[0] for case in CASES} | {"label_errors"} == set(kinds())


def test_personal_data_are_not_repeated_by_the_finding() -> None:
    finding = found("personal_data", Data(rows=rows_of(("ann@example.org", "a"))))
    assert "ann@" not in repr(finding)
    assert "ann@" not in repr(recorded([finding] if finding else []))


def test_likely_wrong_sets_are_found_and_what_they_may_be() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((300, 3)) < 0.4
    embeddings = np.concatenate([truth * 1.0, rng.normal(size=(300, 5)) * 0.2], axis=1)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    flipped = rng.choice(300, 15, replace=False)
    truth[flipped, 0] ^= True
    labels = [canonical([name for name, has in zip("abc", row, strict=True) if has]) for row in truth]
    rows = [Row(text=str(place), label=label) for place, label in enumerate(labels)]
    finding = found("label_errors", Data(rows=rows, embeddings=embeddings, task="multi-label"))
    assert finding is not None
    assert len(set(finding.rows) & set(flipped.tolist())) >= 12
    assert len(finding.rows) <= 20
    assert finding.examples[0].note.startswith("rather '[")


def test_classes_of_sets_are_counted_one_by_one() -> None:
    labels = ['["a", "b"]'] * 12 + ['["a"]'] * 12 + ['["rare"]'] * 2 + ["[]"] * 3
    rows = [Row(text=text, label=label) for (text, _), label in zip(varied(29), labels, strict=True)]
    finding = found("rare_classes", Data(rows=rows, task="multi-label"))
    assert finding is not None
    assert finding.rows == (24, 25)
    assert "1 of 3 classes" in finding.message


def test_a_holdout_row_without_a_label_proves_nothing_and_may_be_learnt() -> None:
    released = [HoldoutRow(text=CLEAN[0][0], label=None, in_reference=False)]
    assert found("leakage", Data(rows=rows_of(*CLEAN), holdout=released)) is None


def test_the_newest_label_of_a_text_is_kept() -> None:
    rows = [Row(text="is it open", label="new", at=200.0), Row(text="is it open?", label="old", at=100.0)]
    finding = found("conflicting_labels", Data(rows=rows))
    assert finding is not None
    assert finding.rows == (1,)


def test_flipped_labels_are_found_and_rightly_labelled_rows_are_not() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(4), 60)
    embeddings = np.eye(4)[truth] + rng.normal(scale=0.15, size=(240, 4))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    flipped = rng.choice(240, 12, replace=False)
    given = truth.copy()
    given[flipped] = (truth[flipped] + 1) % 4
    rows = [Row(text=str(n), label="abcd"[label]) for n, label in enumerate(given.tolist())]
    finding = found("label_errors", Data(rows=rows, embeddings=embeddings.astype(np.float32)))
    assert finding is not None
    caught = set(finding.rows) & set(flipped.tolist())
    assert len(caught) >= 10
    assert len(finding.rows) <= 20
    assert found("label_errors", Data(rows=rows)) is None


def test_what_is_refused_names_every_kind_and_the_mend() -> None:
    data = Data(rows=rows_of(*CLEAN, CLEAN[0]), holdout=held(CLEAN[1][0]))
    findings = examine(data, {"leakage": "refuse", "exact_duplicates": "refuse"})
    with pytest.raises(FindingError, match="leakage") as caught:
        refuse(findings)
    assert "exact_duplicates" in str(caught.value)
    assert 'on_finding.exact_duplicates = "drop"' in str(caught.value)


@pytest.mark.parametrize(("action", "left"), [("drop", [0, 1, 2, 3]), ("warn", [0, 1, 2, 3, 4])])
def test_only_what_is_to_be_dropped_is_dropped(action: str, left: list[int]) -> None:
    spec = parse_spec(
        {
            "model": {"name": "toy"},
            "data": {
                "train": "toy.jsonl",
                "on_finding": {"exact_duplicates": action, "rare_classes": "ignore"},
            },
        }
    )
    findings = examine(Data(rows=rows_of(*CLEAN, CLEAN[0])), spec.data.on_finding)
    assert [finding.kind for finding in findings] == ["exact_duplicates"]
    assert kept(5, findings) == left


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    tables = {"model": {"name": "toy"}, "data": {"train": "a.csv", "on_finding": {"typos": "drop"}}}
    with pytest.raises(SpecError, match="leakage"):
        parse_spec(tables)


@pytest.mark.parametrize(
    ("text", "name"), [("Grüße aus Köln", "LATIN"), ("おはよう", "HIRAGANA"), ("", ""), ("\x00 1", "")]
)
def test_the_script_of_most_letters(text: str, name: str) -> None:
    assert script(text) == name


def test_texts_of_several_languages_have_no_foreign_one() -> None:
    german = [("wo ist die Karte, die ich verloren habe", "hardware")] * 3
    assert found("foreign_language", Data(rows=rows_of(*ENGLISH, *german))) is None


def test_the_leaks_of_banking77_are_found() -> None:
    """All 25 rows that are word for word in both parts; 378 test rows have a near-duplicate (J >= 0.7)."""
    file = data_folder() / "banking77" / "data.jsonl"
    if not file.exists():
        pytest.skip("no Banking77 under TRUEUP_DATA")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]
    train: Sequence[dict[str, str]] = [row for row in rows if row["split"] == "train"]
    test = [HoldoutRow(text=row["text"], label=row["label"]) for row in rows if row["split"] == "test"]
    finding = found(
        "leakage", Data(rows=rows_of(*((row["text"], row["label"]) for row in train)), holdout=test)
    )
    assert finding is not None
    assert "25 word for word" in finding.message
    assert len(finding.rows) > 400


def test_presidio_is_named_where_it_is_not_installed() -> None:
    if importlib.util.find_spec("presidio_analyzer"):
        pytest.skip("presidio is installed here")
    with pytest.raises(SpecError, match=r"data\.presidio: presidio is not installed.*trueup\[personal\]"):
        found("personal_data", Data(rows=rows_of(*CLEAN), presidio=True))


def test_presidio_knows_more_kinds_than_the_core() -> None:
    pytest.importorskip("presidio_analyzer")
    texts = [("paid from 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "a"), ("my nhs number is 943 476 5919", "b")]
    finding = found("personal_data", Data(rows=rows_of(*texts, ("hello world", "a")), presidio=True))
    assert finding is not None
    assert finding.rows == (0, 1)
    assert "crypto 1" in finding.message
    assert "uk_nhs 1" in finding.message
