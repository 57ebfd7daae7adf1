"""Entities: which characters of a text are what, and the one spelling that predictions and labels keep.

The canonical form is the JSON list of [start, end, name], sorted. Places count characters (code points, as
Python does), the end is behind the last one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from trainer.cells import Cell, short
from trainer.errors import CellError

STARTS, ENDS = ("start", "start_offset"), ("end", "end_offset")  # as spaCy and Prodigy, and doccano, say it
MEND = 'Write a list of {"start": 0, "end": 5, "label": "person"}; [] where the text has none.'


class Entity(NamedTuple):
    """The characters start … end - 1 of a text, and what they are."""

    start: int
    end: int
    label: str


def trimmed(text: str, entity: Entity) -> Entity:
    """An entity without the white space that people mark along with it.

    >>> trimmed("to Rome now", Entity(3, 8, "city"))
    Entity(start=3, end=7, label='city')
    """
    inside = text[entity.start : entity.end]
    if not inside.strip() or not 0 <= entity.start < entity.end <= len(text):
        return entity
    start = entity.start + len(inside) - len(inside.lstrip())
    return Entity(start, start + len(inside.strip()), entity.label)


def canonical(entities: Sequence[Entity]) -> str:
    """The one spelling of entities.

    >>> canonical([Entity(9, 12, "person"), Entity(3, 7, "city")])
    '[[3, 7, "city"], [9, 12, "person"]]'
    """
    return json.dumps(sorted(set(entities)), ensure_ascii=False)


def entities(label: str) -> list[Entity]:
    """The entities of a canonical label; ValueError where it is none.

    >>> entities('[[3, 7, "city"]]')
    [Entity(start=3, end=7, label='city')]
    """
    try:
        found = listed(Cell("the label", label))
    except CellError as error:
        raise ValueError(str(error)) from error
    if canonical(found) != label:
        raise ValueError(f"{short(label)} is not sorted or repeats an entity: write {canonical(found)}")
    return found


def listed(label: Cell) -> list[Entity]:
    """Entities from a list of objects or of [start, end, name], or from the JSON of one. Raises CellError."""
    value = label.present()
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise CellError(f"{label.column} is {short(value)}, not a list of entities", MEND) from error
    if not isinstance(value, list):
        raise CellError(f"{label.column} is {short(value)}, not a list of entities", MEND)
    return [_entity(label.column, one) for one in value]


def kinds(label: str) -> list[str]:
    """The kinds of entities in a canonical label, sorted.

    >>> kinds('[[0, 4, "city"], [9, 12, "city"]]')
    ['city']
    """
    return sorted({one.label for one in entities(label)})


def _entity(column: str, value: Any) -> Entity:
    if isinstance(value, Mapping):
        start = next((value[name] for name in STARTS if name in value), None)
        end = next((value[name] for name in ENDS if name in value), None)
        name = value.get("label")
    elif isinstance(value, list | tuple) and len(value) == 3:
        start, end, name = value
    else:
        raise CellError(f"{short(value)} in {column} is no entity", MEND)
    if not (_whole(start) and _whole(end)):
        raise CellError(f"{short(value)} in {column} has no whole numbers for its start and end", MEND)
    return Entity(start, end, Cell(f"the label of an entity in {column}", name).string().strip())


def _whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
