"""Answers of a replay: each text goes through an encoder once, whichever head and policy it is asked for.

A head version answers with its parent's encoder, so its answer is its head applied to the embedding that is
known. That embedding is kept as predictions keep it, float16: scores differ from the engine's by about 1e-4.
A version with an encoder of its own answers by its engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from exporter.engines import Answer, Engine, open_engine
from exporter.graph_engine import SCORE_DIGITS
from monitor.backtest.past import Event
from trainer.artifact import Version
from trainer.head import Head
from trainer.known import trusted
from trainer.splice import read_head
from trainer.tasks import load

Floats = np.ndarray[Any, np.dtype[np.float32]]


class Known:
    """Answers of the first version, made once and shared by every run over the same history."""

    def __init__(self) -> None:
        self.by_text: dict[str, Answer] = {}

    def answers(self, engine: Engine, texts: Sequence[str]) -> list[Answer]:
        """The first version's answers; `engine` is asked for the texts that are new."""
        fresh = [text for text in dict.fromkeys(texts) if text not in self.by_text]
        if fresh:
            self.by_text |= dict(zip(fresh, engine.run(fresh), strict=True))
        return [self.by_text[text] for text in texts]


class Reader:
    """What one version answers, with its engine closed where the head alone will do."""

    def __init__(self, version: Version, known: Known, *, threads: int, first: bool) -> None:
        self.labels = version.manifest.labels
        self._known = known
        self._first = first
        self._engine: Engine | None = open_engine(version, threads=threads)
        self._head = None if first or not self._shares_encoder(version) else read_head(version.model_bytes)
        self._version = version
        if self._head is not None:
            self._engine.close()
            self._engine = None

    def answers(self, events: Sequence[Event]) -> list[Answer]:
        """Answers to the texts of events, in their order."""
        texts = [event.text for event in events]
        if self._head is not None:
            return apply_head(self._head, self._version, [self._known.by_text[text] for text in texts])
        assert self._engine is not None
        return self._known.answers(self._engine, texts) if self._first else self._engine.run(texts)

    def share_right(self, answers: Sequence[Answer], events: Sequence[Event]) -> float:
        """Accuracy of `answers` to `events`."""
        pairs = zip(answers, events, strict=True)
        return float(np.mean([one.label == event.label for one, event in pairs]))

    def _shares_encoder(self, version: Version) -> bool:
        """Whether a head version's engine says of known texts what is known of them."""
        if version.manifest.rung != "head" or not self._known.by_text:
            return False
        engine = self._engine
        assert engine is not None
        texts = list(self._known.by_text)
        known = dict(zip(texts, embeddings(list(self._known.by_text.values())), strict=True))
        return bool(trusted(known, lambda probes: embeddings(engine.run(probes))))


def embeddings(answers: Sequence[Answer]) -> Floats:
    """Pooled embeddings of answers: [n, hidden], unit rows."""
    return np.stack([np.frombuffer(one.embedding, dtype="<f2") for one in answers]).astype(np.float32)


def apply_head(head: Head, version: Version, known: Sequence[Answer]) -> list[Answer]:
    """`known` answers of another head on the same encoder, as `version` would answer."""
    if not known:
        return []
    rows = embeddings(known)
    logits = head.logits(rows)
    manifest, task = version.manifest, load(version.manifest.task)
    scores = task.decode(logits, manifest.temperature)
    said = task.answers(scores, manifest.labels, manifest.thresholds)
    similarity = (rows @ version.nearest.astype(np.float32).T).max(axis=1).clip(-1, 1)
    return [
        replace(
            one,
            label=said[row][0],
            score=round(said[row][1], SCORE_DIGITS),
            scores=tuple(np.round(scores[row], SCORE_DIGITS).tolist()),
            similarity=float(similarity[row]),
        )
        for row, one in enumerate(known)
    ]
