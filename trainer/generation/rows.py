"""Rows of a generative model: conversations in OpenAI's fine-tuning format, or prompts with completions.

A conversation is trained as it is served by /v1/chat/completions, through the chat template; a prompt with
its completion as by /v1/completions, as plain text. Format:
https://platform.openai.com/docs/guides/supervised-fine-tuning (`messages`, `weight` 0 or 1 on assistant
messages, `tools`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from trainer.errors import DataError
from trainer.rows import Origin
from trainer.tabular import records

WEIGHTS = (0, 1)
KEPT = ("tool_calls", "tool_call_id", "name")  # what a template may read beside role and content


@dataclass(frozen=True, slots=True)
class Message:
    """One turn; `weight` 0 keeps an answer as context without learning it."""

    role: str
    content: str = ""
    weight: int = 1
    extra: Mapping[str, Any] = field(default_factory=dict)  # the keys of KEPT that the row has


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A conversation; its last message is the answer that evaluation asks for."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    origin: Origin = "base"

    @property
    def prompt(self) -> str:
        """The last user message: what traffic calls the text."""
        return next((one.content for one in reversed(self.messages) if one.role == "user"), "")

    @property
    def answer(self) -> str:
        return self.messages[-1].content if self.messages[-1].role == "assistant" else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A text and how it goes on."""

    prompt: str
    answer: str
    origin: Origin = "base"


Sample: TypeAlias = Chat | Completion


def read_samples(path: Path) -> list[Sample]:
    """Rows of a .jsonl or .parquet file in its order; DataError names the first bad line.

    What a model cannot learn from (empty answers, unknown roles) is not refused here: the data gate tells it.
    """
    found = [as_sample(path, line, record) for line, record in records(path)]
    if not found:
        raise DataError(path, None, "it holds no rows", 'Give one {"messages": [...]} per line.')
    return found


def chat(*turns: tuple[str, str], origin: Origin = "base") -> Chat:
    """A conversation of (role, content) turns.

    >>> chat(("user", "hello"), ("assistant", "hi")).answer
    'hi'
    """
    return Chat(messages=tuple(Message(role, content) for role, content in turns), origin=origin)


def as_record(sample: Sample) -> dict[str, Any]:
    """A row as the JSON object that `read_samples` reads."""
    origin = {"origin": sample.origin} if sample.origin != "base" else {}
    if isinstance(sample, Completion):
        return {"prompt": sample.prompt, "completion": sample.answer, **origin}
    messages = [
        {"role": one.role, "content": one.content, **one.extra}
        | ({"weight": one.weight} if one.weight != 1 else {})
        for one in sample.messages
    ]
    return {"messages": messages, **({"tools": list(sample.tools)} if sample.tools else {}), **origin}


def as_sample(path: Path, line: int, record: dict[str, Any]) -> Sample:
    """The row of a JSON object; DataError names `path` and `line`."""
    origin: Origin = "traffic" if record.get("origin") == "traffic" else "base"
    if record.get("messages") is not None:
        messages = _list(path, line, record["messages"], "messages")
        return Chat(
            messages=tuple(_message(path, line, number, one) for number, one in enumerate(messages)),
            tools=tuple(_list(path, line, record.get("tools") or [], "tools", empty=True)),
            origin=origin,
        )
    if record.get("prompt") is None or record.get("completion") is None:
        there = ", ".join(record) or "none"
        problem = f"neither `messages` nor `prompt` and `completion` (there: {there})"
        raise DataError(path, line, problem, 'Write {"messages": [{"role": "user", "content": "…"}, …]}.')
    prompt, answer = (_text(path, line, record[key], key) for key in ("prompt", "completion"))
    return Completion(prompt=prompt, answer=answer, origin=origin)


def _message(path: Path, line: int, number: int, given: Mapping[str, Any]) -> Message:
    where = f"messages[{number}]"
    role = given.get("role")
    if not isinstance(role, str):
        raise DataError(path, line, f"{where} has no role", 'Give it "user", "assistant" or "system".')
    weight = 1 if given.get("weight") is None else given["weight"]
    if isinstance(weight, bool) or weight not in WEIGHTS:
        raise DataError(path, line, f"{where} has the weight {weight!r}", "A weight is 0 or 1.")
    if weight == 0 and role != "assistant":
        raise DataError(path, line, f"{where} is a {role} message with a weight", "Weigh answers only.")
    extra = {key: given[key] for key in KEPT if given.get(key) is not None}
    return Message(role, _text(path, line, given.get("content"), f"{where}.content"), int(weight), extra)


def _text(path: Path, line: int, value: Any, where: str) -> str:
    """A string, or the text of OpenAI's content parts; null (a message that only calls tools) is empty."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    parts = value if isinstance(value, Sequence) else [value]
    if not all(isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in parts):
        told = json.dumps(value, default=str)[:60]
        raise DataError(path, line, f"{where} is {told}, not text", "Only text can be learnt.")
    return "".join(part["text"] for part in parts)


def _list(
    path: Path, line: int, value: Any, where: str, *, empty: bool = False
) -> Sequence[Mapping[str, Any]]:
    if not isinstance(value, Sequence) or not all(isinstance(one, Mapping) for one in value):
        raise DataError(path, line, f"{where} is not a list of objects", "See OpenAI's fine-tuning format.")
    if not value and not empty:
        raise DataError(path, line, f"{where} is empty", "Give at least a question and an answer.")
    return value
