"""Texts in another writing than nearly all others: a wrong column, a wrong encoding, another market."""

from __future__ import annotations

import unicodedata
from collections import Counter

from trainer.findings import EXAMPLES, Action, Data, Finding, example

ACTION: Action = "warn"
USUAL = 0.9  # share of the texts in the main script, below which there is no main script
LOOKED_AT = 200  # characters of a text


def find(data: Data) -> Finding | None:
    """Rows whose letters are of another script than those of nearly all rows, or that have no letters.

    Languages of one script are another finding.
    """
    scripts = [script(row.text) for row in data.rows]
    if not scripts:
        return None
    usual, often = Counter(scripts).most_common(1)[0]
    other = [place for place, found in enumerate(scripts) if found != usual]
    if not other or often < USUAL * len(scripts):
        return None
    return Finding(
        kind="foreign_script",
        message=f"{len(other)} of {len(scripts)} texts are not written in {usual or 'letters'}",
        rows=tuple(other),
        examples=tuple(example(data, place, scripts[place] or "no letters") for place in other[:EXAMPLES]),
    )


def script(text: str) -> str:
    """The script of most letters, by the first word of their Unicode names; "" where there is no letter.

    >>> script("где мой banк"), script("42 !?")
    ('CYRILLIC', '')
    """
    found = Counter(
        unicodedata.name(sign, "UNNAMED").split(" ")[0] for sign in text[:LOOKED_AT] if sign.isalpha()
    )
    return found.most_common(1)[0][0] if found else ""
