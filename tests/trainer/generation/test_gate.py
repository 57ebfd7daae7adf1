"""Faults of conversations: each is found where it is, and only there."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.trainer.generation.conftest import PLAIN, tokenizer
from trainer.errors import FindingError
from trainer.generation.gate import kinds, look, sift
from trainer.generation.rows import Chat, Completion, Message, Sample, chat
from trainer.generation.template import Template

LONG = "the invoice of last month was paid on the third, and the reminder may be thrown away"
GOOD: list[Sample] = [
    chat(("user", "my screen stays black"), ("assistant", "Is it plugged in?")),
    chat(("user", "the mouse does not move"), ("assistant", "Try another port.")),
    chat(("system", "Be brief."), ("user", "send me the bill again"), ("assistant", "Sent.")),
    Completion(prompt="Invoice 7 is", answer=" paid."),
]
CALL = Message("assistant", "", 1, {"tool_calls": [{"type": "function", "function": {"name": "now"}}]})
TALKS = [
    chat(("user", word), ("assistant", LONG + "."))
    for word in ["one", "two", "six", "ten", "red", "odd", "far", "low", "hot", "wet"]
]
ENGLISH = [
    chat(
        ("user", f"What should I do with the {thing} that I have in my house, and why is it so?"),
        ("assistant", "Oh."),
    )
    for thing in ("cat", "lamp", "piano", "letter", "garden", "window")
]
GERMAN = "Was soll ich mit dem Hund machen, der in meinem Haus ist und nicht schlafen kann?"

CASES: list[tuple[str, Sequence[Sample], tuple[int, ...]]] = [
    ("template_errors", [*GOOD, chat(("user", "a"), ("robot", "b"), ("assistant", "c"))], (4,)),
    ("template_errors", [chat(("system", "a"), ("system", "b"), ("assistant", "c")), *GOOD], (0,)),
    ("template_errors", [*GOOD, chat(("assistant", "a"), ("user", "b"))], (4,)),
    ("template_errors", [chat(("user", "b"), ("system", "a"), ("assistant", "c")), *GOOD], (0,)),
    ("empty_answers", [*GOOD, chat(("user", "hello there"), ("assistant", " \n"))], (4,)),
    ("empty_answers", [*GOOD, Chat(messages=(Message("user", "hm"), Message("assistant", "ok", 0)))], (4,)),
    ("cut_answers", [*GOOD, chat(("user", "as JSON"), ("assistant", '{"desk": "co'))], (4,)),
    ("cut_answers", [*GOOD, chat(("user", "as code"), ("assistant", "```\nprint(1)"))], (4,)),
    ("cut_answers", [*TALKS, chat(("user", "why so"), ("assistant", LONG))], (10,)),
    ("too_long", [*GOOD, chat(("user", "xyz " * 90), ("assistant", "Yes."))], (4,)),
    (
        "near_duplicate_prompts",
        [*GOOD, chat(("user", "The mouse does not move!?!!"), ("assistant", "Oh."))],
        (),
    ),
    (
        "near_duplicate_prompts",
        [*GOOD, chat(("user", "so the mouse does not move"), ("assistant", "Oh."))],
        (4,),
    ),
    ("exact_duplicates", [*GOOD, GOOD[0]], (4,)),
    ("personal_data", [*GOOD, chat(("user", "whom?"), ("assistant", "ann@example.org"))], (4,)),
    ("foreign_script", [*TALKS, chat(("user", "где мой банк"), ("assistant", "Oh."))], (10,)),
    ("foreign_language", [*ENGLISH, chat(("user", GERMAN), ("assistant", "Oh."))], (6,)),
]


def found(kind: str, samples: Sequence[Sample], holdout: Sequence[Sample] = ()) -> tuple[int, ...] | None:
    findings = look(samples, holdout, Template(tokenizer(PLAIN)), max_tokens=200, on_finding={})
    return next((one.rows for one in findings if one.kind == kind), None)


@pytest.mark.parametrize(("kind", "samples", "rows"), CASES)
def test_a_fault_is_found_where_it_is(kind: str, samples: Sequence[Sample], rows: tuple[int, ...]) -> None:
    assert (found(kind, samples) or ()) == rows


def test_prompts_of_the_hold_out_are_found_in_the_training_rows() -> None:
    held = [chat(("user", "The mouse does not move!"), ("assistant", "else"))]
    assert found("leakage", GOOD, held) == (1,)


def test_every_kind_has_a_case() -> None:
    assert {case[0] for case in CASES} | {"leakage"} == set(kinds())


def test_good_rows_no_rows_and_calls_of_tools_have_no_fault() -> None:
    template = Template(tokenizer(PLAIN))
    calling = Chat(messages=(Message("user", "what is the time"), CALL))
    for samples in (GOOD, [*GOOD, calling], []):
        assert look(samples, [], template, max_tokens=200, on_finding={}) == []


def test_rows_are_dropped_or_refused_as_is_said() -> None:
    template, rows = Template(tokenizer(PLAIN)), [*GOOD, chat(("user", "hello there"), ("assistant", ""))]
    left, findings = sift(rows, [], template, max_tokens=200, on_finding={})
    assert left == list(range(len(GOOD)))
    assert [one.action for one in findings] == ["drop"]
    with pytest.raises(FindingError, match="empty_answers"):
        sift(rows, [], template, max_tokens=200, on_finding={"empty_answers": "refuse"})
    assert sift(rows, [], template, max_tokens=200, on_finding={"empty_answers": "ignore"}) == (
        list(range(len(rows))),
        [],
    )


def test_an_unknown_role_ends_the_training_unless_told_otherwise() -> None:
    rows = [*GOOD, chat(("user", "a"), ("robot", "b"), ("assistant", "c"))]
    with pytest.raises(FindingError, match="template_errors"):
        sift(rows, [], Template(tokenizer(PLAIN)), max_tokens=200, on_finding={})
