"""Large tables of weights that several versions have in common, held once.

Versions grown from one base differ in a head or in a few layers, but each session would hold its own copy of
the embedding table: half of a MiniLM, two thirds of an XLM-R. Only what a Gather reads is shared: weights of
products are packed anew for every session, so a shared original would be one more copy of them.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from typing import Any

LEAST_BYTES = 1 << 20

_held: weakref.WeakValueDictionary[bytes, Any] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def share(options: Any, content: bytes) -> list[Any]:
    """Have a session use tables that others hold already; `content` is the graph that it will open.

    `options` are onnxruntime.SessionOptions. The values returned must live as long as the session.
    """
    import onnx

    graph = onnx.load_from_string(content).graph
    looked_up = {node.input[0] for node in graph.node if node.op_type == "Gather"}
    found = []
    for table in graph.initializer:
        if table.name in looked_up and len(table.raw_data) >= LEAST_BYTES:
            value = _held_once(table)
            options.add_initializer(table.name, value)
            found.append(value)
    return found


def _held_once(table: Any) -> Any:
    import onnx
    import onnxruntime

    about = f"{table.data_type} {list(table.dims)} ".encode()
    key = hashlib.sha256(about + table.raw_data).digest()
    with _lock:
        value = _held.get(key)
        if value is None:
            value = onnxruntime.OrtValue.ortvalue_from_numpy(onnx.numpy_helper.to_array(table).copy())
            _held[key] = value
    return value
