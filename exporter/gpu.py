"""What CUDA offers ONNX Runtime here, and the mend where it offers nothing.

ONNX Runtime falls back to the processor without an error where CUDA does not come up; engines refuse instead.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

DEVICE = "cuda"
PROVIDER, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
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


@dataclass(frozen=True, slots=True)
class Peak:
    """What a device reaches on the two things that bound every graph."""

    tflops: float  # of one large product in half precision
    copied_tb_s: float  # read and written


def peak(device: str = DEVICE, *, size: int = 8192, copied: int = 1 << 30) -> Peak:
    """Measured with ONNX Runtime itself: [size, size] times [size, size], and a copy of so many bytes."""
    import onnxruntime
    from onnx import TensorProto

    made = onnxruntime.OrtValue
    factor = np.ones((size, size), dtype=np.float16)
    session = onnxruntime.InferenceSession(
        _smallest("MatMul", TensorProto.FLOAT16, 2), providers=[PROVIDER if device == DEVICE else CPU]
    )
    binding = session.io_binding()
    for name in ("x", "w"):
        binding.bind_ortvalue_input(name, made.ortvalue_from_numpy(factor, device, 0))
    binding.bind_output("y", device)
    product = _seconds(lambda: session.run_with_iobinding(binding))
    one, other = (made.ortvalue_from_shape_and_type([copied], np.uint8, device, 0) for _ in range(2))
    moved = _seconds(lambda: other.update_inplace(one))
    return Peak(tflops=2 * size**3 / product / 1e12, copied_tb_s=2 * copied / moved / 1e12)


def _seconds(work: Callable[[], Any], *, rounds: int = 10) -> float:
    """Of the median round, after three that do not count."""
    spent = []
    for number in range(3 + rounds):
        began = time.perf_counter()
        work()
        if number >= 3:
            spent.append(time.perf_counter() - began)
    return float(np.median(spent))


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
    from onnx import TensorProto

    return _smallest("Identity", TensorProto.FLOAT, 1)


def _smallest(operator: str, kind: int, dimensions: int) -> bytes:
    """One operator from x (and, of matrices, w) to y."""
    from onnx import helper

    shape = [f"size{number}" for number in range(dimensions)]
    given = ["x", "w"][:dimensions]
    x, y = ([helper.make_tensor_value_info(name, kind, shape) for name in names] for names in (given, ["y"]))
    graph = helper.make_graph([helper.make_node(operator, given, ["y"])], operator, x, y)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content
