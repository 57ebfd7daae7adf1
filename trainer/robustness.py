"""The same texts as people and mail programs spoil them: does the answer stay?"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from trainer.evaluate import compared

Array = np.ndarray[Any, np.dtype[Any]]
Right = Callable[[Sequence[str]], Array]
TYPOS = 0.05  # of the letters
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_NAMES = ("Alex Morgan", "Kim Sanders", "Noor Patel", "Jo Lindqvist")


def spoilt(texts: Sequence[str], *, seed: int) -> dict[str, list[str]]:
    """Every kind of damage, done to every text; the same texts and seed give the same damage.

    >>> {kind: found[0] for kind, found in spoilt(["my card is gone"], seed=0).items()}["upper case"]
    'MY CARD IS GONE'
    """
    return {
        kind: [damage(text, _lots(seed, number)) for number, text in enumerate(texts)]
        for kind, damage in DAMAGES.items()
    }


def robustness(texts: Sequence[str], before: Array, right: Right, *, seed: int) -> dict[str, Any]:
    """What each damage costs; before: [texts] whose answer was right; `right` says it of damaged ones."""
    return {kind: compared(before, right(found)) for kind, found in spoilt(texts, seed=seed).items()}


def mistyped(text: str, share: float, draw: random.Random) -> str:
    """Each letter is replaced, doubled, left out or swapped with the next with probability `share`.

    >>> mistyped("hello", 0.0, random.Random(0))
    'hello'
    """
    letters = list(text)
    for place in range(len(letters)):
        if letters[place].isalpha() and draw.random() < share:
            kind = draw.randrange(4)
            if kind == 3 and place + 1 < len(letters):
                letters[place], letters[place + 1] = letters[place + 1], letters[place]
            else:
                letters[place] = (draw.choice(_LETTERS), letters[place] * 2, "")[kind % 3]
    return "".join(letters)


def _lots(seed: int, number: int) -> random.Random:
    return random.Random(f"{seed} {number}")  # noqa: S311 - which letters are hit is no secret


def _typos(text: str, draw: random.Random) -> str:
    return mistyped(text, TYPOS, draw)


def _upper(text: str, _: random.Random) -> str:
    return text.upper()


def _cut(text: str, _: random.Random) -> str:
    words = text.split()
    return " ".join(words[: math.ceil(3 * len(words) / 4)])


def _signed(text: str, draw: random.Random) -> str:
    name = draw.choice(_NAMES)
    return f"{text}\n\n--\nKind regards,\n{name}\nCustomer Care, Example Ltd\nTel. +44 20 7946 0000"


def _quoting(text: str, draw: random.Random) -> str:
    earlier = "Thank you for your message. We have received it and will answer within two days."
    return f"{text}\n\nOn Monday {draw.choice(_NAMES)} wrote:\n> {earlier}"


DAMAGES: dict[str, Callable[[str, random.Random], str]] = {
    "typos": _typos,
    "upper case": _upper,
    "last quarter cut": _cut,
    "signature": _signed,
    "quoted mail": _quoting,
}
