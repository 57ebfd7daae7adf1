"""Language models on the processor, fp32 or int4: the sealed graph says which."""

from __future__ import annotations

from exporter.decoder_engine import DecoderEngine, open_decoder_engine
from trainer.decoder.sealed import DecoderVersion

NAME = "decoder-cpu"
DEVICE = "cpu"
ROWS = 8  # answers at a time; the rest waits (a processor gains little from more, and each takes memory)


def open_version_engine(version: DecoderVersion, *, threads: int) -> DecoderEngine:
    """Loaded and tried. Raises VersionRefusedError."""
    return open_decoder_engine(version, name=NAME, threads=threads, rows=ROWS)


def problem() -> str | None:
    """A processor is always there."""
    return None
