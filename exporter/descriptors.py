"""Descriptors: what can be said about a text before it is redacted, in a few microseconds.

They are taken from the raw text, of the reference and of live traffic alike: after redaction the two would
differ by the redaction.
"""

from __future__ import annotations

import re
import sys
from array import array
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

WORD_BUCKETS = 4096
MAX_WORDS = 256  # of a text; more tell nothing new

# Function words that no other language of the list has; a text without one is "none".
_FUNCTION_WORDS = {
    "en": "the of and to is are was i you my it that this for with have what how do can your not be on from",
    "es": "el los las y es una del por con que para lo esta pero como más yo muy todo hay cuando donde",
    "de": "der die das und ist nicht ein eine ich zu den mit auf für von dem sie wie kann mein auch wir es",
    "fr": "le les et est une des du pour dans que je vous pas sur au avec ce il mon nous plus qui",
    "pt": "o os as e um uma da para com não em eu meu por mais você são isso muito quando",
    "it": "il gli di è un che non per con sono della mi si come ho più questo anche nel",
    "nl": "het een van en ik niet dat op voor met je zijn hoe mijn ook wat kan naar",
}
LANGUAGES = ("none", *_FUNCTION_WORDS)
_WORD = re.compile(r"[^\W\d_]+")


def _languages_by_word() -> dict[str, int]:
    """Words of one language only: a shared word would decide by the order of the list."""
    found: dict[str, set[int]] = {}
    for number, words in enumerate(_FUNCTION_WORDS.values(), 1):
        for word in words.split():
            found.setdefault(word, set()).add(number)
    return {word: min(numbers) for word, numbers in found.items() if len(numbers) == 1}


_LANGUAGE_OF = _languages_by_word()


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What `describe` found; None where the text has nothing to count."""

    non_letters: float | None  # share of characters that are neither letters nor white space, in [0, 1]
    repetition: float | None  # share of words that stood in the text before, in [0, 1)
    language: int | None  # index in LANGUAGES
    words: bytes  # a bucket of WORD_BUCKETS for each of the first MAX_WORDS words, uint16 little endian

    @property
    def numbers(self) -> tuple[float | None, ...]:
        """The form in which a prediction keeps them."""
        return self.non_letters, self.repetition, self.language


def describe(text: str) -> Description:
    """Descriptors of one raw text.

    >>> found = describe("What is my balance, what is it?")
    >>> found.non_letters, round(found.repetition, 3), LANGUAGES[found.language], len(found.words)
    (0.0645, 0.286, 'en', 14)
    >>> describe("").numbers
    (None, None, None)
    """
    words = _WORD.findall(text.lower())
    letters, visible = sum(map(len, words)), sum(map(len, text.split()))
    return Description(
        non_letters=round(max(0, visible - letters) / len(text), 4) if text else None,
        repetition=1 - len(set(words)) / len(words) if words else None,
        language=_language(words) if words else None,
        words=_little_endian(map(bucket, words[:MAX_WORDS])),
    )


@lru_cache(maxsize=1 << 16)
def bucket(word: str) -> int:
    """The bucket of a lower-case word, the same in every process.

    >>> bucket("card") == bucket("card") < WORD_BUCKETS
    True
    """
    return crc32(word.encode(errors="replace")) % WORD_BUCKETS


def _language(words: list[str]) -> int:
    votes = [0] * len(LANGUAGES)
    for word in words:
        if number := _LANGUAGE_OF.get(word):
            votes[number] += 1
    return votes.index(max(votes[1:])) if any(votes) else 0


def _little_endian(buckets: map[int]) -> bytes:
    found = array("H", buckets)
    if sys.byteorder == "big":
        found.byteswap()
    return found.tobytes()
