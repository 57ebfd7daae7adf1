"""An exported graph, run where it was made: for the parity check and the figures in the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainer.tokens import by_length, padded

Array = np.ndarray[Any, np.dtype[Any]]


class Graph:
    """An ONNX Runtime session on the processor."""

    def __init__(self, path: Path, *, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, ids: Sequence[Sequence[int]]) -> tuple[Array, Array]:
        """(logits [rows, labels], embedding [rows, hidden]) of one batch."""
        tokens, mask = padded(ids)
        found = self._session.run(["logits", "embedding"], {"input_ids": tokens, "attention_mask": mask})
        return np.asarray(found[0]), np.asarray(found[1])

    def logits(self, ids: Sequence[Sequence[int]], *, labels: int) -> Array:
        """Logits [rows, labels] of any number of texts, in batches of like length."""
        result: Array = np.zeros((len(ids), labels), dtype=np.float32)
        for batch in by_length([len(row) for row in ids], 16):
            result[batch] = self.run([ids[i] for i in batch])[0]
        return result
