"""Texts as they may be compared and shown: redacted on both sides, whatever the policy kept."""

from __future__ import annotations

import re

from exporter.redact import redacted

COMPARED = 500  # characters of a text whose words are counted
_SHOWN = 300
_READ = 2000  # characters that are redacted before the cut, so that no half of an address is left
_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_WORD = re.compile(r"[^\W\d_]{2,}")


def readable(text: str | None) -> str | None:
    """The text, or None where the text policy kept none or only its hash.

    >>> readable("sha256:" + "0" * 64) is None, readable("lost card")
    (True, 'lost card')
    """
    return None if text is None or _HASH.fullmatch(text) else text


def shown(text: str | None) -> str | None:
    """What a page may show of a text: redacted, cut at 300 characters.

    >>> shown("ann@example.org lost " + "x" * 400)[:16], len(shown("x" * 400))
    ('[email] lost xxx', 300)
    """
    text = readable(text)
    if text is None:
        return None
    safe = redacted(text[:_READ])
    return safe if len(safe) <= _SHOWN else safe[: _SHOWN - 1] + "…"


def words_of(text: str) -> set[str]:
    """The different words of a text in lower case, two letters or more.

    >>> sorted(words_of("Lost my card, lost!"))
    ['card', 'lost', 'my']
    """
    return set(_WORD.findall(redacted(text[:COMPARED]).lower()))
