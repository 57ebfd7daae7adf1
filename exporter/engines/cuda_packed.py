"""ONNX Runtime on NVIDIA GPUs, half precision, no padding: one captured CUDA graph a bucket."""

from __future__ import annotations

from exporter.engines import Engine
from exporter.errors import DeviceError
from exporter.gpu import DEVICE, PROVIDER, problem
from exporter.graph_engine import open_graph
from exporter.packed_engine import PackedEngine
from trainer.artifact import PACKED, Version

__all__ = ["DEVICE", "NAME", "open_version_engine", "problem"]
NAME = "cuda-fp16-packed"


def open_version_engine(version: Version, *, threads: int) -> Engine:
    """Loaded, captured and tried on every GPU. Raises DeviceError, VersionRefusedError."""
    why = problem()
    if why is not None:
        raise DeviceError(DEVICE, why)
    return open_graph(version, name=NAME, provider=PROVIDER, threads=threads, file=PACKED, kind=PackedEngine)
