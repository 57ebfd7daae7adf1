"""What is kept of a text, by policy. Redaction is by pattern: it lessens harm, it does not anonymise."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import assert_never

from exporter.settings import TextPolicy

# Bounded quantifiers only: no text can make a pattern slow.
_PATTERNS = (
    (re.compile(r"\b(https?://)[^\s/@]{1,128}@"), r"\1[credentials]@"),
    (re.compile(r"[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}"), "[email]"),
    (re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b"), "[account]"),
    (re.compile(r"\b(?:\d[ -]?){12,18}\d\b"), "[card]"),
    (re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b"), "[address]"),
    (re.compile(r"\b\d{3}-\d{2}-\d{4}\b"), "[id]"),
    (re.compile(r"(?<![\w.])\+?\(?\d{2,4}\)?(?:[ ./-]?\d{2,4}){2,4}(?![\w.])"), "[phone]"),
)
KEEPS_WORDS: tuple[TextPolicy, ...] = ("redacted", "full")  # policies under which hashed words are kept, too
_UNSTORABLE = re.compile("[\ud800-\udfff\x00]")


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


def redacted(text: str) -> str:
    """Addresses, account and telephone numbers replaced by their kind.

    >>> redacted("call +49 170 1234567 about 20 parcels")
    'call [phone] about 20 parcels'
    """
    for pattern, kind in _PATTERNS:
        text = pattern.sub(kind, text)
    return text


def storable(text: str) -> str:
    """`text` with U+FFFD for what no database and no tokenizer takes: lone surrogates and NUL."""
    return _UNSTORABLE.sub("\ufffd", text)
