"""Figures of answers, against the values that their papers and sacreBLEU's own tests give."""

from __future__ import annotations

import pytest

from trainer.generation.errors import SchemaError
from trainer.generation.evaluate import answered
from trainer.generation.json_answers import follows, value_of
from trainer.generation.metrics import chrf, exact_match, rouge_l, token_f1
from trainer.generation.rows import chat

GUNMAN = "police killed the gunman"
RISK = (
    " risk assessment must be made of those who are qualified and expertise in the sector - these are the "
    "scientists .",
    "risk assessment has to be undertaken by those who are qualified and expert in that area - that is the "
    "scientists .",
)
OBAMA = (
    " Die    Beziehung zwischen  Obama und Netanjahu ist nicht gerade  freundlich. ",
    "Das Verhältnis zwischen Obama und Netanyahu ist nicht gerade freundschaftlich.",
)


@pytest.mark.parametrize(
    ("answer", "reference", "wanted"),
    [
        ("abcdefg", "hijklmnop", 0.0),
        ("a", "a", 1.0),
        ("", "reference", 0.0),
        ("a b c", "abc", 1.0),
        ("aa", "ab", 0.25),
        (*RISK, 0.63361730),
        (*OBAMA, 0.641302698),
    ],
)
def test_chrf_is_that_of_sacrebleu(answer: str, reference: str, wanted: float) -> None:
    """beta = 3, effective order: the values of sacreBLEU's test_chrf.py."""
    assert chrf(answer, reference, beta=3) == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [("police kill the gunman", 0.75), ("the gunman kill police", 0.5), ("the gunman police killed", 0.5)],
)
def test_rouge_l_is_that_of_its_paper(answer: str, wanted: float) -> None:
    """Lin (2004), section 3.1: S1 to S4."""
    assert rouge_l(answer, GUNMAN) == wanted


def test_token_f1_reads_as_squad_does() -> None:
    assert token_f1("The  Eiffel tower!", "eiffel tower") == 1.0
    assert token_f1("a b b", "b c") == pytest.approx(0.5)  # the article goes; b once of two and two
    assert token_f1("the", "a") == 1.0
    assert token_f1("", "tower") == 0.0


@pytest.mark.parametrize("measure", [exact_match, token_f1, rouge_l, chrf])
def test_empty_texts_agree_with_nothing_but_each_other(measure: type) -> None:
    assert (measure("", ""), measure("", "x y"), measure("x y", "")) == (1.0, 0.0, 0.0)


def test_json_is_what_the_standard_says() -> None:
    assert [
        value_of(text)[0] for text in ("[1]", "null", "{'a': 1}", "", '{"a": NaN}', '{"a": 1} b', "[" * 9999)
    ] == [
        True,
        True,
        False,
        False,
        False,
        False,
        False,
    ]


def test_answers_are_counted_by_validity_and_schema() -> None:
    rows = [chat(("user", str(n)), ("assistant", '{"desk": "comp"}')) for n in range(4)]
    schema = {"type": "object", "properties": {"desk": {"enum": ["comp", "rec"]}}, "required": ["desk"]}
    found = answered(['{"desk": "comp"}', '{"desk": "rec"}', '{"desk": "sci"}', "comp"], rows, schema=schema)
    assert (found["valid_json"], found["follows_schema"], found["exact_match"]) == (0.75, 0.5, 0.25)


def test_no_answers_have_no_figures() -> None:
    assert answered([], [])["chrf"] is None


def test_a_schema_that_is_none_is_refused() -> None:
    with pytest.raises(SchemaError, match="json-schema"):
        follows({"type": "objekt"})
