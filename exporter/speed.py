"""What to time: a version's engines, and the bare ONNX Runtime sessions under them, over the same texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from exporter.engines import Engine
from exporter.sessions import CPU, open_session
from trainer.artifact import INT8, MODEL, Version
from trainer.tokens import by_length, padded

BATCH = 8  # texts that the bare session is given together, all of them sorted by length before
SHORTEST, LONGEST = 5, 200
FILES = {"cpu-fp32": MODEL, "cpu-int8": INT8}  # engines that have a bare session on a processor
Run = Callable[[], object]


def read(version: Version, texts: Sequence[str]) -> list[list[int]]:
    """Token numbers of the texts, cut as the version cuts them."""
    from tokenizers import Tokenizer  # noqa: PLC0415

    tokenizer = Tokenizer.from_str(version.tokenizer_bytes.decode())
    tokenizer.enable_truncation(version.manifest.max_tokens)
    tokenizer.no_padding()
    return [one.ids for one in tokenizer.encode_batch(list(texts))]


def bare_run(
    version: Version, ids: Sequence[list[int]], *, threads: int, file: str = MODEL, pooled: bool = True
) -> Run:
    """A pass of a session alone over tokens that are there already: sorted by length, BATCH at a time.

    `pooled`: as many batches at a time as `threads`, a thread each; otherwise one batch with all threads.
    This is the floor that a server is measured against: it knows all texts before it begins, and it lets an
    int8 graph mix rows, which no engine of ours may.
    """
    session = open_session(version, CPU, 1 if pooled else threads, file)
    batches = [padded([ids[row] for row in batch]) for batch in by_length([len(one) for one in ids], BATCH)]
    given = [{"input_ids": tokens, "attention_mask": mask} for tokens, mask in batches]
    pool = ThreadPoolExecutor(threads if pooled else 1)
    return lambda: list(pool.map(lambda one: session.run(("logits", "embedding"), one), given))


def flops_per_token(version: Version) -> int:
    """Of products with weights, a multiplication and an addition each; attention's own are left out."""
    import onnx

    graph = onnx.load_from_string(version.model_bytes).graph
    sizes = {one.name: int(np.prod(one.dims)) for one in graph.initializer if len(one.dims) == 2}
    return sum(2 * sizes.get(node.input[1], 0) for node in graph.node if node.op_type == "MatMul")


def largest_difference(engine: Engine, texts: Sequence[str], *, seed: int = 0) -> float:
    """Of any score, between texts alone and among others, in three random orders."""
    encoded = engine.encode(texts)
    alone = [np.array(engine.answer([one])[0].scores) for one in encoded]
    draw, worst = np.random.default_rng(seed), 0.0
    for _ in range(3):
        order = draw.permutation(len(texts))
        for row, answer in zip(order, engine.run([texts[row] for row in order]), strict=True):
            worst = max(worst, float(np.abs(np.array(answer.scores) - alone[row]).max()))
    return worst


def mixed_texts(version: Version, count: int, *, seed: int = 0) -> list[str]:
    """Texts of about SHORTEST to LONGEST tokens, every length as likely, of the words of the hold-out."""
    words = " ".join(row.text for row in version.holdout).split() or ["text"]
    per_token = len(words) / sum(len(ids) - 2 for ids in read(version, words) if len(ids) > 2)
    draw = np.random.default_rng(seed)
    texts = []
    for length in draw.integers(SHORTEST, LONGEST + 1, size=count):
        start, size = int(draw.integers(len(words))), max(1, round(length * per_token))
        texts.append(" ".join((words * (1 + (start + size) // len(words)))[start : start + size]))
    return texts
