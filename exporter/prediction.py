"""One answered row: the columns of `predictions` but its serial number, and its form in the ledger."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

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


_FIELDS = tuple(Prediction.__dataclass_fields__)
_FIRST_FIELDS = len(_FIELDS) - 2  # of a ledger written before descriptors were kept
_values = attrgetter(*_FIELDS)
_BYTES = tuple(_FIELDS.index(name) for name in ("embedding", "words"))
_to_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def encode(predictions: Iterable[Prediction]) -> bytes:
    """A ledger frame's payload: a JSON array of rows, embeddings in base64. No NaN, no pickle."""
    return _to_json([_row(_values(prediction)) for prediction in predictions]).encode()


def decode(payload: bytes) -> list[Prediction]:
    """What `encode` wrote. Raises ValueError or TypeError where it did not."""
    return [_prediction(row) for row in json.loads(payload)]


def columns(prediction: Prediction) -> dict[str, Any]:
    """Parameters of an INSERT into `predictions`."""
    descriptors = None if prediction.descriptors is None else list(prediction.descriptors)
    # Not by `asdict`: its deep copies were half of the loader's time.
    values = dict(zip(_FIELDS, _values(prediction), strict=True))
    return values | {"scores": list(prediction.scores), "descriptors": descriptors}


def _row(values: tuple[Any, ...]) -> list[Any]:
    row = list(values)
    for place in _BYTES:
        row[place] = None if row[place] is None else b64encode(row[place]).decode()
    return row


def _prediction(row: list[Any]) -> Prediction:
    fields = _FIELDS[:_FIRST_FIELDS] if len(row) == _FIRST_FIELDS else _FIELDS
    values = dict(zip(fields, row, strict=True))
    for name in ("embedding", "words"):
        if values.get(name) is not None:
            values[name] = b64decode(values[name])
    values["scores"] = tuple(values["scores"])
    if values.get("descriptors") is not None:
        values["descriptors"] = tuple(values["descriptors"])
    return Prediction(**values)
