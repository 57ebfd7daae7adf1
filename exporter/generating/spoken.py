"""Tokens to text as they come, up to a stop string, which may begin in one token and end in another."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream


class Spoken:
    """The text of one answer. Special tokens are no text; an incomplete character waits for its rest."""

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str]) -> None:
        self._tokenizer, self._stops = tokenizer, stops
        self._stream = DecodeStream(skip_special_tokens=True)
        self._held = ""  # could be the beginning of a stop string
        self.stopped = False

    def hear(self, token: int) -> str:
        """What can be said after this token; nothing more once `stopped`."""
        self._held += self._stream.step(self._tokenizer, token) or ""
        said, self._held, self.stopped = cut(self._held, self._stops)
        return said

    def rest(self) -> str:
        """What was held back, at the end of an answer that no stop string ended."""
        return "" if self.stopped else self._held


def cut(text: str, stops: Sequence[str]) -> tuple[str, str, bool]:
    """(what is sure to be said, what a stop string may begin with, whether one was found).

    >>> cut("one END two", ["END"])
    ('one ', '', True)
    >>> cut("one E", ["END"])
    ('one ', 'E', False)
    >>> cut("one", [])
    ('one', '', False)
    """
    places = [place for place in (text.find(stop) for stop in stops) if place >= 0]
    if places:
        return text[: min(places)], "", True
    longest = max(map(len, stops), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-length:]) for stop in stops):
            return text[:-length], text[-length:], False
    return text, "", False
