"""Entities: read as people write them, turned into tags and back, looked at before they are learnt."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from trainer.errors import DataError, SpecError
from trainer.rows import HoldoutRow, Row
from trainer.spec import parse_spec
from trainer.tagging import TASK
from trainer.tagging.entities import Entity, canonical, entities
from trainer.tagging.evaluate import by_class, counted, macro, micro
from trainer.tagging.faults import look
from trainer.tagging.rows import TRANSITIONS, from_tags, read_tagged
from trainer.tagging.tags import entities_of, legal, likeliest, tags_of, tokens_of
from trainer.tasks import watched

TEXT = "Ann lives in New York"
MARKED = [Entity(0, 3, "person"), Entity(13, 21, "city")]


def _written(tmp_path: Path, *records: object) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
    return path


def _read(path: Path, **on_finding: str) -> list[Row]:
    return read_tagged(path, text="text", label="label", on_finding=on_finding)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "record",
    [
        {"text": TEXT, "entities": [one._asdict() for one in MARKED]},
        {"text": TEXT, "spans": [{**one._asdict(), "token_start": 0} for one in reversed(MARKED)]},
        {"text": TEXT, "label": [list(one) for one in MARKED]},
        {"text": TEXT, "labels": [[0, 4, "person"], [12, 21, "city"]]},  # with the spaces around
        {"text": TEXT, "entities": [{"start_offset": s, "end_offset": e, "label": n} for s, e, n in MARKED]},
        {"tokens": TEXT.split(), "tags": ["B-person", "O", "O", "B-city", "I-city"]},
        {"tokens": TEXT.split(), "ner_tags": ["B-person", "O", "O", "B-city", "I-city"]},
    ],
)
def test_marked_texts_are_read_as_their_tools_write_them(record: object, tmp_path: Path) -> None:
    (row,) = _read(_written(tmp_path, record))
    assert (row.text, entities(row.label)) == (TEXT, MARKED)


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"text": TEXT, "entities": "Ann"}, "not a list of entities"),
        ({"text": TEXT, "entities": [{"start": "0", "end": 3, "label": "person"}]}, "no whole numbers"),
        ({"text": TEXT, "entities": [{"start": 0, "end": 3}]}, "label of an entity in label is missing"),
        ({"text": TEXT, "entities": [7]}, "is no entity"),
        ({"text": TEXT}, "column 'label' is missing"),
        ({"tokens": ["a"], "tags": ["B-x", "O"]}, "1 words have 2 tags"),
        ({"tokens": ["a"], "tags": [3]}, "numbers, whose names"),
        ({"tokens": ["a"], "tags": ["U-x"]}, "is no tag"),
        ({"tokens": ["a", ""], "tags": ["O", "O"]}, "not a list of words"),
        ({"tokens": ["a", "b"], "tags": ["O", "I-x"]}, "I-x follows O"),
        ({"tokens": ["a", "b"], "tags": ["B-y", "I-x"]}, "I-x follows B-y"),
    ],
)
def test_what_is_no_marked_text_is_refused_by_its_line(record: object, told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 2: .*" + told):
        _read(_written(tmp_path, {"text": "so", "entities": []}, record))


def test_an_inside_without_its_beginning_begins_where_that_is_allowed(tmp_path: Path) -> None:
    path = _written(tmp_path, {"tokens": ["to", "Rome", "Ann"], "tags": ["O", "I-city", "I-person"]})
    (row,) = _read(path, **{TRANSITIONS: "warn"})
    assert entities(row.label) == [Entity(3, 7, "city"), Entity(8, 11, "person")]


def _tokenizer() -> Tokenizer:
    pieces = ["[UNK]", "ann", "lives", "in", "new", "york", "##er"]
    found = Tokenizer(models.WordPiece({one: n for n, one in enumerate(pieces)}, unk_token="[UNK]"))
    found.pre_tokenizer = pre_tokenizers.Whitespace()
    return found


def test_entities_survive_their_tags() -> None:
    (tokens,) = tokens_of(_tokenizer(), ["ann lives in new yorker "])
    marked = [Entity(0, 3, "person"), Entity(13, 23, "city")]
    tags, cut = tags_of(tokens.places, marked, ["city", "person"])
    assert (tags.tolist(), cut) == ([3, 0, 0, 1, 2, 2], [])
    scores = np.eye(5)[tags]
    assert [one for one, _ in entities_of(tokens.places, tags.tolist(), scores, ["city", "person"])] == marked


def test_the_answer_is_the_best_of_all_legal_ones() -> None:
    rng = np.random.default_rng(0)
    searched = 0
    for _ in range(40):
        scores = rng.dirichlet(np.ones(5), size=4)
        paths = [np.array(path) for path in product(range(5), repeat=4)]
        best = max((path for path in paths if legal(path)), key=lambda path: scores[range(4), path].prod())
        assert likeliest(scores).tolist() == best.tolist()
        searched += not legal(scores.argmax(axis=1))
    assert searched > 10


def test_half_an_entity_is_one_missed_and_one_made_up() -> None:
    said = [[Entity(0, 3, "a"), Entity(5, 9, "a")], [Entity(0, 2, "b")], []]
    true = [[Entity(0, 3, "a"), Entity(5, 8, "a")], [Entity(0, 2, "a")], []]
    counts = counted(said, true, ["a", "b"])
    assert counts.sum(axis=1).tolist() == [[1, 0], [2, 1], [3, 0]]
    assert micro(counts) == pytest.approx(2 / 6)  # hits 1, answered 3, true 3
    assert macro(counts) == pytest.approx(2 / 5)  # only "a" has entities
    assert by_class(counts, ["a", "b"])["b"]["f1"] is None


def test_class_shares_of_entities_are_counted_by_their_kinds() -> None:
    assert watched(canonical(MARKED)) == '["city", "person"]'
    assert [watched(label) for label in ("[]", "card", "[[draft", "[[1, 2]]")] == [
        "[]",
        "card",
        "[[draft",
        "[[1, 2]]",
    ]


def test_faults_of_marked_texts_are_found(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    _tokenizer().save(str(file))
    marked = {
        "ann lives in york": [Entity(13, 30, "city")],  # behind its end
        "ann lives in new york": [Entity(13, 16, "city"), Entity(15, 21, "city")],  # overlap
        "ann lives new york": [Entity(1, 3, "person")],  # in the middle of a token
        "in new york lives ann in new york": [Entity(30, 33, "city"), Entity(18, 21, "person")],  # cut off
        "ann lives": [Entity(0, 3, "person")],
    }
    rows = [Row(text=text, label=canonical(found)) for text, found in marked.items()]
    held = [HoldoutRow(text="ann lives", label="[]")]
    found = {
        one.kind: one for one in look(rows, held, file, max_tokens=6, on_finding={"imbalance": "ignore"})
    }
    assert found["spans_out_of_bounds"].rows == (0,)
    assert found["overlapping_spans"].rows == (1,)
    assert set(found["cut_tokens"].rows) >= {2}
    assert found["cut_off_spans"].rows == (3,)
    assert 4 in found["leakage"].rows
    assert "rare_classes" in found
    assert (found["overlapping_spans"].action, found["cut_tokens"].action) == ("refuse", "warn")


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ({"fit": {"rung": "adapter"}}, 'rung = "head" is the only rung'),
        ({"fit": {"epochs": 3}}, r"\[fit\] epochs is not for token-classification"),
        ({"export": {"engines": ["cpu-int8"]}}, "engines"),
        ({"data": {"train": "a.jsonl", "general": "b.jsonl"}}, r"\[data\] general"),
    ],
)
def test_what_is_not_there_for_entities_is_refused(tables: dict[str, object], told: str) -> None:
    whole = {"model": {"name": "ner", "task": TASK}, "data": {"train": "a.jsonl"}}
    with pytest.raises(SpecError, match=told):
        parse_spec(whole | tables)


def test_a_head_is_the_default_of_entities() -> None:
    assert parse_spec({"model": {"name": "n", "task": TASK}, "data": {"train": "a.jsonl"}}).fit.rung == "head"


def test_words_are_joined_by_spaces() -> None:
    assert from_tags(["a", "b"], ["B-x", "B-x"]) == ("a b", [Entity(0, 1, "x"), Entity(2, 3, "x")])
