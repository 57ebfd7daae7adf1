"""What CUDA offers ONNX Runtime here, and the mend where it offers nothing.

ONNX Runtime falls back to the processor without an error where CUDA does not come up; engines refuse instead.
"""

from __future__ import annotations

import contextlib
import io

DEVICE = "cuda"
PROVIDER = "CUDAExecutionProvider"
IN_FLIGHT = 2  # micro-batches of a GPU: while one runs, the next is laid out
MEND = "Install the extra that brings CUDA's libraries (pip install 'trueup[gpu]') and look at nvidia-smi"


def problem() -> str | None:
    """Why CUDA cannot be used here and how to mend it, None where a session on it comes up."""
    import onnxruntime

    if PROVIDER not in onnxruntime.get_available_providers():
        return f"this ONNX Runtime was built without CUDA. {MEND}."
    said = io.StringIO()
    with contextlib.redirect_stdout(said):  # it prints what it could not load
        onnxruntime.preload_dlls(directory="")  # the libraries of the extra, where they are installed
    if not _comes_up(0):
        why = next(iter(said.getvalue().splitlines()), "no device answers")
        return f"ONNX Runtime cannot start CUDA on this machine ({why}). {MEND}."
    return None


def devices() -> int:
    """How many GPUs ONNX Runtime can use."""
    number = 0
    while _comes_up(number):
        number += 1
    return number


def _comes_up(number: int) -> bool:
    """Whether a session gets this GPU; ONNX Runtime would take the processor instead, without an error."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)  # it would shout about what is told here in a sentence
    try:
        chosen = [(PROVIDER, {"device_id": str(number)})]
        session = onnxruntime.InferenceSession(_identity(), providers=chosen)
    except Exception:  # a number that no GPU has; ONNX Runtime has no base class for what it raises
        return False
    finally:
        onnxruntime.set_default_logger_severity(2)
    found: bool = session.get_providers()[0] == PROVIDER
    return found


def _identity() -> bytes:
    """The smallest graph that a provider can be asked to run."""
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content
