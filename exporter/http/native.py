"""The native protocol: /v1/predict and /v1/labels."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from exporter.errors import BusyError
from exporter.http.asgi import Answer, Call, Route, json_answer
from exporter.http.terms import terms
from exporter.instruments import Instruments
from exporter.labels import LabelOutcome
from exporter.requests import parse_labels, parse_predict
from exporter.service import Served, Service
from exporter.settings import ExporterSettings
from trainer.tasks import load

LABELLING = 4  # requests with labels that the database is asked for at once
MOST_LABELLING = 64  # and that may wait for it


def routes(
    service: Service,
    record: Callable[[Sequence[tuple[str, str]]], list[LabelOutcome]],
    settings: ExporterSettings,
    instruments: Instruments,
) -> list[Route]:
    labelling = _Labelling(record)

    async def predict(call: Call) -> Answer:
        model, inputs = parse_predict(await call.body(), settings)
        return json_answer(_served(await service.predict(model, inputs, terms(call))))

    async def labels(call: Call) -> Answer:
        rows = parse_labels(await call.body())
        outcomes = await labelling.record(rows)
        for outcome in outcomes:
            instruments.labels.labels(outcome.status).inc()
        return json_answer(_labelled(outcomes))

    return [
        Route("POST", "/v1/predict", predict, ("ingest",)),
        Route("POST", "/v1/labels", labels, ("ingest",)),
    ]


class _Labelling:
    """Threads of its own: while the database is away, everything else of the exporter goes on."""

    def __init__(self, record: Callable[[Sequence[tuple[str, str]]], list[LabelOutcome]]) -> None:
        self._record = record
        self._pool = ThreadPoolExecutor(LABELLING, thread_name_prefix="labels")
        self._room = threading.BoundedSemaphore(MOST_LABELLING)

    async def record(self, rows: Sequence[tuple[str, str]]) -> list[LabelOutcome]:
        """Raises BusyError, and what the database does."""
        if not self._room.acquire(blocking=False):
            raise BusyError
        recording = self._pool.submit(self._record, rows)
        recording.add_done_callback(lambda _: self._room.release())  # also of a client that went away
        return await asyncio.wrap_future(recording)


def _served(served: Served) -> dict[str, Any]:
    told = load(served.task).told
    rows = [
        {
            "id": prediction.id,
            "label": prediction.label,
            **told(prediction.label, prediction.parts),
            "score": prediction.score,
            "scores": dict(zip(served.labels, prediction.scores, strict=True)),
            "truncated": prediction.truncated,
        }
        for prediction in served.predictions
    ]
    return {"model": served.model, "version": served.version, "predictions": rows}


def _labelled(outcomes: Sequence[LabelOutcome]) -> dict[str, Any]:
    return {
        "stored": sum(outcome.status in ("stored", "new_label") for outcome in outcomes),
        "new_labels": [
            {"index": index, "id": outcome.id, "message": outcome.message}
            for index, outcome in enumerate(outcomes)
            if outcome.status == "new_label"
        ],
        "duplicates": sum(outcome.status == "duplicate" for outcome in outcomes),
        "errors": [
            {"index": index, "id": outcome.id, "message": outcome.message, "code": outcome.code}
            for index, outcome in enumerate(outcomes)
            if outcome.status == "error"
        ],
    }
