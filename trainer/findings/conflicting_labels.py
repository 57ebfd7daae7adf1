"""One text under several labels: at most one of them can be right."""

from __future__ import annotations

from collections import defaultdict

from trainer.duplicates import plain
from trainer.findings import EXAMPLES, Action, Data, Finding, example

ACTION: Action = "warn"


def find(data: Data) -> Finding | None:
    """Rows whose text has another label elsewhere; the newest label of a text is the one that is kept."""
    by_text: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(data.rows):
        by_text[_key(row.text)].append(place)
    torn = [places for places in by_text.values() if len({data.rows[place].label for place in places}) > 1]
    if not torn:
        return None
    stale = [place for places in torn for place in places if data.rows[place].label != _newest(data, places)]
    return Finding(
        kind="conflicting_labels",
        message=f"{len(torn)} texts come with several labels; {len(stale)} rows have not the newest one",
        rows=tuple(sorted(stale)),
        examples=tuple(
            example(data, place, f"elsewhere {_newest(data, by_text[_key(data.rows[place].text)])!r}")
            for place in sorted(stale)[:EXAMPLES]
        ),
    )


def _key(text: str) -> str:
    return plain(text) or text


def _newest(data: Data, places: list[int]) -> str:
    """The label of the row with the latest time; rows without a time are older, the last in the file wins."""
    return data.rows[max(places, key=lambda place: (data.rows[place].at or 0.0, place))].label
