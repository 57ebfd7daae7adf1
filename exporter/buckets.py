"""A padding-free graph in buffers of a few fixed sizes: what a captured CUDA graph needs.

A CUDA graph replays kernels on fixed addresses with fixed shapes, so a batch is laid out in the smallest
bucket that holds it. What is left of the flat axis becomes texts that nobody reads; what is left of the texts
is empty. Nothing here has run on a GPU yet; the same code runs on a processor over the graph's executable
reference (trainer.packed_reference), which is how it is tested.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.packed_reference import NAMES
from trainer.tokens import packed

Array = np.ndarray[Any, np.dtype[Any]]
SHORTEST, FEWEST = 64, 128  # of a bucket: tokens of its longest text, tokens of them all
ROWS_PER_LONGEST = 7  # texts, for each of the longest that would fit: they may be a seventh as long
BUDGET = 32_768  # tokens of the largest bucket: it bounds the memory
OUTPUTS = ("logits", "embedding", "similarity")
PINNED = 0  # cudaHostRegisterDefault


@dataclass(frozen=True, slots=True, order=True)
class Bucket:
    """How much one run takes."""

    tokens: int  # of all texts, at least one of them filling
    longest: int  # tokens of a text

    @property
    def texts(self) -> int:
        """Texts, filling and empty ones among them."""
        return 2 + (ROWS_PER_LONGEST + 1) * self.tokens // self.longest

    def holds(self, lengths: Sequence[int]) -> bool:
        """Whether texts of these lengths fit, one token left.

        >>> Bucket(128, 64).holds([60, 60]), Bucket(128, 64).holds([64, 64]), Bucket(128, 64).holds([65])
        (True, False, False)
        """
        filling = self.tokens - sum(lengths)
        rows = len(lengths) + -(-filling // self.longest)
        return filling > 0 and max(lengths) <= self.longest and rows <= self.texts

    def laid_out(self, ids: Sequence[Sequence[int]]) -> dict[str, Array]:
        """Inputs of the graph, of this bucket's shapes, for texts that it holds."""
        filling = self.tokens - sum(map(len, ids))
        whole, rest = divmod(filling, self.longest)
        fillers = [[0] * self.longest] * whole + ([[0] * rest] if rest else [])
        # Empty texts come before filling ones: each must begin at a token that is there.
        empty: list[list[int]] = [[]] * (self.texts - len(ids) - len(fillers))
        return dict(zip(NAMES, packed([*ids, *empty, *fillers], longest=self.longest), strict=True))


def buckets(max_tokens: int, *, budget: int = BUDGET) -> list[Bucket]:
    """The smallest first: powers of two up to the budget and, of a text, up to `max_tokens`.

    >>> [(one.tokens, one.longest) for one in buckets(128, budget=512)]
    [(128, 64), (256, 64), (256, 128), (512, 64), (512, 128)]
    """
    longest = [SHORTEST]
    while longest[-1] < max_tokens:
        longest.append(2 * longest[-1])
    budget = max(budget, 2 * longest[-1])
    tokens = [FEWEST]
    while tokens[-1] < budget:
        tokens.append(2 * tokens[-1])
    return [Bucket(size, length) for size in tokens for length in longest if size >= 2 * length]


class Buckets:
    """One session's buckets: captured at load, then fed from any thread, run by one of its own.

    ONNX Runtime keeps captured graphs by thread; whoever packs the next batch meanwhile is another one.
    """

    def __init__(
        self,
        session: Any,
        sizes: Sequence[Bucket],
        outputs: Mapping[str, int],
        *,
        device: str = "cuda",
        number: int = 0,
    ) -> None:
        """`outputs` is the width of each, 0 of one number a text. Raises what the first bucket does."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{device}-{number}")
        self._bound: dict[Bucket, _Bound] = {}
        for place, size in enumerate(sizes):
            try:
                bound = _Bound(session, size, outputs, device, number, graph=place)
                self._thread.submit(bound.run, size.laid_out([[0]])).result()
            except Exception:  # no memory for a larger bucket: smaller ones serve
                if not self._bound:
                    raise
                break
            self._bound[size] = bound

    @property
    def sizes(self) -> list[Bucket]:
        """The smallest first."""
        return list(self._bound)

    def keep(self, sizes: Sequence[Bucket]) -> None:
        """Use these only."""
        self._bound = {size: self._bound[size] for size in sizes}

    def run(self, ids: Sequence[Sequence[int]], size: Bucket | None = None) -> list[Array]:
        """`OUTPUTS` of texts that some bucket holds; of a given one, where there is a choice."""
        lengths = [len(row) for row in ids]
        chosen = size or next(one for one in self._bound if one.holds(lengths))
        given = chosen.laid_out(ids)
        found = self._thread.submit(self._bound[chosen].run, given).result()
        return [one[: len(ids)] for one in found]

    def close(self) -> None:
        self._thread.shutdown()
        self._bound.clear()


class _Bound:
    """Buffers of one bucket on the device, and the binding that its captured graph reads and writes."""

    def __init__(
        self, session: Any, size: Bucket, outputs: Mapping[str, int], device: str, number: int, *, graph: int
    ) -> None:
        import onnxruntime

        made = onnxruntime.OrtValue
        self._session, self._options = session, onnxruntime.RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(graph))
        self._host = {name: _pinned(one, device) for name, one in size.laid_out([[0]]).items()}
        self._inputs = {
            name: made.ortvalue_from_numpy(one.copy(), device, number) for name, one in self._host.items()
        }
        shapes = {name: [size.texts, width] if width else [size.texts] for name, width in outputs.items()}
        self._outputs = [
            made.ortvalue_from_shape_and_type(shapes[name], np.float32, device, number) for name in OUTPUTS
        ]
        self._binding = session.io_binding()
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in zip(OUTPUTS, self._outputs, strict=True):
            self._binding.bind_ortvalue_output(name, value)

    def run(self, given: Mapping[str, Array]) -> list[Array]:
        for name, value in self._inputs.items():
            np.copyto(self._host[name], given[name])
            value.update_inplace(self._host[name])
        self._session.run_with_iobinding(self._binding, self._options)
        return [np.array(one.numpy()) for one in self._outputs]


def _pinned(array: Array, device: str) -> Array:
    """Page-locked, so that the GPU fetches it without a copy in between; a processor needs none of that."""
    if device == "cuda":
        library = ctypes.CDLL("libcudart.so.13")  # in the process already: ONNX Runtime's provider needs it
        place = ctypes.c_void_p(array.ctypes.data)
        library.cudaHostRegister(place, ctypes.c_size_t(array.nbytes), PINNED)
        weakref.finalize(array, library.cudaHostUnregister, place)
    return array
