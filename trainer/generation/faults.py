"""What can be wrong with conversations: one function a kind, each naming its rows; `gate` asks them all."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trainer.duplicates import fitting, plain, repeats
from trainer.findings import Action
from trainer.generation.json_answers import value_of
from trainer.generation.rows import Chat, Sample
from trainer.generation.transcript import ROLES

_ENDED = re.compile(r"""[.!?…:;)\]}>"'`*。！？»”’]\s*$""")
SENTENCES = 0.9  # share of the long answers that end a sentence, above which the others are cut
LONG = 60  # characters; shorter answers are often no sentences at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What is looked at: rows, and of each its tokens, or why its template refused it."""

    samples: Sequence[Sample]
    lengths: Sequence[int | None]
    refused: Sequence[str | None]
    max_tokens: int


Found = dict[int, str]  # row -> what is wrong with it


def template_errors(rows: Rows) -> Found:
    """Rows that the chat template refuses, or that no template writes as they were meant."""
    found = {row: why for row, why in enumerate(rows.refused) if why is not None}
    for row, sample in enumerate(rows.samples):
        problem = _disorder(sample) if isinstance(sample, Chat) else None
        if problem is not None:
            found[row] = problem
    return dict(sorted(found.items()))


def empty_answers(rows: Rows) -> Found:
    """Rows whose last answer says nothing and calls no tool, and rows whose answers all have weight 0."""
    return {row: why for row, sample in enumerate(rows.samples) if (why := _silence(sample)) is not None}


def cut_answers(rows: Rows) -> Found:
    """Answers that stop in the middle: broken JSON, an open code block, no end where nearly all have one."""
    answers = [sample.answer.strip() for sample in rows.samples]
    found = {row: why for row, answer in enumerate(answers) if (why := _broken(answer)) is not None}
    long = [row for row, answer in enumerate(answers) if len(answer) > LONG]
    unended = [row for row in long if not _ENDED.search(answers[row])]
    if len(unended) <= (1 - SENTENCES) * len(long):
        found |= {row: "ends in the middle of a sentence" for row in unended if row not in found}
    return dict(sorted(found.items()))


def too_long(rows: Rows) -> Found:
    """Rows with more tokens than are read: what is cut off is the answer."""
    limit = rows.max_tokens
    return {
        row: f"{length} tokens, {limit} are read"
        for row, length in enumerate(rows.lengths)
        if length is not None and length > limit
    }


def near_duplicate_prompts(rows: Rows) -> Found:
    """Prompts that nearly repeat an earlier one, whatever is answered; equal ones are another finding."""
    prompts = [plain(sample.prompt) for sample in rows.samples]
    same = repeats(prompts, fitting(prompts))
    return {row: f"like row {first}" for row, first in same.items() if prompts[row] != prompts[first]}


Fault = tuple[Callable[[Rows], Found], Action, str]
FAULTS: dict[str, Fault] = {
    "template_errors": (template_errors, "refuse", "rows cannot be written by the chat template"),
    "empty_answers": (empty_answers, "drop", "rows have no answer to learn"),
    "cut_answers": (cut_answers, "warn", "answers stop in the middle"),
    "too_long": (too_long, "drop", "rows are longer than max_tokens"),
    "near_duplicate_prompts": (near_duplicate_prompts, "warn", "prompts nearly repeat another prompt"),
}


def _disorder(sample: Chat) -> str | None:
    roles = [one.role for one in sample.messages]
    strange = [role for role in roles if role not in ROLES]
    if strange:
        return f"unknown role {strange[0]!r} (known: {', '.join(ROLES)})"
    instructions = [place for place, role in enumerate(roles) if role in {"system", "developer"}]
    if len(instructions) > 1:
        return f"{len(instructions)} system messages"
    if instructions and instructions[0]:
        return "the system message is not the first"
    if roles[-1] != "assistant":
        return f"the last message is of {roles[-1]!r}, not of 'assistant'"
    return None


def _silence(sample: Sample) -> str | None:
    if isinstance(sample, Chat):
        answers = [one for one in sample.messages if one.role == "assistant"]
        if answers and not any(one.weight for one in answers):
            return "every answer has weight 0"
        if answers and answers[-1].extra.get("tool_calls"):
            return None
    return None if sample.answer.strip() else "the answer is empty"


def _broken(answer: str) -> str | None:
    if answer[:1] in {"{", "["} and not value_of(answer)[0] and answer[-1] not in "}]":
        return "the JSON does not end"
    if answer.count("```") % 2:
        return "a code block does not end"
    return None
