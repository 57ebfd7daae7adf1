"""Personal data in texts, by pattern: what is found has that form, what is not may still be there."""

from __future__ import annotations

import re

# Bounded quantifiers only: no text can make a pattern slow. The first that matches names a passage.
PATTERNS = (
    (re.compile(r"\b(https?://)[^\s/@]{1,128}@"), r"\1[credentials]@"),
    (re.compile(r"[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}"), "[email]"),
    (re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b"), "[account]"),
    (re.compile(r"\b(?:\d[ -]?){12,18}\d\b"), "[card]"),
    (re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b"), "[address]"),
    (re.compile(r"\b\d{3}-\d{2}-\d{4}\b"), "[id]"),
    (re.compile(r"(?<![\w.])\+?\(?\d{2,4}\)?(?:[ ./-]?\d{2,4}){2,4}(?![\w.])"), "[phone]"),
)
_KIND = re.compile(r"\[(\w+)\]")


def kinds(text: str) -> tuple[str, ...]:
    """Kinds of personal data in a text, sorted.

    >>> kinds("write to ann@example.org from 10.0.0.1")
    ('address', 'email')
    """
    return tuple(sorted({_KIND.findall(name)[0] for pattern, name in PATTERNS if pattern.search(text)}))
