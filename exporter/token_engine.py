"""The engine of token-classification: logits of tokens in, entities in the caller's characters out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from exporter.engines import Answer, Encoded
from exporter.graph_engine import SCORE_DIGITS, GraphEngine
from trainer.tagging.entities import canonical
from trainer.tagging.tags import Tokens, entities_of, held_classes, likeliest, softmax, tokens_of

Array = np.ndarray[Any, np.dtype[Any]]


class TokenEngine(GraphEngine):
    """Answers with entities; `scores` are the probabilities that a text has one of each class."""

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        return [
            Encoded(one.ids, self._length(len(one.ids)), one.truncated, tuple(one.places))
            for one in tokens_of(self._tokenizer, texts)
        ]

    def answer(self, batch: Sequence[Encoded]) -> list[Answer]:
        logits, embedding = self._run([one.ids for one in batch], max(one.length for one in batch))
        return [self._answered(logits[row], embedding[row], one) for row, one in enumerate(batch)]

    def _run(self, rows: Sequence[Sequence[int]], length: int) -> tuple[Any, Array]:
        """(logits of each row's own tokens, embedding)."""
        logits, embedding = super()._run(rows, length)
        return [own[: len(row)] for own, row in zip(logits, rows, strict=False)], embedding

    def _answered(self, logits: Array, embedding: Array, encoded: Encoded) -> Answer:
        tokens = Tokens(list(encoded.ids), list(encoded.places), encoded.truncated)
        scores = softmax(logits[tokens.tagged], self._temperature)
        tags = likeliest(scores) if len(scores) else np.zeros(0, dtype=np.int64)
        places = [encoded.places[number] for number in tokens.tagged]
        found = sorted(entities_of(places, tags.tolist(), scores, self.labels))
        exactly = float(scores[np.arange(len(tags)), tags].prod())
        said = (canonical([one for one, _ in found]), exactly)
        whole = self._answer(said, np.round(held_classes(scores), SCORE_DIGITS), encoded, embedding)
        return replace(whole, parts=tuple(round(score, SCORE_DIGITS) for _, score in found))
