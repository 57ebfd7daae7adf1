"""Columns and cells of records: what they must be, told by the name of the column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.errors import CellError, DataError

_NOTHING = {"nan", "NaN"}  # as pandas writes it into CSV


@dataclass(frozen=True, slots=True)
class Cell:
    """The value of a column, as its file or database has it."""

    column: str
    value: Any

    def present(self) -> Any:
        """The value; CellError where it is null or NaN.

        >>> Cell("label", ["a"]).present()
        ['a']
        """
        missing = self.value is None or (isinstance(self.value, float) and math.isnan(self.value))
        if missing or (isinstance(self.value, str) and self.value in _NOTHING):
            raise CellError(f"{self.column} is missing (null or NaN)", "Fill it in or remove the row.")
        return self.value

    def string(self) -> str:
        """The value as it is; CellError where it is no string, or blank.

        >>> Cell("label", "a ").string()
        'a '
        """
        value = self.present()
        if not isinstance(value, str):
            raise CellError(f"{self.column} is {short(value)}, not a string", "Write it in quotes.")
        if not value.strip():
            raise CellError(f"{self.column} is empty", "Fill it in or remove the row.")
        return value


def short(value: Any) -> str:
    """How an error shows a value.

    >>> short(3), len(short("x" * 500))
    ('3', 60)
    """
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:59] + "…"


def repeated(columns: Sequence[str]) -> str | None:
    """The first name that comes twice, None where each is its own.

    >>> repeated(["text", "label", "text"]), repeated(["text", "label"])
    ('text', None)
    """
    return next((name for place, name in enumerate(columns) if name in columns[:place]), None)


def columns_once(source: str | Path, line: int | None, columns: Sequence[str]) -> None:
    """Raise DataError where two columns have one name: which of them is meant nobody knows."""
    name = repeated(columns)
    if name is not None:
        raise DataError(source, line, f"column {name!r} is there twice", "Rename or remove one of them.")
