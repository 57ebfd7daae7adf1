"""Rows of texts with entities: spans as spaCy, Prodigy and doccano write them, or words with BIO tags.

Words are joined by single spaces: where their text was written otherwise, that is lost in such files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainer.arrow_rows import Numbered
from trainer.cells import short
from trainer.dataset_folder import TRAIN
from trainer.errors import CellError, DataError
from trainer.findings import Action
from trainer.rows import MEND_EMPTY, Row, files_of, rows_of
from trainer.tabular import records
from trainer.tagging import TASK
from trainer.tagging.entities import Entity, canonical

SPANS = ("entities", "spans", "labels")  # where spans may be, if not under the name that the spec gives
WORDS, TAGS = "tokens", ("tags", "ner_tags")
TRANSITIONS = "wrong_transitions"  # of `on_finding`: found when tags are read, there are none afterwards
TAG_MEND = 'Write "O", "B-name" where an entity begins and "I-name" where it goes on.'


def read_tagged(
    path: Path,
    *,
    text: str,
    label: str,
    slices: Sequence[str] = (),
    on_finding: Mapping[str, Action],
    split: str = TRAIN,
) -> list[Row]:
    """Rows of a file, or of a split of a dataset folder, in its order; DataError names the first bad line.

    With `on_finding` of TRANSITIONS other than "refuse", an I- without its B- begins an entity.
    """
    strict = on_finding.get(TRANSITIONS, "refuse") == "refuse"
    rows: list[Row] = []
    for file in files_of(path, split):
        numbered = spanned(records(file), file, text=text, label=label, strict=strict)
        rows += rows_of(numbered, file, text=text, label=label, slices=slices, task=TASK)
    if not rows:
        raise DataError(path, None, "it holds no rows", MEND_EMPTY)
    return rows


def spanned(numbered: Numbered, source: str | Path, *, text: str, label: str, strict: bool) -> Numbered:
    """Records of either kind with a text and its spans under the names of the spec. Raises DataError."""
    for line, record in numbered:
        try:
            yield line, _spanned(record, text=text, label=label, strict=strict)
        except CellError as error:
            raise DataError(source, line, error.problem, error.mend) from error


def from_tags(words: Sequence[str], tags: Sequence[str], *, strict: bool = True) -> tuple[str, list[Entity]]:
    """(text, entities) of words and their BIO tags; CellError where they are none.

    >>> from_tags(["to", "New", "York"], ["O", "B-city", "I-city"])
    ('to New York', [Entity(start=3, end=11, label='city')])
    """
    found: list[Entity] = []
    going: str | None = None  # the entity that the word before belongs to
    place = 0
    for number, (word, tag) in enumerate(zip(words, tags, strict=True)):
        kind, name = _tag(tag)
        goes_on = kind == "I" and name == going
        if kind == "I" and not goes_on and strict:
            before = tags[number - 1] if number else "the beginning"
            problem = f"{tag} follows {before}: no entity of {name} has begun there (word {number + 1})"
            mend = f'{TAG_MEND} Or say [data] on_finding.{TRANSITIONS} = "warn": it then begins one.'
            raise CellError(problem, mend)
        end = place + len(word)
        if goes_on:
            found[-1] = found[-1]._replace(end=end)
        elif kind != "O":
            found.append(Entity(place, end, name))
        going = name if kind != "O" else None
        place = end + 1
    return " ".join(words), found


def _spanned(record: Mapping[str, Any], *, text: str, label: str, strict: bool) -> dict[str, Any]:
    if WORDS in record and (tags := next((name for name in TAGS if name in record), None)):
        said, entities = _from_record(record[WORDS], record[tags], tags, strict)
        return {**record, text: said, label: canonical(entities)}
    spans = next((name for name in (label, *SPANS) if name in record), None)
    return dict(record) if spans is None else {**record, label: record[spans]}


def _from_record(words: Any, tags: Any, column: str, strict: bool) -> tuple[str, list[Entity]]:
    if not (isinstance(words, list) and all(isinstance(word, str) and word.strip() for word in words)):
        raise CellError(f"{WORDS} is {short(words)}, not a list of words", "Write one string a word.")
    if isinstance(tags, list) and any(isinstance(tag, int) for tag in tags):
        problem = f"{column} holds numbers, whose names are not in the file"
        raise CellError(problem, f"Write their names. {TAG_MEND}")
    if not (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)):
        raise CellError(f"{column} is {short(tags)}, not a list of tags", TAG_MEND)
    if len(words) != len(tags):
        raise CellError(f"{len(words)} words have {len(tags)} tags", "Write one tag a word.")
    return from_tags([word.strip() for word in words], tags, strict=strict)


def _tag(tag: str) -> tuple[str, str]:
    kind, _, name = tag.partition("-")
    if tag == "O" or (kind in ("B", "I") and name.strip()):
        return kind, name.strip()
    raise CellError(f"{short(tag)} is no tag", TAG_MEND)
