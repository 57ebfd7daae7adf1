"""CLINC150: seven domains are known, three arrive. What does the head forget, and what does it cost?

Usage: python -m tests.benchmarks.forgetting [--splits N]
prints one JSON document. Heads on the frozen encoder, 30 rows of each of 150 intents to learn, 10 to test;
`splits` choices of the three domains. "old" and "new" are accuracies over all 150 answers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.benchmarks.texts import embedded, read
from trainer.head import Head, anchored, fit_head
from trainer.replay import replay, weigh
from trainer.rows import Row
from trainer.spec import FitTable

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
LEARNT, TESTED = 30, 10  # rows of each intent
EPOCHS, RATE, BATCH = 20, 1.0, 32  # of the naive warm start
LEARNT_ENOUGH = 95.5  # percent of the new intents right: a warm start that stops there forgets least
NEW_DOMAINS = 3


class Stream:
    """One choice of the domains that arrive late."""

    def __init__(self, seed: int) -> None:
        rows = [row for row in read("clinc150") if row["domain"] != "oos"]
        random.Random(0).shuffle(rows)
        intents = defaultdict(list)
        for row in rows:
            intents[row["intent"]].append(row)
        names = sorted(intents)
        train = [row for name in names for row in intents[name][:LEARNT]]
        test = [row for name in names for row in intents[name][LEARNT : LEARNT + TESTED]]
        domains = sorted({row["domain"] for row in rows})
        late = set(domains[-NEW_DOMAINS:] if not seed else random.Random(seed).sample(domains, NEW_DOMAINS))
        self.labels = names
        found = embedded([row["text"] for row in train + test]).astype(np.float32)
        self._embeddings = {row["text"]: one for row, one in zip(train + test, found, strict=True)}
        self.late = np.array([row["domain"] in late for row in test])
        self.test, self.truth = found[len(train) :], self.numbers([row["intent"] for row in test])
        self.rows = [
            Row(text=row["text"], label=row["intent"], origin="traffic" if row["domain"] in late else "base")
            for row in train
        ]
        self.known = sorted({row.label for row in self.rows if row.origin == "base"})
        old = [row for row in self.rows if row.origin == "base"]
        truth = np.array([self.known.index(row.label) for row in old])
        self.parent = fit_head(self.embed(old), truth, classes=len(self.known))

    def numbers(self, labels: Sequence[str]) -> Ints:
        place = {label: number for number, label in enumerate(self.labels)}
        return np.array([place[label] for label in labels], dtype=np.int64)

    def embed(self, rows: Sequence[Row]) -> Floats:
        return np.stack([self._embeddings[row.text] for row in rows])

    def before(self) -> dict[str, float]:
        said = np.array(self.numbers(self.known))[self.parent.logits(self.test).argmax(axis=1)]
        return self._shares(said == self.truth)

    def score(self, head: Head) -> dict[str, float]:
        return self._shares(head.logits(self.test).argmax(axis=1) == self.truth)

    def _shares(self, right: npt.NDArray[np.bool_]) -> dict[str, float]:
        parts = {"old": right[~self.late], "new": right[self.late], "all": right}
        return {name: round(100 * float(part.mean()), 1) for name, part in parts.items()}


def incremental(stream: Stream, fit: FitTable) -> Head:
    """As the head rung does it, on a parent."""
    rows = replay(stream.rows, fit)
    old = sum(row.origin == "base" for row in stream.rows)
    stand_for = old / max(1, sum(row.origin == "base" for row in rows))
    replayed = any(row.origin == "base" for row in rows)
    parent = anchored(stream.parent, stream.known, stream.labels, fit.anchor, replayed=replayed)
    return fit_head(
        stream.embed(rows),
        stream.numbers([row.label for row in rows]),
        classes=len(stream.labels),
        weights=weigh(rows, fit, stand_for=stand_for),
        anchor=parent if fit.anchor else None,
    )


def epochs(stream: Stream, fit: FitTable) -> Iterator[Head]:
    """Steps of SGD from the parent's head, on rows as they come: what a warm start does elsewhere."""
    rows = [row for row in replay(stream.rows, fit) if fit.replay or row.origin == "traffic"]
    embeddings, truth = stream.embed(rows), stream.numbers([row.label for row in rows])
    start = anchored(stream.parent, stream.known, stream.labels, 1.0, replayed=False).head
    weight, bias, rng = start.weight.copy(), start.bias.copy(), np.random.default_rng(fit.seed)
    for _ in range(EPOCHS):
        for batch in np.array_split(rng.permutation(len(rows)), max(1, len(rows) // BATCH)):
            logits = embeddings[batch] @ weight.T + bias
            scores = np.exp(logits - logits.max(axis=1, keepdims=True))
            scores /= scores.sum(axis=1, keepdims=True)
            scores[np.arange(len(batch)), truth[batch]] -= 1
            weight -= RATE * scores.T @ embeddings[batch] / len(batch)
            bias -= RATE * scores.mean(axis=0)
        yield Head(weight=weight.copy(), bias=bias.copy())


def naive(stream: Stream, fit: FitTable) -> Head:
    """All epochs."""
    return list(epochs(stream, fit))[-1]


def naive_until_learnt(stream: Stream, fit: FitTable) -> Head:
    """Epochs until the new intents are learnt."""
    for head in epochs(stream, fit):
        if stream.score(head)["new"] >= LEARNT_ENOUGH:
            return head
    return head


ARMS: dict[str, tuple[Callable[[Stream, FitTable], Head], FitTable]] = {
    "naive warm start, no old rows": (naive, FitTable()),
    "naive warm start, no old rows, ended when the new are learnt": (naive_until_learnt, FitTable()),
    "naive warm start, 25 % replay": (naive, FitTable(replay=0.25)),
    "anchor 1, no old rows": (incremental, FitTable(anchor=1.0, replay=0.0)),
    "anchor 3, no old rows": (incremental, FitTable(anchor=3.0, replay=0.0)),
    "25 % replay": (incremental, FitTable(replay=0.25)),
    "anchor 1, 5 % replay": (incremental, FitTable(anchor=1.0, replay=0.05)),
    "anchor 1, 25 % replay (default with an anchor)": (incremental, FitTable(anchor=1.0)),
    "refit on all stored embeddings (default without)": (incremental, FitTable()),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--splits", type=int, default=3)
    splits = [Stream(seed) for seed in range(parser.parse_args().splits)]
    arms: dict[str, list[dict[str, Any]]] = {"before": [stream.before() for stream in splits]}
    for name, (teach, fit) in ARMS.items():
        arms[name] = []
        for stream in splits:
            began = time.process_time()
            head = teach(stream, fit)
            spent = round(time.process_time() - began, 2)
            rows = len(replay(stream.rows, fit))
            arms[name].append(stream.score(head) | {"rows": rows, "cpu_s": spent})
    means = {
        name: {key: round(float(np.mean([one[key] for one in found])), 1) for key in ("old", "new", "all")}
        for name, found in arms.items()
    }
    document = {
        "benchmark": "forgetting",
        "data": f"CLINC150: of 150 intents {LEARNT} rows learnt, {TESTED} tested; {NEW_DOMAINS} domains late",
        "aims": {"old": 92.0, "new": 96.0},
        "means": means,
        "splits": arms,
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in ("numpy", "scipy")},
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
