"""An engine over the sealed graph, for any provider of ONNX Runtime.

An answer never depends on its batch mates, not in its last bit: where the graph gives the same bits however
far a text is padded (this is tried when the version is loaded), texts near in length share a micro-batch;
otherwise only those of one padded length do, which depends on the text alone. A graph whose numbers depend on
all rows of its batch, as ONNX Runtime's own dynamic quantisation makes it, runs each row alone and unpadded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import permutations
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from exporter.engines import Answer, Encoded, Encoder
from exporter.packing import ALONE, Packing, even, micro_batches, stepped
from exporter.sessions import CPU, Provider, open_encoder
from trainer.artifact import MODEL, Version
from trainer.errors import TrainerError, VersionRefusedError
from trainer.head import Head
from trainer.tagging import TASK as TAGGING
from trainer.tasks import load

TOKEN_BUDGET = 512  # padded tokens of a micro-batch: the weights' reading is spread, activations stay cached
ROWS = 16
PADDED = Packing(rows=128, tokens=2 * TOKEN_BUDGET, reach=0)
PADDING_FREE = Packing(rows=ROWS, tokens=TOKEN_BUDGET, reach=4)
PADDING_FREE_INT8 = Packing(rows=ROWS, tokens=TOKEN_BUDGET, reach=12)  # a run costs as much, a token less
# Equal in length for any tokenizer, so that they share a micro-batch; different in content.
PROBES = [" ".join(words) for words in permutations(("where", "is", "my", "card", "now"))][::8]
PROBED_LENGTHS = (2, 3, 5, 7, 8, 11, 15, 16, 19, 23, 31, 34, 47, 63, 64, 131)
PROBED_PADDING = (1, 2, 4, 9)
SCORE_DIGITS = 7

Array = np.ndarray[Any, np.dtype[Any]]


class GraphEngine:
    """Answers of one version; `name` as manifests spell it, `provider` as ONNX Runtime does."""

    def __init__(
        self, version: Version, *, name: str, provider: Provider, threads: int, file: str, packing: Packing
    ) -> None:
        manifest = version.manifest
        self.name = name
        self.labels = manifest.labels
        self.packing = packing
        self._temperature = manifest.temperature
        self._task, self._thresholds = load(manifest.task), manifest.thresholds
        self._max_tokens = manifest.max_tokens
        self._tokenizer = _tokenizer(version)
        # On a processor one micro-batch a thread costs less than many threads a micro-batch: nobody waits for
        # anybody within it, and answers are put together while the next ones run.
        self._at_once = threads if provider == CPU else 1
        self._nearest = np.ascontiguousarray(version.nearest, dtype=np.float32)
        self._least_rows = 1
        self.encoder: Encoder | None = None
        self._head: Head | None = None
        self.provider = self._load(version, provider, 1 if provider == CPU else threads, file)

    def run(self, texts: Sequence[str]) -> list[Answer]:
        encoded = self.encode(texts)
        batches = list(micro_batches([one.length for one in encoded], self.packing))
        answers: dict[int, Answer] = {}
        with self._several(len(batches)) as at_once:
            found = at_once(self.answer, ([encoded[position] for position in batch] for batch in batches))
            for batch, answered in zip(batches, found, strict=True):
                answers.update(zip(batch, answered, strict=True))
        return [answers[position] for position in range(len(texts))]

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        return [
            Encoded(one.ids, self._length(len(one)), bool(one.overflowing))
            for one in self._tokenizer.encode_batch_fast(list(texts))  # without places of characters
        ]

    def answer(self, batch: Sequence[Encoded]) -> list[Answer]:
        logits, *known = self._run([one.ids for one in batch], max(one.length for one in batch))
        scores = self._task.decode(logits[: len(batch)], self._temperature)
        said = self._task.answers(scores, self.labels, self._thresholds)
        rounded = np.round(scores.astype(np.float64), SCORE_DIGITS)
        return [
            self._answer(said[row], rounded[row], one, *(part[row] for part in known))
            for row, one in enumerate(batch)
        ]

    def settle(self) -> None:
        """Find out which texts may share a micro-batch on this machine."""
        if self.packing == ALONE:  # unless it turns out that no text shows in another's answer
            if self.provider == CPU and self._padding_is_free():
                self.packing = PADDING_FREE_INT8
            return
        if self.run(PROBES) != [self.run([text])[0] for text in PROBES]:
            # Never run one row alone: some graphs round a batch of one differently (ReduceSum does).
            self._least_rows = 2
        if self.provider == CPU and self._padding_is_free():
            self.packing = PADDING_FREE

    def close(self) -> None:
        self.encoder = None

    def _length(self, tokens: int) -> int:
        tokens = max(1, tokens)
        if self.packing == ALONE:
            return tokens
        return min(even(tokens) if self.packing.reach else stepped(tokens), self._max_tokens)

    def _padding_is_free(self) -> bool:
        """Whether texts give the same bits at their own, even, length as padded to that of others.

        Even, because ONNX Runtime's softmax rounds a row of 4n + 3 numbers, and no other, differently from
        the same row with masked ones behind it (1.31, AVX2).
        """
        draw, vocabulary = np.random.default_rng(0), self._tokenizer.get_vocab_size()
        for number, tokens in enumerate(PROBED_LENGTHS):
            longer = tokens + PROBED_PADDING[number % len(PROBED_PADDING)]
            if longer > self._max_tokens:
                break
            text, mate = (draw.integers(0, vocabulary, size=size).tolist() for size in (tokens, longer))
            alone, beside = self._run([text], even(tokens)), self._run([text, mate], even(longer))
            if any(own[0].tobytes() != found[0].tobytes() for own, found in zip(alone, beside, strict=True)):
                return False
        return True

    @contextmanager
    def _several(self, count: int) -> Iterator[Callable[..., Iterator[Any]]]:
        """`map` that runs as many calls at a time as there are sessions."""
        if min(count, self._at_once) < 2:
            yield map
            return
        with ThreadPoolExecutor(self._at_once) as pool:
            yield pool.map

    def _load(self, version: Version, provider: Provider, threads: int, file: str) -> str:
        """Open the graph; the provider that runs it."""
        self.encoder, self._head = open_encoder(version, provider, threads, file)
        name: str = self.encoder.session.get_providers()[0]
        return name

    def _run(self, rows: Sequence[Sequence[int]], length: int) -> tuple[Any, ...]:
        """(logits, embedding) of at least as many rows; (…, similarity) where the graph knows it."""
        ids = np.zeros((max(len(rows), self._least_rows), length), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, own in enumerate(rows):
            ids[row, : len(own)] = own
            mask[row, : max(1, len(own))] = 1  # a text of no tokens is one that says nothing
        ids[len(rows) :], mask[len(rows) :] = ids[0], mask[0]
        assert self.encoder is not None
        given = {"input_ids": ids, "attention_mask": mask}
        if self._head is None:
            logits, embedding = self.encoder.session.run(("logits", "embedding"), given)
            return logits, embedding
        (embedding,) = self.encoder.session.run(("embedding",), given)
        # One product per text: one of whole batches may round with their size.
        return np.stack([self._head.weight @ row for row in embedding]) + self._head.bias, embedding

    def _answer(
        self,
        said: tuple[str, float],
        scores: Array,
        encoded: Encoded,
        embedding: Array,
        similarity: float | None = None,
    ) -> Answer:
        if similarity is None:
            # One matrix-vector product per text: one of whole batches rounds differently with their size.
            similarity = float((self._nearest @ embedding).max())
        return Answer(
            label=said[0],
            score=round(said[1], SCORE_DIGITS),
            scores=tuple(scores.tolist()),
            embedding=embedding.astype("<f2").tobytes(),
            similarity=min(1.0, max(-1.0, float(similarity))),
            tokens=len(encoded.ids),
            truncated=encoded.truncated,
        )


def open_graph(
    version: Version,
    *,
    name: str,
    provider: Provider,
    threads: int,
    file: str = MODEL,
    packing: Packing = PADDED,
    kind: type[GraphEngine] | None = None,
) -> GraphEngine:
    """Loaded and tried on a few texts. Raises VersionRefusedError."""
    try:
        kind = kind or _kind(version)
        engine = kind(version, name=name, provider=provider, threads=threads, file=file, packing=packing)
        answer = engine.run(PROBES[:1])[0]
        engine.settle()
    except Exception as error:  # neither library has a base class for what it raises
        if isinstance(error, TrainerError):
            raise
        raise VersionRefusedError(version.path, f"it cannot run ({type(error).__name__})") from error
    if len(answer.scores) != len(version.manifest.labels):
        raise VersionRefusedError(version.path, f"{file} has another number of labels")
    return engine


def _kind(version: Version) -> type[GraphEngine]:
    if version.manifest.task != TAGGING:
        return GraphEngine
    from exporter.token_engine import TokenEngine  # noqa: PLC0415 - it is a GraphEngine

    return TokenEngine


def _tokenizer(version: Version) -> Tokenizer:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its pool would fight the session's threads
    tokenizer = Tokenizer.from_str(version.tokenizer_bytes.decode())
    tokenizer.enable_truncation(version.manifest.max_tokens)
    tokenizer.no_padding()
    return tokenizer
