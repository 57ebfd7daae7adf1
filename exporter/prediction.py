"""One answered row: the columns of `predictions` but its serial number, and its form in the ledger."""

from __future__ import annotations

import json
import struct
import sys
from array import array
from base64 import b64decode
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from io import BytesIO
from itertools import islice
from math import isfinite, isnan, nan
from operator import attrgetter
from typing import Any

from exporter.generation import Generation, from_ledger
from exporter.tables import Role

Metadata = dict[str, str | float | int | bool | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    id: str
    model: str
    version: str
    role: Role
    at: float  # seconds since 1970 UTC
    text: str | None
    label: str
    score: float
    scores: tuple[float, ...]  # in the manifest's order of labels
    embedding: bytes  # fp16 little endian, unit length
    similarity: float | None
    tokens: int
    characters: int
    truncated: bool
    queue_ms: float
    run_ms: float
    metadata: Metadata
    descriptors: tuple[float | None, ...] | None = None  # of the raw text, see descriptors.Description
    words: bytes | None = None
    generation: Generation | None = None  # of a generated answer; a table of its own
    parts: tuple[float, ...] = ()  # of the reply only: see engines.Answer


_FIELDS = tuple(name for name in Prediction.__dataclass_fields__ if name not in ("generation", "parts"))
_FIRST_FIELDS = len(_FIELDS) - 2  # of a ledger written before descriptors were kept
_PLAIN = ("id", "model", "version", "role", "text", "label", "tokens", "characters", "truncated", "metadata")
_plain, _values = attrgetter(*_PLAIN), attrgetter(*_FIELDS)
_BINARY = b"\x02"  # frames of earlier releases are JSON and begin with "["
_SIZES = struct.Struct("<cII")
_to_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_NUMBERS = 5  # at, score, similarity, queue_ms, run_ms; scores and descriptors follow


def encode(predictions: Iterable[Prediction]) -> bytes:
    """A ledger frame's payload: JSON for words, doubles for numbers, bytes as they are. No pickle.

    Numbers are doubles because their decimals would cost more than the whole write. Raises ValueError on NaN.
    """
    rows: list[tuple[Any, ...]] = []
    numbers: list[float] = []
    blobs: list[bytes] = []
    for one in predictions:
        described, words = one.descriptors, one.words
        sizes = (
            len(one.scores),
            None if described is None else len(described),
            len(one.embedding),
            None if words is None else len(words),
        )
        more = () if one.generation is None else (asdict(one.generation),)
        rows.append(_plain(one) + sizes + more)
        required = (one.at, one.score, one.queue_ms, one.run_ms, *one.scores)
        if not isfinite(sum(required)):
            raise ValueError("a prediction with a number that is none")
        numbers += (one.at, one.score, _or_nan(one.similarity), one.queue_ms, one.run_ms, *one.scores)
        numbers += map(_or_nan, described or ())
        blobs += (one.embedding, words or b"")
    said, counted = _to_json(rows).encode(), struct.pack(f"<{len(numbers)}d", *numbers)
    return b"".join((_SIZES.pack(_BINARY, len(said), len(counted)), said, counted, *blobs))


def decode(payload: bytes) -> list[Prediction]:
    """What `encode` wrote, in this release or an earlier one. Raises ValueError or TypeError otherwise."""
    if payload[:1] != _BINARY:
        return [_prediction(row) for row in json.loads(payload)]
    if len(payload) < _SIZES.size:
        raise ValueError("no frame")
    _, said, counted = _SIZES.unpack_from(payload)
    start = _SIZES.size + said
    numbers = iter(array("d", _little(payload[start : start + counted])))
    blob = BytesIO(payload[start + counted :])
    rows = [_binary(row, numbers, blob) for row in json.loads(payload[_SIZES.size : start])]
    if next(numbers, None) is not None or blob.read(1):
        raise ValueError("more than its rows")
    return rows


def _binary(row: list[Any], numbers: Iterator[float], blob: BytesIO) -> Prediction:
    plain, (scores, described, embedding, words, *more) = row[: len(_PLAIN)], row[len(_PLAIN) :]
    at, score, similarity, queue_ms, run_ms = _taken(numbers, _NUMBERS)
    return Prediction(
        **dict(zip(_PLAIN, plain, strict=True)),
        at=at,
        score=score,
        similarity=_or_none(similarity),
        queue_ms=queue_ms,
        run_ms=run_ms,
        scores=_taken(numbers, scores),
        descriptors=None if described is None else tuple(map(_or_none, _taken(numbers, described))),
        embedding=_read(blob, embedding),
        words=None if words is None else _read(blob, words),
        generation=from_ledger(*more) if more else None,
    )


def _taken(numbers: Iterator[float], count: int) -> tuple[float, ...]:
    found = tuple(islice(numbers, count))
    if len(found) != count:
        raise ValueError("fewer numbers than its rows have")
    return found


def _read(blob: BytesIO, size: int) -> bytes:
    found = blob.read(size)
    if len(found) != size:
        raise ValueError("fewer bytes than its rows have")
    return found


def _little(content: bytes) -> bytes:
    """Doubles as this machine has them."""
    if sys.byteorder == "little":
        return content
    swapped = array("d", content)
    swapped.byteswap()
    return swapped.tobytes()


def _or_nan(value: float | None) -> float:
    return nan if value is None else value


def _or_none(value: float) -> float | None:
    return None if isnan(value) else value


def columns(prediction: Prediction) -> dict[str, Any]:
    """Parameters of an INSERT into `predictions`."""
    descriptors = None if prediction.descriptors is None else list(prediction.descriptors)
    # Not by `asdict`: its deep copies were half of the loader's time.
    values = dict(zip(_FIELDS, _values(prediction), strict=True))
    return values | {"scores": list(prediction.scores), "descriptors": descriptors}


def _prediction(row: list[Any]) -> Prediction:
    """Of a JSON frame."""
    fields = _FIELDS[:_FIRST_FIELDS] if len(row) == _FIRST_FIELDS else _FIELDS
    values = dict(zip(fields, row, strict=True))
    for name in ("embedding", "words"):
        if values.get(name) is not None:
            values[name] = b64decode(values[name])
    values["scores"] = tuple(values["scores"])
    if values.get("descriptors") is not None:
        values["descriptors"] = tuple(values["descriptors"])
    return Prediction(**values)
