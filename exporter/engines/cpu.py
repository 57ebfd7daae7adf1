"""ONNX Runtime on the processor, fp32."""

from __future__ import annotations

from exporter.engines import Engine
from exporter.graph_engine import open_graph
from exporter.sessions import CPU
from trainer.artifact import Version

NAME = "cpu-fp32"
DEVICE = "cpu"


def open_version_engine(version: Version, *, threads: int) -> Engine:
    """Loaded and tried. Raises VersionRefusedError."""
    return open_graph(version, name=NAME, provider=CPU, threads=threads)


def problem() -> str | None:
    """A processor is always there."""
    return None
