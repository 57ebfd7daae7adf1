"""Descriptors of what a language model read and said: how it fails, in a few microseconds.

A prompt's perplexity is that of a few of its tokens under the model that answers it. Only answers that were
asked for as the hold-out's were are described: the likeliest tokens, bound by no schema and no stop string,
as many as the hold-out was allowed or more, and looked at up to there. Otherwise a client that draws at
another temperature would look like drift.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import exp

from trainer.generation.answers import Said
from trainer.generation.json_answers import value_of

NAMES = (
    "prompt_perplexity",
    "answer_tokens",
    "answer_perplexity",
    "answer_loops",
    "answer_empty",
    "answer_refusal",
    "answer_json",
)
LOOP = 3  # words that stood in the answer before
_LARGEST = 100.0  # of a logarithm: an answer is recorded, however unlikely it was
_OPENING = 160  # characters in which a refusal says that it is one
_WORD = re.compile(r"\w+")
_REFUSAL = re.compile(
    r"\b(?:i(?: am|'m) (?:sorry|unable|not able)|i (?:can ?no|can')t|as an ai\b|i must decline"
    r"|lo siento|no puedo|es tut mir leid|ich kann (?:das |dabei |dir |ihnen )?nicht|(?:je suis )?désolée?"
    r"|je ne (?:peux|puis) pas|não posso|mi dispiace|non posso|het spijt me|ik kan (?:dat |je )?niet)",
    re.IGNORECASE,
)


def describe_answer(said: Said, *, alike: bool = True) -> tuple[float | None, ...]:
    """One number for each of NAMES, None where it is not known; of the prompt alone where not asked `alike`.

    >>> describe_answer(Said('{"desk": "comp"}', 8, -0.1, -2.0))
    (7.3891, 8.0, 1.1052, 0.0, 0.0, 0.0, 1.0)
    >>> describe_answer(Said("", prompt_logprob=-2.0), alike=False)
    (7.3891,)
    >>> describe_answer(Said("I’m sorry, but I can't help with that."))
    (None, None, None, 0.0, 0.0, 1.0, 0.0)
    """
    prompt = _perplexity(said.prompt_logprob)
    if not alike:
        return (prompt,)
    text = said.text.strip()
    return (
        prompt,
        None if said.tokens is None else float(said.tokens),
        _perplexity(said.mean_logprob),
        loops(_WORD.findall(text.lower())),
        float(not text),
        float(bool(_REFUSAL.search(text[:_OPENING].replace("’", "'")))),
        float(value_of(text)[0]),
    )


def _perplexity(mean_logprob: float | None) -> float | None:
    return None if mean_logprob is None else round(exp(min(-mean_logprob, _LARGEST)), 4)


def loops(words: Sequence[str]) -> float:
    """Share of the runs of LOOP words that stood in the answer before, in [0, 1).

    Source: Welleck et al. (2020), Neural Text Generation with Unlikelihood Training, seq-rep-n.

    >>> loops("no no no no no no".split()), loops("a loop is said again".split())
    (0.75, 0.0)
    """
    runs = [tuple(words[place : place + LOOP]) for place in range(len(words) - LOOP + 1)]
    return round(1 - len(set(runs)) / len(runs), 4) if runs else 0.0
