"""What is kept of a text, by policy. Redaction is by pattern: it lessens harm, it does not anonymise."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, assert_never

import regex  # type: ignore[import-untyped]  # as re, and gives up in time

from exporter.errors import RedactPatternError
from exporter.settings import TextPolicy
from trainer.personal import PATTERNS

KEEPS_WORDS: tuple[TextPolicy, ...] = ("redacted", "full")  # policies under which hashed words are kept, too
MATCH_S = 0.02  # of one pattern on one text; what takes longer is not kept
_UNSTORABLE = re.compile("[\ud800-\udfff\x00]")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True)
class Keep:
    """What is kept of a raw text: its stored form, and whether its hashed words stay."""

    policy: TextPolicy
    patterns: tuple[tuple[Any, str], ...]  # a user's own, before ours
    timed_out: Callable[[], None]

    @property
    def words(self) -> bool:
        return self.policy in KEEPS_WORDS

    def label(self, raw: str) -> str | None:
        """A corrected answer as answers are kept; a hash or nothing could not be held against any."""
        return self.text(storable(raw)) if self.words else raw

    def text(self, raw: str, *, in_place: bool = False) -> str | None:
        """None under "none", and where a pattern took too long: better no text than a name in it.

        `in_place`: what is redacted keeps its length, so that places in the text stay where they are.
        """
        if self.policy != "redacted":
            return kept_text(raw, self.policy)
        try:
            for pattern, kind in self.patterns:
                raw = pattern.sub(_filler(kind) if in_place else kind, raw, timeout=MATCH_S)
        except TimeoutError:
            self.timed_out()
            return None
        return redacted(raw, in_place=in_place)


def keeping(
    policy: TextPolicy, patterns: Mapping[str, str], *, timed_out: Callable[[], None] = lambda: None
) -> Keep:
    """`patterns`: name -> regular expression; what it matches is kept as "[name]". Raises RedactPatternError.

    >>> keeping("redacted", {"badge": r"EMP-\\d{5}"}).text("EMP-12345 wrote from ann@example.org")
    '[badge] wrote from [email]'
    """
    return Keep(policy, tuple(_pattern(*item) for item in patterns.items()), timed_out)


def _pattern(name: str, expression: str) -> tuple[Any, str]:
    if not _NAME.fullmatch(name):
        raise RedactPatternError(name, "needs a name of 1-32 small letters, digits, '-' or '_'")
    try:
        compiled = regex.compile(expression)
    except regex.error as error:
        raise RedactPatternError(name, f"is no regular expression ({error})") from error
    if compiled.search("") is not None:
        raise RedactPatternError(name, "matches where nothing is; write what it is to find")
    return compiled, f"[{name}]"


def kept_text(text: str, policy: TextPolicy) -> str | None:
    """The stored form of `text`, or None.

    >>> kept_text("mail me at ann@example.org", "redacted")
    'mail me at [email]'
    >>> kept_text("secret", "none") is None
    True
    """
    if policy == "none":
        return None
    if policy == "hash":
        return "sha256:" + sha256(text.encode()).hexdigest()
    if policy == "redacted":
        return redacted(text)
    if policy == "full":
        return text
    assert_never(policy)


def redacted(text: str, *, in_place: bool = False) -> str:
    """Addresses, account and telephone numbers replaced by their kind.

    >>> redacted("call +49 170 1234567 about 20 parcels")
    'call [phone] about 20 parcels'
    >>> redacted("call +49 170 1234567 about 20 parcels", in_place=True)
    'call [phone]******** about 20 parcels'
    """
    for pattern, kind in PATTERNS:
        text = pattern.sub(_filler(kind) if in_place else kind, text)
    return text


def _filler(kind: str) -> Callable[[Any], str]:
    """What replaces a match by its kind, at the length that it has."""

    def fill(match: Any) -> str:
        size = match.end() - match.start()
        return str(match.expand(kind)).ljust(size, "*")[:size]

    return fill


def storable(text: str) -> str:
    """`text` with U+FFFD for what no database and no tokenizer takes: lone surrogates and NUL."""
    return _UNSTORABLE.sub("\ufffd", text)
