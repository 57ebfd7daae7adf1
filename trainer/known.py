"""Embeddings that somebody has computed already: stored with predictions, or sealed with the parent.

They are float16 and belong to one encoder. Whoever hands them on may be wrong about that (a text may have
been redacted after it was embedded), so `trusted` recomputes some of them before any is used.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from trainer.artifact import MODEL, Manifest, Version
from trainer.replay import replay
from trainer.rows import Row, read_snapshot
from trainer.spec import FitTable
from trainer.tabular import parquet_bytes, parquet_records, write_bytes

Array = np.ndarray[Any, np.dtype[Any]]
Known: TypeAlias = Mapping[str, Array]
"""Text -> unit embedding, float16 [hidden]."""

NEAREST_ROWS = 2000
PROBES = 16
SAME = 0.999  # cosine; float16 leaves 0.99999
_COLUMNS = {"text": "string", "embedding": "binary"}


def write_known(pairs: Iterable[tuple[str, bytes]], path: Path) -> None:
    """Write (text, float16 little endian embedding) pairs; of a text that comes twice the last one counts."""
    rows = [{"text": text, "embedding": content} for text, content in pairs]
    write_bytes(path, parquet_bytes(rows, _COLUMNS))


def read_known(path: Path) -> dict[str, Array]:
    """What `write_known` wrote."""
    rows = parquet_records(path.read_bytes())
    return {row["text"]: np.frombuffer(row["embedding"], dtype="<f2") for row in rows}


def nearest_numbers(rows: int, seed: int) -> Array:
    """Which of a version's training rows its nearest.npy holds, in order.

    >>> nearest_numbers(3, seed=0).tolist(), len(nearest_numbers(9000, seed=0))
    ([0, 1, 2], 2000)
    """
    return np.sort(np.random.default_rng(seed).permutation(rows)[:NEAREST_ROWS])


def nearest_bytes(embeddings: Array, seed: int) -> bytes:
    """The .npy file of at most NEAREST_ROWS embeddings, as float16 [rows, hidden]."""
    return _npy(embeddings[nearest_numbers(len(embeddings), seed)])


def _npy(embeddings: Array) -> bytes:
    sink = io.BytesIO()
    np.save(sink, embeddings.astype(np.float16), allow_pickle=False)
    return sink.getvalue()


def learnt(rows: Sequence[Row], fit: FitTable, dropped: Iterable[int]) -> list[Row]:
    """The rows of a snapshot that a version learnt: replayed, without what its data gate left out."""
    out = set(dropped)
    return [row for number, row in enumerate(replay(rows, fit)) if number not in out]


def beside_snapshot(snapshots: Path, manifest: Manifest) -> Path:
    """Where embeddings of all rows that a version learnt lie, if they are more than nearest.npy holds."""
    return snapshots / f"{manifest.data.sha256}.{manifest.files[MODEL][:16]}.npy"


def write_beside(path: Path, embeddings: Array) -> None:
    """Keep embeddings [rows, hidden] for the next retrain, which would compute most of them again."""
    if len(embeddings) > NEAREST_ROWS:
        write_bytes(path, _npy(embeddings))


def _read_beside(path: Path) -> Array | None:
    try:
        found: Array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.ndim == 2 and found.dtype == np.float16 else None


def of_parent(parent: Version, snapshots: Path) -> dict[str, Array]:
    """Embeddings of the parent's training rows; none without its snapshot.

    All that were learnt where they lie beside it, otherwise those that were sealed.
    """
    snapshot = snapshots / f"{parent.manifest.data.sha256}.parquet"
    if not snapshot.exists():
        return {}
    fit = FitTable.model_validate(parent.manifest.spec["fit"])
    rows = learnt(read_snapshot(snapshot), fit, parent.manifest.dropped)
    beside = _read_beside(beside_snapshot(snapshots, parent.manifest))
    if beside is not None and len(beside) == len(rows):
        return {row.text: embedding for row, embedding in zip(rows, beside, strict=True)}
    numbers = nearest_numbers(len(rows), fit.seed)
    if len(numbers) != len(parent.nearest):
        return {}
    return {rows[number].text: row for number, row in zip(numbers, parent.nearest, strict=True)}


def trusted(known: Known, embed: Callable[[Sequence[str]], Array]) -> Known:
    """`known` itself if this encoder says the same of most of PROBES of its texts, otherwise nothing."""
    if not known:
        return known
    texts = list(known)
    chosen = [texts[i] for i in np.unique(np.linspace(0, len(texts) - 1, PROBES).astype(int))]
    stored = np.stack([known[text] for text in chosen]).astype(np.float32)
    fresh = embed(chosen)
    if stored.shape != fresh.shape:
        return {}
    return known if np.median((stored * fresh).sum(axis=1)) >= SAME else {}
