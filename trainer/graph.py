"""An exported graph, run where it was made: to embed, for the parity check, for the manifest's figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainer.errors import ExportError
from trainer.tokens import by_length, padded

Array = np.ndarray[Any, np.dtype[Any]]
ROWS = 16
SLOWER = ["SkipLayerNormFusion"]  # what a processor loses by, see trainer.export


class Graph:
    """An ONNX Runtime session on the processor, of a file or of its bytes; raises ExportError."""

    def __init__(self, graph: Path | bytes, *, threads: int) -> None:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        source = graph if isinstance(graph, bytes) else str(graph)
        told = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf)
        try:
            self._session = onnxruntime.InferenceSession(
                source, options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOWER
            )
        except (*told, state.NotImplemented, state.RuntimeException) as error:
            raise ExportError(f"ONNX Runtime cannot run the graph ({str(error).splitlines()[0]})") from error

    def run(self, ids: Sequence[Sequence[int]]) -> tuple[Array, Array]:
        """(logits [rows, labels], embedding [rows, hidden]) of one batch."""
        tokens, mask = padded(ids)
        return self.feed({"input_ids": tokens, "attention_mask": mask})

    def values(self, ids: Sequence[Sequence[int]], names: list[str]) -> list[Array]:
        """Outputs of one batch by their name."""
        tokens, mask = padded(ids)
        found = self._session.run(names, {"input_ids": tokens, "attention_mask": mask})
        return [np.asarray(one) for one in found]

    def feed(self, given: dict[str, Array]) -> tuple[Array, Array]:
        """The same, of inputs by their name."""
        found = self._session.run(["logits", "embedding"], given)
        return np.asarray(found[0]), np.asarray(found[1])

    def answers(
        self, ids: Sequence[Sequence[int]], *, tick: Callable[[int, int], None] = lambda _, __: None
    ) -> tuple[Array, Array]:
        """(logits, embeddings) of any number of texts, at least one, in batches of like length."""
        logits: list[Array] = [np.empty(0)] * len(ids)
        embeddings: list[Array] = [np.empty(0)] * len(ids)
        done = 0
        for batch in by_length([len(row) for row in ids], ROWS):
            for row, *found in zip(batch, *self.run([ids[i] for i in batch]), strict=True):
                logits[row], embeddings[row] = found
            done += len(batch)
            tick(done, len(ids))
        return np.stack(logits), np.stack(embeddings)
