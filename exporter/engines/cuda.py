"""ONNX Runtime on an NVIDIA GPU, fp32 without TF32: the padded graph of the processor's engine."""

from __future__ import annotations

from exporter.engines import Engine
from exporter.errors import DeviceError
from exporter.gpu import DEVICE, PROVIDER, problem
from exporter.graph_engine import open_graph
from trainer.artifact import Version

__all__ = ["DEVICE", "NAME", "open_version_engine", "problem"]
NAME = "cuda-fp32"


def open_version_engine(version: Version, *, threads: int) -> Engine:
    """Loaded and tried. Raises DeviceError, VersionRefusedError."""
    why = problem()
    if why is not None:
        raise DeviceError(DEVICE, why)
    # TF32 rounds products to ten bits: answers would not be those that the parity check proved.
    return open_graph(version, name=NAME, provider=(PROVIDER, {"use_tf32": "0"}), threads=threads)
