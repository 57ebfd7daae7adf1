"""The native protocol: /v1/predict and /v1/labels."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from exporter.http.asgi import Answer, Call, Route, json_answer
from exporter.http.terms import terms
from exporter.instruments import Instruments
from exporter.labels import LabelOutcome
from exporter.requests import parse_labels, parse_predict
from exporter.service import Served, Service
from exporter.settings import ExporterSettings
from trainer.tasks import load


def routes(
    service: Service,
    record: Callable[[Sequence[tuple[str, str]]], list[LabelOutcome]],
    settings: ExporterSettings,
    instruments: Instruments,
) -> list[Route]:
    async def predict(call: Call) -> Answer:
        model, inputs = parse_predict(await call.body(), settings)
        return json_answer(_served(await service.predict(model, inputs, terms(call))))

    async def labels(call: Call) -> Answer:
        rows = parse_labels(await call.body())
        outcomes = await asyncio.to_thread(record, rows)
        for outcome in outcomes:
            instruments.labels.labels(outcome.status).inc()
        return json_answer(_labelled(outcomes))

    return [
        Route("POST", "/v1/predict", predict, ("ingest",)),
        Route("POST", "/v1/labels", labels, ("ingest",)),
    ]


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
