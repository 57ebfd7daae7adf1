"""A frozen encoder as an ONNX graph under a head that will be replaced.

It is the parent's own graph or, for a first version, that of the base model: exported once, proven against
torch once, and kept in the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from trainer.artifact import Parity, Version
from trainer.encoder import COUNT_FROM_PADDING, load_encoder
from trainer.errors import ExportError, ParityError
from trainer.export import Attention, export, export_packed, routes
from trainer.fit import Fitted, use_threads
from trainer.head import Head
from trainer.parity import parity, probes
from trainer.sources import base_sha256
from trainer.spec import GateTable
from trainer.tabular import write_bytes
from trainer.tokens import encode, tokenizer

MADE_BY = 2  # raise it when the same libraries export another graph
LIBRARIES = ("torch", "transformers", "onnx", "onnxscript")
PROBED_LABELS = 8
Say = Callable[[Literal["export", "parity"], Attention], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderGraph:
    """`content` is a whole model.onnx; `parity` is what was proven when its encoder was exported."""

    content: bytes
    attention: Attention
    parity: Parity


def of_parent(parent: Version) -> EncoderGraph:
    """The encoder that answers now, with all that it was taught."""
    attention: Attention = "fused" if parent.manifest.attention == "fused" else "generic"
    return EncoderGraph(content=parent.model_bytes, attention=attention, parity=parent.manifest.parity)


def of_base(
    base: Path, texts: list[str], gate: GateTable, *, cache: Path, threads: int, say: Say
) -> EncoderGraph:
    """The base model's own encoder, from the cache if it was exported there.

    `texts` are what the first export is proven on; `say` hears which route is tried. Raises BaseModelError,
    ExportError, ParityError.
    """
    folder = cache / "graphs" / _key(base)
    return _cached(folder) or _export(folder, base, texts, gate, threads=threads, say=say)


def packed_of_base(base: Path, *, cache: Path, threads: int) -> bytes:
    """The padding-free graph of the base model's own encoder, exported once; raises ExportError."""
    folder = cache / "graphs" / f"{_key(base)}-packed"
    kept = _read(folder)
    if kept is not None:
        return kept[0]
    use_threads(threads)
    with _made(folder) as made:
        export_packed(_untrained(load_encoder(base)), made / "model.onnx")
        content = (made / "model.onnx").read_bytes()
        _note(made, content, {})
    return content


def _key(base: Path) -> str:
    made_of = [str(MADE_BY), base_sha256(base), *(importlib.metadata.version(name) for name in LIBRARIES)]
    return hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:32]


def _read(folder: Path) -> tuple[bytes, dict[str, Any]] | None:
    """A graph whose bytes are those that were noted, and the facts beside it; None where there is none."""
    try:
        facts = json.loads((folder / "graph.json").read_text(encoding="utf-8"))
        content = (folder / "model.onnx").read_bytes()
    except (OSError, ValueError):
        return None
    return (content, facts) if hashlib.sha256(content).hexdigest() == facts["sha256"] else None


def _cached(folder: Path) -> EncoderGraph | None:
    kept = _read(folder)
    if kept is None:
        return None
    content, facts = kept
    return EncoderGraph(content=content, attention=facts["attention"], parity=Parity(**facts["parity"]))


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[Path]:
    """A folder that takes the place of `folder` once it is whole."""
    made = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}")  # another training may be at it, too
    made.mkdir(parents=True)
    try:
        yield made
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _note(made: Path, content: bytes, facts: dict[str, Any]) -> None:
    noted = {"sha256": hashlib.sha256(content).hexdigest(), **facts}
    write_bytes(made / "graph.json", json.dumps(noted, indent=2).encode())


def _export(
    folder: Path, base: Path, texts: list[str], gate: GateTable, *, threads: int, say: Say
) -> EncoderGraph:
    use_threads(threads)
    fitted = _untrained(load_encoder(base))
    cut = tokenizer(base / "tokenizer.json", positions(base) or 512)
    chosen = probes(encode(cut, texts), max_tokens=min(512, positions(base) or 512))
    with _made(folder) as made:
        attention, proof = export_proven(fitted, made / "model.onnx", chosen, gate, threads=threads, say=say)
        content = (made / "model.onnx").read_bytes()
        _note(made, content, {"attention": attention, "parity": proof.model_dump()})
    return EncoderGraph(content=content, attention=attention, parity=proof)


def export_proven(
    fitted: Fitted, path: Path, chosen: list[list[int]], gate: GateTable, *, threads: int, say: Say
) -> tuple[Attention, Parity]:
    """Export by the fastest route that answers as the trained model does.

    Raises what the last route failed by: ExportError, ParityError.
    """
    ways = routes(fitted)
    for attention in ways:
        say("export", attention)
        try:
            export(fitted, path, attention)
            say("parity", attention)
            return attention, parity(fitted, path, chosen, gate, threads=threads)
        except (ExportError, ParityError):
            if attention == ways[-1]:
                raise
    raise AssertionError("an encoder has at least one route")


def positions(base: Path) -> int | None:
    """How many tokens the encoder has places for, None where its configuration does not say."""
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    places = config.get("max_position_embeddings")
    shifted = config.get("model_type") in COUNT_FROM_PADDING
    return None if places is None else places - shifted * (config.get("pad_token_id", 1) + 1)


def _untrained(encoder: Any) -> Fitted:
    """An encoder under a head that will be replaced."""
    head = _directions(encoder.config.hidden_size)
    return Fitted(encoder=encoder, head=head, labels=[], embeddings=np.zeros((0, 0)))


def _directions(hidden: int) -> Head:
    """A head that reads the embedding in PROBED_LABELS directions, the scale that a trained head has."""
    weight = np.random.default_rng(0).normal(size=(PROBED_LABELS, hidden))
    return Head(weight=weight.astype(np.float32), bias=np.zeros(PROBED_LABELS, dtype=np.float32))
