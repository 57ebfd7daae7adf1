"""Decoding steps of fixed shapes: what a captured CUDA graph needs, one for each power of two of rows.

The mask is as wide as the buffers of keys, whatever the rows have; rows that are left over write to the last
place of a row, which no answer ever reaches. Nothing here has run on a GPU yet; the same code runs, and is
tested, on a processor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.decoder.keys import Device, FixedKeys

Array = np.ndarray[Any, np.dtype[Any]]


class Steps:
    """Bound on first use, then replayed."""

    def __init__(
        self, session: Any, keys: FixedKeys, vocabulary: int, kind: type[np.generic], device: Device
    ) -> None:
        self._session, self._keys, self._device = session, keys, device
        self._vocabulary, self._kind = vocabulary, kind
        self._bound: dict[int, _Step] = {}

    def run(self, tokens: Sequence[int], lengths: Sequence[int]) -> Array:
        """One more token of the rows 0…; `lengths` count it. Logits [rows, vocabulary]."""
        size = min(1 << (len(tokens) - 1).bit_length(), self._keys.rows)
        if size not in self._bound:
            self._bound[size] = _Step(
                self._session, self._keys, size, (self._vocabulary, self._kind), self._device
            )
        return self._bound[size].run(tokens, lengths)[: len(tokens)]


class _Step:
    def __init__(
        self,
        session: Any,
        keys: FixedKeys,
        size: int,
        logits: tuple[int, type[np.generic]],
        device: Device,
    ) -> None:
        import onnxruntime

        made = onnxruntime.OrtValue
        self._session, self._options = session, onnxruntime.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(size))
        self._ids = np.zeros((size, 1), dtype=np.int64)
        self._mask = np.ones((size, keys.length), dtype=np.int64)
        self._given = [made.ortvalue_from_numpy(one.copy(), device, 0) for one in (self._ids, self._mask)]
        self._logits = made.ortvalue_from_shape_and_type([size, 1, logits[0]], logits[1], device, 0)
        self._binding = session.io_binding()
        for name, value in zip(("input_ids", "attention_mask"), self._given, strict=True):
            self._binding.bind_ortvalue_input(name, value)
        keys.bind(self._binding, slice(0, size))
        self._binding.bind_ortvalue_output("logits", self._logits)

    def run(self, tokens: Sequence[int], lengths: Sequence[int]) -> Array:
        rows = len(tokens)
        self._ids[:rows, 0] = tokens
        self._mask[:rows] = np.arange(self._mask.shape[1]) < np.array(lengths)[:, None]
        self._mask[rows:] = 1
        for value, own in zip(self._given, (self._ids, self._mask), strict=True):
            value.update_inplace(own)
        self._session.run_with_iobinding(self._binding, self._options)
        return np.array(self._logits.numpy())[:, 0]
