"""An engine over the sealed graph, for any provider of ONNX Runtime.

Texts are sorted by length and cut into micro-batches of one padded length, which depends on the text alone;
so neither padding nor batch mates can change an answer, not even in its last bit.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby, permutations
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from exporter.engines import Answer
from exporter.weights import share
from trainer.artifact import Version
from trainer.errors import TrainerError, VersionRefusedError
from trainer.tasks import load

TOKEN_BUDGET = 1024  # padded tokens of a micro-batch: activations stay in the cache
LENGTH_STEP = 8
# Equal in length for any tokenizer, so that they share a micro-batch; different in content.
PROBES = [" ".join(words) for words in permutations(("where", "is", "my", "card", "now"))][::8]
SCORE_DIGITS = 7
CPU = "CPUExecutionProvider"
INPUTS, OUTPUTS = {"input_ids", "attention_mask"}, {"logits", "embedding"}

Array = np.ndarray[Any, np.dtype[Any]]
Provider = str | tuple[str, dict[str, str]]


class GraphEngine:
    """Answers of one version; `name` as manifests spell it, `provider` as ONNX Runtime does."""

    def __init__(self, version: Version, *, name: str, provider: Provider, threads: int) -> None:
        manifest = version.manifest
        self.name = name
        self.labels = manifest.labels
        self._temperature = manifest.temperature
        self._task = load(manifest.task)
        self._max_tokens = manifest.max_tokens
        self._tokenizer = _tokenizer(version)
        # On a processor one micro-batch a thread costs less than many threads a micro-batch: nobody waits for
        # anybody within it, and answers are put together while the next ones run.
        pooled = provider == CPU and threads > 1
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="session") if pooled else None
        self._ahead = threads + 1  # micro-batches begun: no more, so that a small request may come between
        # The tables go with the engine, never before a run that another thread is in.
        self._session, self._tables = _session(version, provider, 1 if pooled else threads)
        self.provider: str = self._session.get_providers()[0]
        self.tokenise_s = 0.0
        self._nearest = np.ascontiguousarray(version.nearest, dtype=np.float32)
        self._least_rows = 1

    def run(self, texts: Sequence[str]) -> list[Answer]:
        answers: dict[int, Answer] = {}
        for positions, done in self.stream(texts):
            answers.update(zip(positions, done, strict=True))
        return [answers[position] for position in range(len(texts))]

    def stream(self, texts: Sequence[str]) -> Iterator[tuple[list[int], list[Answer]]]:
        began = time.monotonic()
        encodings = self._tokenizer.encode_batch(list(texts))
        tokenise_s = time.monotonic() - began
        lengths = [_padded(len(encoding), self._max_tokens) for encoding in encodings]
        parts = list(micro_batches(lengths))
        runs = self._runs(
            ([encodings[position] for position in positions], length) for length, positions in parts
        )
        for (_, positions), (logits, embedding) in zip(parts, runs, strict=True):
            answers = self._answers([encodings[position] for position in positions], logits, embedding)
            self.tokenise_s, tokenise_s = tokenise_s, 0.0
            yield positions, answers

    def pair_single_rows(self) -> None:
        """Never run one row alone: some graphs round a batch of one differently (ReduceSum does)."""
        self._least_rows = 2

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        self._session = None

    def _runs(self, batches: Iterable[tuple[Sequence[Encoding], int]]) -> Iterator[Any]:
        """Logits and embeddings of each micro-batch, in order; several run at a time."""
        if self._pool is None:
            yield from (self._run(*batch) for batch in batches)
            return
        running: deque[Future[Any]] = deque()
        try:
            for batch in batches:
                running.append(self._pool.submit(self._run, *batch))
                if len(running) > self._ahead:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for one in running:
                one.cancel()

    def _run(self, encodings: Sequence[Encoding], length: int) -> Any:
        ids = np.zeros((max(len(encodings), self._least_rows), length), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding)] = encoding.ids
            mask[row, : len(encoding)] = 1
        ids[len(encodings) :], mask[len(encodings) :] = ids[0], mask[0]
        return self._session.run(("logits", "embedding"), {"input_ids": ids, "attention_mask": mask})

    def _answers(self, encodings: Sequence[Encoding], logits: Array, embedding: Array) -> list[Answer]:
        scores = np.round(self._task.decode(logits, self._temperature).astype(np.float64), SCORE_DIGITS)
        return [
            self._answer(scores[row], logits[row], embedding[row], encoding)
            for row, encoding in enumerate(encodings)
        ]

    def _answer(self, scores: Array, logits: Array, embedding: Array, encoding: Encoding) -> Answer:
        # One matrix-vector product per text: a product of whole batches rounds differently with their size.
        similarity = float((self._nearest @ embedding).max())
        return Answer(
            label_index=int(logits.argmax()),
            scores=tuple(scores.tolist()),
            embedding=embedding.astype("<f2").tobytes(),
            similarity=min(1.0, max(-1.0, similarity)),
            tokens=len(encoding),
            truncated=bool(encoding.overflowing),
        )


def open_graph(version: Version, *, name: str, provider: Provider, threads: int) -> GraphEngine:
    """Loaded and tried on one text. Raises VersionRefusedError."""
    try:
        engine = GraphEngine(version, name=name, provider=provider, threads=threads)
        answer = engine.run(PROBES[:1])[0]
        if engine.run(PROBES) != [engine.run([text])[0] for text in PROBES]:
            engine.pair_single_rows()
    except Exception as error:  # neither library has a base class for what it raises
        if isinstance(error, TrainerError):
            raise
        raise VersionRefusedError(version.path, f"it cannot run ({type(error).__name__})") from error
    if len(answer.scores) != len(version.manifest.labels):
        raise VersionRefusedError(version.path, "model.onnx has another number of labels")
    return engine


def micro_batches(lengths: Sequence[int], budget: int = TOKEN_BUDGET) -> Iterator[tuple[int, list[int]]]:
    """(padded length, positions) with at most `budget` padded tokens each, shortest first.

    >>> list(micro_batches([8, 16, 8, 16, 16], budget=32))
    [(8, [0, 2]), (16, [1, 3]), (16, [4])]
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for length, group in groupby(order, key=lengths.__getitem__):
        positions = list(group)
        rows = max(1, budget // length)
        for start in range(0, len(positions), rows):
            yield length, positions[start : start + rows]


def _padded(tokens: int, max_tokens: int) -> int:
    return max(1, min(-(-tokens // LENGTH_STEP) * LENGTH_STEP, max_tokens))


def _tokenizer(version: Version) -> Tokenizer:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its pool would fight the session's threads
    tokenizer = Tokenizer.from_str(version.tokenizer_bytes.decode())
    tokenizer.enable_truncation(version.manifest.max_tokens)
    tokenizer.no_padding()
    return tokenizer


def _session(version: Version, provider: Provider, threads: int) -> tuple[Any, list[Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning starves neighbours
    tables = share(options, version.model_bytes) if provider == CPU else []
    session = onnxruntime.InferenceSession(version.model_bytes, sess_options=options, providers=[provider])
    session._model_bytes = b""  # kept for a fallback to another provider, which is never wanted here
    found = ({entry.name for entry in session.get_inputs()}, {entry.name for entry in session.get_outputs()})
    if found != (INPUTS, OUTPUTS):
        raise VersionRefusedError(version.path, f"model.onnx has the inputs and outputs {found}")
    return session, tables
