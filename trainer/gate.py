"""The data gate of one training: what its spec does about the faults of its rows, and which rows are left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainer.decoder import TASK as GENERATION
from trainer.encoder import Tick
from trainer.encoder_graph import of_base
from trainer.findings import Data, Finding, examine, kept, kinds, refuse
from trainer.generation.check import look_at
from trainer.graph import Graph
from trainer.rows import HoldoutRow, Row, check_rows
from trainer.sources import resolve_base
from trainer.spec import TrainSpec
from trainer.tagging import TASK as TAGGING
from trainer.tagging.faults import look as look_at_marked
from trainer.tokens import encode, lengths, tokenizer

Array = np.ndarray[Any, np.dtype[Any]]
PROBED = 200  # texts that a first export of the encoder is proven on
EMBEDDED = "label_errors"  # the kind that needs embeddings


def look(
    spec: TrainSpec,
    rows: Sequence[Row],
    holdout: Sequence[HoldoutRow],
    *,
    traffic: Sequence[str] = (),
    cache: Path,
    tick: Tick,
) -> list[Finding]:
    """Every finding of a spec's rows, without training; nothing is refused or dropped.

    `traffic` are texts that were asked lately, to be compared with the rows.
    """
    if spec.model.task == GENERATION:
        return look_at(spec, rows, holdout, cache=cache)
    base = resolve_base(spec.model.base, cache)
    if spec.model.task == TAGGING:
        return look_at_marked(
            rows,
            holdout,
            base / "tokenizer.json",
            max_tokens=spec.model.max_tokens,
            on_finding=spec.data.on_finding,
            traffic=traffic,
        )
    texts = [row.text for row in rows]
    source = of_base(
        base, texts[:PROBED], spec.gate, cache=cache, threads=spec.fit.threads, say=lambda *_: None
    )
    cut = tokenizer(base / "tokenizer.json", spec.model.max_tokens)
    _, embeddings = Graph(source.content, threads=spec.fit.threads).answers(encode(cut, texts), tick=tick)
    data = Data(
        rows=rows,
        holdout=holdout,
        lengths=lengths(base / "tokenizer.json", texts),
        max_tokens=spec.model.max_tokens,
        embeddings=embeddings,
        task=spec.model.task,
        traffic=traffic,
        presidio=spec.data.presidio,
    )
    return examine(data, spec.data.on_finding)


class DataGate:
    """Looks twice: at the texts before anything is computed, and at the labels once texts are embedded.

    Attributes: `findings` so far, `dropped` positions in the rows that `texts` was given.
    """

    def __init__(
        self,
        spec: TrainSpec,
        holdout: Sequence[HoldoutRow],
        *,
        tokens: Callable[[Sequence[str]], Sequence[int]],
    ) -> None:
        self.findings: list[Finding] = []
        self._spec, self._holdout, self._tokens = spec, holdout, tokens
        self._rows: list[Row] = []
        self._left: list[int] = []
        self._total = 0

    @property
    def dropped(self) -> list[int]:
        """Positions that are not learnt from."""
        left = set(self._left)
        return [row for row in range(self._total) if row not in left]

    def texts(self, rows: Sequence[Row]) -> list[Row]:
        """The rows left by the findings that need texts only; FindingError where one refuses."""
        data = Data(
            rows=rows,
            holdout=self._holdout,
            lengths=self._tokens([row.text for row in rows]),
            max_tokens=self._spec.model.max_tokens,
            task=self._spec.model.task,
            presidio=self._spec.data.presidio,
        )
        others = [kind for kind in kinds() if kind != EMBEDDED]
        self.findings = examine(data, self._spec.data.on_finding, only=others)
        refuse(self.findings)
        self._total, self._left = len(rows), kept(len(rows), self.findings)
        self._rows = [rows[row] for row in self._left]
        return self._rows

    def labels(self, embeddings: Array) -> list[int]:
        """Positions left of what `texts` returned; `embeddings` are its unit rows [rows, hidden]."""
        data = Data(rows=self._rows, embeddings=embeddings, task=self._spec.model.task)
        found = examine(data, self._spec.data.on_finding, only=[EMBEDDED])
        self.findings += found
        refuse(found)
        left = kept(len(self._rows), found)
        check_rows([self._rows[row] for row in left], "what the data gate left", self._spec.model.task)
        self._left = [self._left[row] for row in left]
        return left
