"""An engine over the padding-free graph: all texts of a micro-batch on one flat axis, on one GPU or several.

A text's answer must not depend on its batch mates. Within one bucket no kernel sees who is beside whom;
between buckets cuBLAS may choose another kernel, which may round differently. So every bucket is tried when
the version is loaded, and only those that give the same bits are used. It has not run on a GPU yet.
"""

from __future__ import annotations

import os
import queue
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from exporter.buckets import ROWS_PER_LONGEST, Bucket, Buckets, buckets
from exporter.gpu import IN_FLIGHT, PROVIDER, devices
from exporter.graph_engine import Array, GraphEngine
from exporter.packing import Packing
from exporter.sessions import CPU, Provider
from trainer.artifact import Version
from trainer.packed_reference import on_processor

ANY = 1 << 30  # nothing is padded, so any two texts go together
PROBED_LENGTHS = (3, 17, 64, 5)


class PackedEngine(GraphEngine):
    """Answers of one version by its half-precision graph."""

    def settle(self) -> None:
        """Keep the buckets that give the same bits; they bound a micro-batch."""
        self.allow(max(_alike(self._graphs[0]), key=len))

    def allow(self, kept: Sequence[Bucket]) -> None:
        """Use these buckets and no others."""
        for graph in self._graphs:
            graph.keep(kept)
        longest = max(one.longest for one in kept)
        largest = max(one.tokens for one in kept if one.longest == longest)
        # `tokens` counts the longest text for all, so what is less than a bucket's fits into it.
        self.packing = Packing(rows=ROWS_PER_LONGEST * largest // longest, tokens=largest - 1, reach=ANY)

    def close(self) -> None:
        for graph in self._graphs:
            graph.close()

    def _load(self, version: Version, provider: Provider, threads: int, file: str) -> str:
        # Many texts at a time come here, and its session needs no processor: tokenise on all of them.
        os.environ["TOKENIZERS_PARALLELISM"] = "true"
        cuda = provider == PROVIDER
        content = _with_similarity(version.graph(file), self._nearest)
        widths = {"logits": len(self.labels), "embedding": self._nearest.shape[1], "similarity": 0}
        sizes = buckets(self._max_tokens) if cuda else buckets(self._max_tokens, budget=512)
        self._graphs = [
            Buckets(
                _session(content, number, cuda=cuda, threads=threads),
                sizes,
                widths,
                device="cuda" if cuda else "cpu",
                number=number,
            )
            for number in range(devices() if cuda else 1)
        ]
        self._free: queue.SimpleQueue[Buckets] = queue.SimpleQueue()
        for graph in self._graphs * IN_FLIGHT:
            self._free.put(graph)
        self._at_once = len(self._graphs) * IN_FLIGHT
        return PROVIDER if cuda else CPU

    def _run(self, rows: Sequence[Sequence[int]], length: int) -> tuple[Any, ...]:  # noqa: ARG002
        graph = self._free.get()
        try:
            return tuple(graph.run([list(row) or [0] for row in rows]))
        finally:
            self._free.put(graph)

    def _length(self, tokens: int) -> int:
        return max(1, tokens)


def _alike(graph: Buckets) -> list[list[Bucket]]:
    """Buckets in groups of equal bits, of those that hold the longest text."""
    draw = np.random.default_rng(0)
    texts = [draw.integers(0, 100, size).tolist() for size in PROBED_LENGTHS]
    groups: dict[bytes, list[Bucket]] = defaultdict(list)
    for size in graph.sizes:
        found = [graph.run([text], size) for text in texts]
        groups[b"".join(part.tobytes() for one in found for part in one)].append(size)
    longest = max(one.longest for one in graph.sizes)
    return [group for group in groups.values() if any(one.longest == longest for one in group)]


def _with_similarity(content: bytes, nearest: Array) -> bytes:
    """The graph with one more output: the cosine to the nearest of `nearest` [texts, hidden], unit rows.

    On the processor that product would take longer than the GPU takes for everything else.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load_model_from_string(content)
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(nearest.T), "nearest"))
    graph.initializer.append(numpy_helper.from_array(np.array([1]), "nearest_axis"))
    graph.node.append(helper.make_node("MatMul", ["embedding", "nearest"], ["cosines"]))
    graph.node.append(helper.make_node("ReduceMax", ["cosines", "nearest_axis"], ["similarity"], keepdims=0))
    graph.output.append(helper.make_tensor_value_info("similarity", TensorProto.FLOAT, None))
    made: bytes = model.SerializeToString()
    return made


def _session(content: bytes, number: int, *, cuda: bool, threads: int) -> Any:
    """On this GPU, every node of it; on a processor, with attention spelt out."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1 if cuda else threads
    if not cuda:
        return onnxruntime.InferenceSession(on_processor(content), options, providers=[CPU])
    # With CUDA graphs asked for, ONNX Runtime refuses a graph of which any node would run on the processor.
    chosen = {"device_id": str(number), "enable_cuda_graph": "1", "use_tf32": "0"}
    return onnxruntime.InferenceSession(content, options, providers=[(PROVIDER, chosen)])
