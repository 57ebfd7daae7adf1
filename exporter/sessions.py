"""Sessions of ONNX Runtime. On a processor, versions that differ in their heads alone share one.

A retrained head is put on its parent's graph (trainer.splice), so every version since holds the same encoder:
its weights, packed for products, are what a session takes. The head is taken out of the graph.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from typing import Any

from exporter.engines import Encoder
from exporter.weights import share
from trainer.artifact import Version
from trainer.errors import VersionRefusedError
from trainer.graph import SLOWER
from trainer.head import Head
from trainer.splice import EMBEDDING, LOGITS, without_head

CPU = "CPUExecutionProvider"
INPUTS = {"input_ids", "attention_mask"}

Provider = str | tuple[str, dict[str, str]]

_encoders: weakref.WeakValueDictionary[tuple[bytes, int], Encoder] = weakref.WeakValueDictionary()
_opening = threading.Lock()


def open_encoder(
    version: Version, provider: Provider, threads: int, file: str
) -> tuple[Encoder, Head | None]:
    """The session of one of a version's graphs, perhaps another's too, and the head that it is without."""
    parts = without_head(version.graph(file)) if provider == CPU else None
    if parts is None:
        return Encoder(open_session(version, provider, threads, file)), None
    content, head = parts
    key = hashlib.sha256(content).digest(), threads
    with _opening:
        encoder = _encoders.get(key)
        if encoder is None:
            session = _session(content, provider, threads)
            _require(version, file, session, {EMBEDDING})
            encoder = _encoders[key] = Encoder(session)
    return encoder, head


def open_session(version: Version, provider: Provider, threads: int, file: str) -> Any:
    """The bare session of one of a version's graphs as it was sealed, with `threads` of its own."""
    session = _session(version.graph(file), provider, threads)
    _require(version, file, session, {LOGITS, EMBEDDING})
    return session


def _require(version: Version, file: str, session: Any, outputs: set[str]) -> None:
    found = ({entry.name for entry in session.get_inputs()}, {entry.name for entry in session.get_outputs()})
    if found != (INPUTS, outputs):
        raise VersionRefusedError(version.path, f"{file} has the inputs and outputs {found}")


def _session(content: bytes, provider: Provider, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # spinning starves neighbours
    tables = share(options, content) if provider == CPU else []
    slower = SLOWER if provider == CPU else []
    session = onnxruntime.InferenceSession(
        content, sess_options=options, providers=[provider], disabled_optimizers=slower
    )
    session._tables = tables  # they must live as long
    session._model_bytes = b""  # kept for a fallback to another provider, which is never wanted here
    return session
