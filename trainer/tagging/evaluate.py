"""How well entities are found: counted whole, as conlleval and seqeval do, each with its class and both ends.

An entity that is half found, or found under another name, is one missed and one made up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.calibrate import GRID
from trainer.evaluate import MIN_ROWS, NOT_ENOUGH, RESAMPLES, share
from trainer.tagging.entities import Entity, canonical
from trainer.tagging.tags import Tokens, entities_of, likeliest, softmax

Array = np.ndarray[Any, np.dtype[Any]]
BINS = 10
_LEAST = 1e-12  # of a probability inside a logarithm


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What a version makes of labelled texts: logits and true tags of the tagged tokens of each."""

    tokens: Sequence[Tokens]
    logits: Sequence[Array]  # [tagged tokens, tags] of each text
    tags: Sequence[Array]  # [tagged tokens] of each text; -1 where the class is not known
    truth: Sequence[Sequence[Entity]]
    slices: Sequence[Sequence[str]]

    def __len__(self) -> int:
        return len(self.logits)


def answer(tokens: Tokens, logits: Array, classes: Sequence[str], heat: float) -> tuple[list[Entity], float]:
    """(entities, probability that all tokens are as said) of one text."""
    if not len(logits):
        return [], 1.0
    scores = softmax(logits, heat)
    tags = likeliest(scores)
    places = [tokens.places[number] for number in tokens.tagged]
    said = entities_of(places, tags.tolist(), scores, classes)
    return [one for one, _ in said], float(scores[np.arange(len(tags)), tags].prod())


def answer_heat(read: Read, rows: Sequence[int] | None = None) -> float:
    """The temperature at which scores of answers (of these texts; all, if not given) say how often they are
    right: of least log-loss. That of the tokens' likelihood makes products of many tokens far too small.

    With fewer than MIN_ROWS texts there is nothing to fit and it is 1.
    """
    places = [place for place in (range(len(read)) if rows is None else rows) if len(read.logits[place])]
    if len(places) < MIN_ROWS:
        return 1.0
    logits = np.concatenate([read.logits[place] for place in places]).astype(np.float64)
    paths = [likeliest(softmax(read.logits[place], 1.0)) for place in places]
    begin = np.cumsum([0, *(len(path) for path in paths[:-1])])
    right = np.array([_same(read, place, path) for place, path in zip(places, paths, strict=True)])
    path = np.concatenate(paths)

    def loss(heat: float) -> float:
        tags = np.log(np.maximum(softmax(logits, heat)[np.arange(len(path)), path], _LEAST))
        return _log_loss(np.exp(np.add.reduceat(tags, begin)), right)

    return float(min(GRID, key=loss))


def figures(read: Read, classes: Sequence[str], *, heat: float, seed: int) -> tuple[dict[str, Any], Any]:
    """(figures of a hold-out, those of each class).

    `accuracy` is the share of texts whose entities are all right and none made up, `token_accuracy` that of
    tokens with the right tag. "Scaled" ones are by a temperature that was fitted on the other half.
    """
    rows = len(read)
    names = ("accuracy", "macro_f1", "entity_f1", "token_accuracy", "ece", "nll")
    if not rows:
        return {"rows": 0, "temperature": heat, **dict.fromkeys(names)}, {}
    heats = _cross_heats(read, seed)
    said = [answer(*pair, classes, heat) for pair in zip(read.tokens, read.logits, strict=True)]
    counts = counted([one for one, _ in said], read.truth, classes)
    right = right_rows(read, said)
    scaled = [
        answer(tokens, logits, classes, own)
        for tokens, logits, own in zip(read.tokens, read.logits, heats, strict=True)
    ]
    plain = [answer(*pair, classes, 1.0) for pair in zip(read.tokens, read.logits, strict=True)]
    unscaled = right_rows(read, plain)
    hits, tokens = _right_tokens(read, heat)
    return {
        "rows": rows,
        "entities": int(counts[2].sum()),
        "accuracy": share(int(right.sum()), rows),
        "macro_f1": _resampled(counts, seed, macro),
        "entity_f1": _resampled(counts, seed, micro),
        "precision": share(int(counts[0].sum()), int(counts[1].sum())),
        "recall": share(int(counts[0].sum()), int(counts[2].sum())),
        "token_accuracy": share(hits, tokens),
        "temperature": heat,
        "ece": {"unscaled": _ece(plain, unscaled), "scaled": _ece(scaled, right_rows(read, scaled))},
        "nll": {"unscaled": _nll(plain, unscaled), "scaled": _nll(scaled, right_rows(read, scaled))},
    }, by_class(counts, classes)


def counted(
    said: Sequence[Sequence[Entity]], truth: Sequence[Sequence[Entity]], classes: Sequence[str]
) -> Array:
    """Entities of each text and class: [hits, answered, true] as [3, texts, classes].

    >>> counted([[Entity(0, 4, "a")]], [[Entity(0, 4, "a"), Entity(5, 6, "b")]], ["a", "b"]).tolist()
    [[[1, 0]], [[1, 0]], [[1, 1]]]
    """
    number = {name: place for place, name in enumerate(classes)}
    found = np.zeros((3, len(said), len(classes)), dtype=np.int64)
    for row, (own, true) in enumerate(zip(said, truth, strict=True)):
        for kind, ones in enumerate(({*own} & {*true}, own, true)):
            for one in ones:
                if one.label in number:
                    found[kind, row, number[one.label]] += 1
    return found


def right_rows(read: Read, said: Sequence[tuple[Sequence[Entity], float]]) -> Array:
    """[texts] whether exactly the true entities were found."""
    pairs = zip(said, read.truth, strict=True)
    return np.array([canonical(own) == canonical(true) for (own, _), true in pairs], dtype=bool)


def by_class(counts: Array, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Precision and recall, each with its interval, and F1 of every class; `rows` are true entities."""
    hits, answered, true = (part.sum(axis=0) for part in counts)
    return {
        name: {
            "rows": int(true[place]),
            "precision": share(int(hits[place]), int(answered[place])),
            "recall": share(int(hits[place]), int(true[place])),
            "f1": float(2 * hits[place] / (answered[place] + true[place])) if true[place] else None,
        }
        for place, name in enumerate(classes)
    }


def micro(counts: Array) -> float:
    """F1 of all entities: 2 hits / (answered + true); 0 where there are none."""
    hits, answered, true = counts.sum(axis=(1, 2))
    return float(2 * hits / max(1, answered + true))


def macro(counts: Array) -> float:
    """Mean F1 of the classes that have entities."""
    hits, answered, true = counts.sum(axis=1)
    there = true > 0
    return float((2 * hits[there] / (answered + true)[there]).mean()) if there.any() else 0.0


def by_slice(read: Read, right: Array) -> dict[str, dict[str, Any]]:
    """Share of texts that are wholly right in every slice, largest first."""
    hits: dict[str, list[bool]] = {}
    for names, hit in zip(read.slices, right.tolist(), strict=True):
        for name in names:
            hits.setdefault(name, []).append(hit)
    largest = sorted(hits, key=lambda name: (-len(hits[name]), name))
    return {name: share(sum(hits[name]), len(hits[name])) for name in largest}


def _resampled(counts: Array, seed: int, figure: Any) -> dict[str, Any]:
    """A figure and its 95 % interval by a bootstrap of RESAMPLES over texts."""
    rows = counts.shape[1]
    if rows < MIN_ROWS or not counts[2].any():
        return {"rows": rows, "value": None, "note": NOT_ENOUGH}
    draws = np.random.default_rng(seed).integers(rows, size=(RESAMPLES, rows))
    low, high = np.quantile([figure(counts[:, draw]) for draw in draws], [0.025, 0.975])
    return {"rows": rows, "value": figure(counts), "low": float(low), "high": float(high), "seed": seed}


def _right_tokens(read: Read, heat: float) -> tuple[int, int]:
    """(tokens with the right tag, tokens)."""
    pairs = [(logits, tags) for logits, tags in zip(read.logits, read.tags, strict=True) if len(tags)]
    hits = sum(int((likeliest(softmax(logits, heat)) == tags).sum()) for logits, tags in pairs)
    return hits, sum(len(tags) for _, tags in pairs)


def _cross_heats(read: Read, seed: int) -> list[float]:
    """For each text the temperature of the other half."""
    first = np.random.default_rng(seed).permutation(len(read)) % 2 == 0
    heat = {half: answer_heat(read, np.flatnonzero(first != half).tolist()) for half in (True, False)}
    return [heat[bool(half)] for half in first]


def _ece(said: Sequence[tuple[Sequence[Entity], float]], right: Array) -> float:
    """Mean gap between the probability of an answer and how often it is wholly right, over BINS bins."""
    sure = np.array([score for _, score in said])
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    return float(sum(abs(sure[place == b].sum() - right[place == b].sum()) for b in range(BINS)) / len(sure))


def _same(read: Read, row: int, path: Array) -> bool:
    """Whether tags [tagged tokens] of a text are those of its truth."""
    return bool((path == read.tags[row]).all())


def _nll(said: Sequence[tuple[Sequence[Entity], float]], right: Array) -> float:
    """Mean negative log-likelihood of whether an answer is wholly right."""
    return _log_loss(np.array([score for _, score in said]), right)


def _log_loss(scores: Array, right: Array) -> float:
    chance = np.where(right, scores, 1 - scores)
    return float(-np.log(np.maximum(chance, _LEAST)).mean())
