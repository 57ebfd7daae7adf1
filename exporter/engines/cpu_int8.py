"""ONNX Runtime on the processor, int8.

A graph of ours (trainer.quantise) has a scale for each token, and texts share micro-batches as in fp32. ONNX
Runtime's own dynamic quantisation has one for a whole batch, so that a row's answer would depend on its batch
mates and labels would flip (onnxruntime.ai, "Quantize ONNX models"): what shows that when it is loaded runs
every row alone and unpadded.
"""

from __future__ import annotations

from exporter.engines import Engine
from exporter.graph_engine import open_graph
from exporter.packing import ALONE
from exporter.sessions import CPU
from trainer.artifact import INT8, Version

NAME = "cpu-int8"
DEVICE = "cpu"


def open_version_engine(version: Version, *, threads: int) -> Engine:
    """Loaded and tried. Raises VersionRefusedError."""
    return open_graph(version, name=NAME, provider=CPU, threads=threads, file=INT8, packing=ALONE)


def problem() -> str | None:
    """A processor is always there."""
    return None
