"""ONNX Runtime on an NVIDIA GPU, fp32 without TF32: the padded graph of the processor's engine.

ONNX Runtime falls back to the processor without an error where CUDA does not come up; this engine refuses.
"""

from __future__ import annotations

import contextlib
import io

from exporter.engines import Engine
from exporter.errors import DeviceError
from exporter.graph_engine import open_graph
from trainer.artifact import Version

NAME = "cuda-fp32"
DEVICE = "cuda"
PROVIDER = "CUDAExecutionProvider"
MEND = "Install the extra that brings CUDA's libraries (pip install 'trueup[gpu]') and look at nvidia-smi"


def open_version_engine(version: Version, *, threads: int) -> Engine:
    """Loaded and tried. Raises DeviceError, VersionRefusedError."""
    why = problem()
    if why is not None:
        raise DeviceError(DEVICE, why)
    # TF32 rounds products to ten bits: answers would not be those that the parity check proved.
    return open_graph(version, name=NAME, provider=(PROVIDER, {"use_tf32": "0"}), threads=threads)


def problem() -> str | None:
    """Why CUDA cannot be used here and how to mend it, None where a session on it comes up."""
    import onnxruntime

    if PROVIDER not in onnxruntime.get_available_providers():
        return f"this ONNX Runtime was built without CUDA. {MEND}."
    said = io.StringIO()
    with contextlib.redirect_stdout(said):  # it prints what it could not load
        onnxruntime.preload_dlls(directory="")  # the libraries of the extra, where they are installed
    options = onnxruntime.SessionOptions()
    onnxruntime.set_default_logger_severity(4)  # it would shout about what is told here in a sentence
    session = onnxruntime.InferenceSession(_identity(), options, providers=[PROVIDER])
    onnxruntime.set_default_logger_severity(2)
    if session.get_providers()[0] != PROVIDER:
        why = next(iter(said.getvalue().splitlines()), "no device answers")
        return f"ONNX Runtime cannot start CUDA on this machine ({why}). {MEND}."
    return None


def _identity() -> bytes:
    """The smallest graph that a provider can be asked to run."""
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content
