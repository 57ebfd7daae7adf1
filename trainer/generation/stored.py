"""Conversations as rows of text and label: the prompt is the text, the answer is the label.

So snapshots, hold-outs, recorded predictions and their labels are for a language model what they are for a
classifier. Of the answers in a conversation the last one is learnt; where the row said otherwise, or has
tools or calls, its text is the JSON of all but the last answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from trainer.dataset_folder import TRAIN
from trainer.errors import DataError
from trainer.generation.rows import Chat, Completion, Message, Sample, as_record, as_sample
from trainer.generation.transcript import WHOLE, transcript, turns_of
from trainer.rows import MEND_EMPTY, HoldoutRow, Row, fields_of, files_of, time_of
from trainer.tabular import records

Form = Literal["chat", "completion"]


def read_stored(path: Path, form: Form, *, slices: Sequence[str] = (), split: str = TRAIN) -> list[Row]:
    """Rows of a file or of a split of a dataset folder, in its order; DataError names the first bad line."""
    rows = [row for file in files_of(path, split) for row in _rows(file, form, slices)]
    if not rows:
        raise DataError(path, None, "it holds no rows", MEND_EMPTY)
    return rows


def row_of(sample: Sample, *, at: float | None = None, fields: tuple[str, ...] = ()) -> Row:
    """The row that keeps a sample.

    >>> from trainer.generation.rows import chat
    >>> row = row_of(chat(("system", "Desk?"), ("user", "No sound"), ("assistant", "comp")))
    >>> row.text, row.label
    ('system: Desk?\\n\\nuser: No sound', 'comp')
    """
    text = sample.prompt if isinstance(sample, Completion) else _prompt(sample)
    return Row(text=text, label=sample.answer, at=at, origin=sample.origin, fields=fields)


def sample_of(row: Row | HoldoutRow, form: Form) -> Sample:
    """The sample that a row keeps; a hold-out row without label has an empty answer.

    >>> sample_of(Row(text="No sound", label="comp"), "chat").messages[0].role
    'user'
    """
    answer, origin = row.label or "", row.origin if isinstance(row, Row) else "base"
    if form == "completion":
        return Completion(prompt=row.text, answer=answer, origin=origin)
    if row.text.startswith(WHOLE):
        with suppress(ValueError, KeyError, TypeError, DataError):  # then somebody has said it
            record = json.loads(row.text)
            record["messages"] = [*record["messages"], record.pop("answer") | {"content": answer}]
            return as_sample(Path("a stored row"), 1, record | {"origin": origin})
    turns = [Message(role, content, int(role != "assistant")) for role, content in turns_of(row.text)]
    return Chat(messages=(*turns, Message("assistant", answer)), origin=origin)


def _prompt(sample: Chat) -> str:
    *before, last = sample.messages
    if last.role != "assistant":  # the data gate says so
        before, last = [*before, last], Message("assistant")
    plain = not sample.tools and last == Message("assistant", last.content)
    if plain and all(not one.extra and (one.role != "assistant" or not one.weight) for one in before):
        return transcript([(one.role, one.content) for one in before])
    record = as_record(sample)
    record.pop("origin", None)
    if sample.messages[-1].role == "assistant":
        record["answer"] = record["messages"].pop() | {"content": ""}
    else:
        record["answer"] = {"role": "assistant", "content": ""}
    return json.dumps(record, ensure_ascii=False)


def _rows(path: Path, form: Form, slices: Sequence[str]) -> Iterator[Row]:
    for line, record in records(path):
        sample = as_sample(path, line, record)
        if isinstance(sample, Completion) != (form == "completion"):
            other = "chat" if form == "completion" else "completion"
            problem = f"it is no row of the form {form!r}"
            raise DataError(path, line, problem, f'Say [generation] form = "{other}"; a file has one form.')
        fields = fields_of(record, slices)
        yield row_of(sample, at=time_of(path, line, record.get("at")), fields=fields)
