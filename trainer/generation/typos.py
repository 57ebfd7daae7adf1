"""Slips of the finger in texts: what people send when they write in haste."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trainer.generation.rows import Chat, Completion, Sample


def mistyped(text: str, *, share: float, seed: int) -> str:
    """A text with `share` of its words slipped: two letters swapped, one lost, or one doubled.

    The first and last letter of a word stay; words under four letters are spared.

    >>> mistyped("my screen stays black after lunch", share=0.5, seed=1)
    'my screen stays blaack afer lunch'
    """
    rng = np.random.default_rng(seed)
    return " ".join(
        _slipped(word, rng) if len(word) > 3 and rng.random() < share else word for word in text.split(" ")
    )


def with_typos(sample: Sample, *, share: float, seed: int) -> Sample:
    """The row with slips in its prompt (a conversation: in its last user message); its answer stays."""
    if isinstance(sample, Completion):
        return replace(sample, prompt=mistyped(sample.prompt, share=share, seed=seed))
    return _chat(sample, share, seed)


def _chat(sample: Chat, share: float, seed: int) -> Chat:
    asked = [number for number, one in enumerate(sample.messages) if one.role == "user"]
    if not asked:
        return sample
    last = sample.messages[asked[-1]]
    slipped = replace(last, content=mistyped(last.content, share=share, seed=seed))
    messages = [*sample.messages[: asked[-1]], slipped, *sample.messages[asked[-1] + 1 :]]
    return replace(sample, messages=tuple(messages))


def _slipped(word: str, rng: np.random.Generator) -> str:
    at = int(rng.integers(1, len(word) - 2))
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return (swapped, word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:])[int(rng.integers(3))]
