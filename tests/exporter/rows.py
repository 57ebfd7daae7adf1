"""Predictions and ledgers made by hand."""

from __future__ import annotations

from pathlib import Path

from exporter.ledger import Ledger, segments
from exporter.prediction import Prediction


def prediction(number: int, **changes: object) -> Prediction:
    values: dict[str, object] = {
        "id": f"p{number}",
        "model": "router",
        "version": "v1",
        "role": "champion",
        "at": 1.7e9 + number,
        "text": "é \u2028 text",
        "label": "yes",
        "score": 0.75,
        "scores": (0.75, 0.25),
        "embedding": b"\x00\x3c" * 4,
        "similarity": 0.5,
        "tokens": 7,
        "characters": 8,
        "truncated": False,
        "queue_ms": 0.1,
        "run_ms": 2.0,
        "metadata": {"region": "eu", "vip": True},
    }
    return Prediction(**values | changes)  # type: ignore[arg-type]


def ledger(folder: Path, name: str = "x", *, segment_bytes: int = 1 << 20) -> Ledger:
    return Ledger(folder, name, durability="process", segment_bytes=segment_bytes)


def only_segment(folder: Path) -> Path:
    ((_, (path,)),) = segments(folder)
    return path


def closed_segment(folder: Path, frames: int = 3) -> Path:
    writer = ledger(folder)
    for number in range(frames):
        writer.append([prediction(2 * number), prediction(2 * number + 1)])
    writer.close()
    return only_segment(folder)
