"""Language models on an NVIDIA GPU, half precision: decoding steps are captured CUDA graphs.

Answers of several requests are rows of one batch that join and leave between two steps, as on a processor:
the same code, with keys and values on the device. It has not run on a GPU yet. onnxruntime-genai's own engine
with paged keys is not used: it gives no logits, which the record of an answer needs, and it hangs when it is
asked for more than its `max_batch_size` at a time.
"""

from __future__ import annotations

from exporter.decoder_engine import DecoderEngine, open_decoder_engine
from exporter.errors import DeviceError
from exporter.gpu import DEVICE, problem
from trainer.decoder.sealed import DecoderVersion

__all__ = ["DEVICE", "NAME", "open_version_engine", "problem"]
NAME = "decoder-cuda"
ROWS = 64  # answers at a time, fewer where there is no memory for their keys; the rest waits


def open_version_engine(version: DecoderVersion, *, threads: int) -> DecoderEngine:
    """Loaded and tried. Raises DeviceError, VersionRefusedError."""
    why = problem()
    if why is not None:
        raise DeviceError(DEVICE, why)
    return open_decoder_engine(version, name=NAME, threads=threads, rows=ROWS, device="cuda")
