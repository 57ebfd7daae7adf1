"""Keys and values of the rows that a decoder works at: a buffer [rows, heads, length, size] for each name."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Device = str  # as ONNX Runtime spells it: "cpu", "cuda"
FIRST_LENGTH = 512
ON_DEVICE = 3  # cudaMemcpyDeviceToDevice


class Keys:
    """In a processor's memory; it grows with what is asked for."""

    def __init__(
        self, names: Sequence[str], rows: int, shape: tuple[int, int], kind: type[np.generic], *, context: int
    ) -> None:
        """`shape` is (heads, size), `context` the most tokens of a row."""
        self.rows, self.length = rows, 0
        self._names, self._shape, self._kind, self._context = list(names), shape, kind, context
        self._past: list[Array] = []

    def reserve(self, tokens: int) -> None:
        """Make room for rows of so many tokens; what lies in the rows stays."""
        if tokens <= self.length:
            return
        length = max(self.length, FIRST_LENGTH)
        while length < tokens:
            length *= 2
        length = max(tokens, min(length, self._context))
        heads, size = self._shape
        # Zeros cost nothing until they are touched, so a long context takes memory only where it is used.
        grown = [np.zeros((self.rows, heads, length, size), dtype=self._kind) for _ in self._names]
        for new, old in zip(grown, self._past, strict=bool(self._past)):
            new[:, :, : self.length] = old
        self._past, self.length = grown, length

    def release(self) -> None:
        """Give the memory back; all rows are forgotten."""
        self._past, self.length = [], 0

    def move(self, source: int, target: int, length: int) -> None:
        """Let the row `target` become a copy of the first tokens of `source`."""
        for past in self._past:
            past[target, :, :length] = past[source, :, :length]

    def bind(self, binding: Any, rows: slice) -> None:
        """Let a run read and write these rows."""
        for name, past in zip(self._names, self._past, strict=True):
            part = past[rows]  # contiguous, for rows come first
            _bind(binding, name, ("cpu", 0, self._kind, part.shape, part.ctypes.data))


class FixedKeys:
    """On a device, of one length and at one address for good, as captured CUDA graphs need it.

    As many rows as there is memory for. Raises what the allocation of a single row does.
    """

    def __init__(
        self,
        names: Sequence[str],
        rows: int,
        shape: tuple[int, int],
        kind: type[np.generic],
        *,
        context: int,
        device: Device,
    ) -> None:
        self.length = context
        self._names, self._shape, self._kind, self._device = list(names), shape, kind, device
        self.rows, self._past = rows, self._allocated(rows)
        self._row_bytes = shape[0] * context * shape[1] * np.dtype(kind).itemsize
        self._library = ctypes.CDLL("libcudart.so.13") if device == "cuda" else None

    def _allocated(self, rows: int) -> list[Any]:
        import onnxruntime

        full = [rows, self._shape[0], self.length, self._shape[1]]
        make = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        try:
            made = [make(full, self._kind, self._device, 0) for _ in self._names]
        except Exception:  # ONNX Runtime has no base class for what it raises
            if rows == 1:
                raise
            self.rows = rows // 2
            return self._allocated(self.rows)
        self.rows = rows
        return made

    def reserve(self, tokens: int) -> None:
        """There is room for the whole context."""

    def release(self) -> None:
        """The addresses stay: captured graphs hold them."""

    def move(self, source: int, target: int, length: int) -> None:  # noqa: ARG002 - rows are copied whole
        """Let the row `target` become a copy of `source`."""
        for past in self._past:
            start = past.data_ptr()
            from_, to = start + source * self._row_bytes, start + target * self._row_bytes
            if self._library is None:
                ctypes.memmove(to, from_, self._row_bytes)
            else:
                places = ctypes.c_void_p(to), ctypes.c_void_p(from_), ctypes.c_size_t(self._row_bytes)
                self._library.cudaMemcpy(*places, ON_DEVICE)

    def bind(self, binding: Any, rows: slice) -> None:
        """Let a run read and write these rows."""
        heads, size = self._shape
        shape = (rows.stop - rows.start, heads, self.length, size)
        for name, past in zip(self._names, self._past, strict=True):
            address = past.data_ptr() + rows.start * self._row_bytes
            _bind(binding, name, (self._device, 0, self._kind, shape, address))


def _bind(binding: Any, name: str, place: tuple[Any, ...]) -> None:
    binding.bind_input(f"past_key_values.{name}", *place)
    binding.bind_output(f"present.{name}", *place)
