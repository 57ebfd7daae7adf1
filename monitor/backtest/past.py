"""A history of labelled text in order of time, read with every fault named by its line."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from monitor.errors import MonitorError


class HistoryError(MonitorError):
    """A history cannot be replayed: file, line, problem and mend."""

    def __init__(self, file: Path, line: int | None, problem: str) -> None:
        where = f"{file}:{line}" if line else str(file)
        super().__init__(
            f"{where}: {problem}. "
            'Each line is {"at": seconds or ISO time, "text": "…", "label": "…"}, oldest first.'
        )


@dataclass(frozen=True, slots=True)
class Event:
    """One text that came at `at` (seconds since 1970 UTC), with its truth and other fields as slices."""

    at: float
    text: str
    label: str
    slices: dict[str, str]


def read_history(file: Path) -> list[Event]:
    """Read JSON lines; HistoryError on the first line that is torn, out of order or without a label."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise HistoryError(file, None, f"cannot be read ({error})") from error
    events: list[Event] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        event = _event(file, number, line)
        if events and event.at < events[-1].at:
            raise HistoryError(file, number, "is older than the line before; sort the history by `at`")
        events.append(event)
    if not events:
        raise HistoryError(file, None, "holds no rows")
    return events


def _event(file: Path, number: int, line: str) -> Event:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise HistoryError(file, number, f"is not JSON ({error.msg})") from error
    if not isinstance(row, dict):
        raise HistoryError(file, number, "is not an object")
    for name in ("at", "text", "label"):
        if row.get(name) is None or row[name] == "":
            raise HistoryError(file, number, f"has no {name!r}")
    if not isinstance(row["text"], str) or not isinstance(row["label"], str):
        raise HistoryError(file, number, "has a text or label that is not a string")
    slices = {key: str(value) for key, value in row.items() if key not in ("at", "text", "label")}
    return Event(_seconds(file, number, row["at"]), row["text"], row["label"], slices)


def _seconds(file: Path, number: int, at: Any) -> float:
    if isinstance(at, int | float) and not isinstance(at, bool):
        try:
            if math.isfinite(at):
                return float(at)
        except OverflowError:
            pass
    if isinstance(at, str):
        try:
            moment = datetime.fromisoformat(at)
        except ValueError as error:
            raise HistoryError(file, number, f"has a time that cannot be read: {at!r}") from error
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    raise HistoryError(file, number, f"has a time that cannot be read: {at!r}")
