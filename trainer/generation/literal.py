"""What people say is text: a special string in a message never becomes the token that the template writes.

"<|im_end|>" in a message would end the turn, and what follows it would speak with another's voice. But such
strings also occur in good faith (SmolLM2 knows "<filename>" as one), so they are not refused. Before the
template is applied they are marked, and the tokenizer then reads a marked string letter by letter.
"""

from __future__ import annotations

import re

from tokenizers import Tokenizer

MARK = "\ufdd0"  # Unicode's own for uses within a program: no text that is exchanged has it
Encoded = tuple[list[int], list[tuple[int, int]]]  # token numbers, and where in the text each lies


class Literal:
    """A tokenizer that tells control from content."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._plain: Tokenizer | None = None  # knows no special strings; made when first needed
        added = tokenizer.get_added_tokens_decoder().values()
        special = sorted((one.content for one in added if one.special), key=len, reverse=True)
        self._special = _any(special)
        self._marked = _any([_mark(one) for one in special])

    def mark(self, content: str) -> str:
        """The content with every special string in it marked."""
        return self._special.sub(lambda found: _mark(found[0]), content)

    def encode(self, text: str) -> Encoded:
        """Tokens of a text in which only what is not marked can be control."""
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        end = 0
        for found in self._marked.finditer(text):
            self._append(text[end : found.start()], end, ids, offsets)
            said = self._letters(found[0].replace(MARK, "", 1))
            ids += said
            offsets += [(found.start(), found.end())] * len(said)
            end = found.end()
        self._append(text[end:], end, ids, offsets)
        return ids, offsets

    def _append(self, text: str, start: int, ids: list[int], offsets: list[tuple[int, int]]) -> None:
        if text:
            found = self._tokenizer.encode(text, add_special_tokens=False)
            ids += found.ids
            offsets += [(start + first, start + last) for first, last in found.offsets]

    def _letters(self, text: str) -> list[int]:
        if self._plain is None:
            self._plain = Tokenizer.from_str(self._tokenizer.to_str())
            self._plain.encode_special_tokens = True
        found: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        return found


def _mark(special: str) -> str:
    return special[:1] + MARK + special[1:]


def _any(strings: list[str]) -> re.Pattern[str]:
    """A pattern of any of the strings, the longest first; of nothing where there are none."""
    return re.compile("|".join(map(re.escape, strings)) or r"(?!)")
