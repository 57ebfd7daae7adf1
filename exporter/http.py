"""The HTTP surface: JSON in and out, every error {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.errors import (
    DeadlineError,
    EngineFailedError,
    ExporterError,
    LedgerWriteError,
    QueueFullError,
    RequestError,
    StoppingError,
    UnknownModelError,
)
from exporter.instruments import Instruments
from exporter.labels import LabelOutcome
from exporter.prediction import Prediction
from exporter.requests import parse_labels, parse_predict
from exporter.service import Served, Service
from exporter.settings import ExporterSettings

RecordLabels = Callable[[Sequence[tuple[str, str]]], list[LabelOutcome]]

ROUTES = ("/v1/predict", "/v1/labels", "/v1/models", "/healthz", "/readyz", "/metrics")
_REQUEST_ID = re.compile(r"[\w.:-]{1,128}", re.ASCII)
# Status, code, param.
_ANSWERS: dict[type[Exception], tuple[int, str, str | None]] = {
    UnknownModelError: (404, "model_not_found", "model"),
    QueueFullError: (429, "queue_full", None),
    DeadlineError: (503, "deadline_exceeded", None),
    StoppingError: (503, "stopping", None),
    LedgerWriteError: (503, "ledger_unavailable", None),
    EngineFailedError: (500, "engine_failed", None),
}

_log = structlog.get_logger()


def application(
    service: Service, record: RecordLabels, settings: ExporterSettings, instruments: Instruments
) -> ASGIApp:
    """The ASGI application; `record` stores labels and may block."""

    async def predict(request: Request) -> Response:
        body = await _body(request, settings.max_body_bytes)
        model, inputs = parse_predict(body, settings)
        return _json(_served(await service.predict(model, inputs)))

    async def labels(request: Request) -> Response:
        rows = parse_labels(await _body(request, settings.max_body_bytes))
        outcomes = await asyncio.to_thread(record, rows)
        for outcome in outcomes:
            instruments.labels.labels(outcome.status).inc()
        return _json(_labelled(outcomes))

    async def models(request: Request) -> Response:  # noqa: ARG001 (Starlette passes it)
        return _json({"object": "list", "data": _models(service)})

    async def healthz(request: Request) -> Response:  # noqa: ARG001
        return _json({"status": "ok"})

    async def readyz(request: Request) -> Response:  # noqa: ARG001
        serving = {deployed.model: deployed.version for deployed in service.fleet.serving()}
        status = "ready" if serving else "no model is deployed"
        return _json({"status": status, "models": serving}, 200 if serving else 503)

    async def metrics(request: Request) -> Response:  # noqa: ARG001
        return Response(instruments.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    post, get = ["POST"], ["GET"]
    app = Starlette(
        routes=[
            Route("/v1/predict", predict, methods=post),
            Route("/v1/labels", labels, methods=post),
            Route("/v1/models", models, methods=get),
            Route("/healthz", healthz, methods=get),
            Route("/readyz", readyz, methods=get),
            Route("/metrics", metrics, methods=get),
        ],
        exception_handlers={
            RequestError: _refused,
            ExporterError: _failed,
            HTTPException: _not_routed,
            SQLAlchemyError: _no_database,
            Exception: _broken,
        },
    )
    return _Observed(app, instruments)


async def _body(request: Request, limit: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared[:20]) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> RequestError:
    return RequestError(f"The body may have {limit} bytes.", None, status=413, code="body_too_large")


def _served(served: Served) -> dict[str, Any]:
    rows = [_row(prediction, served.labels) for prediction in served.predictions]
    return {"model": served.model, "version": served.version, "predictions": rows}


def _row(prediction: Prediction, labels: Sequence[str]) -> dict[str, Any]:
    return {
        "id": prediction.id,
        "label": prediction.label,
        "score": prediction.score,
        "scores": dict(zip(labels, prediction.scores, strict=True)),
    }


def _labelled(outcomes: Sequence[LabelOutcome]) -> dict[str, Any]:
    return {
        "stored": sum(outcome.status == "stored" for outcome in outcomes),
        "duplicates": sum(outcome.status == "duplicate" for outcome in outcomes),
        "errors": [
            {"index": index, "id": outcome.id, "message": outcome.message, "code": outcome.code}
            for index, outcome in enumerate(outcomes)
            if outcome.status == "error"
        ],
    }


def _models(service: Service) -> list[dict[str, Any]]:
    refusals = service.fleet.refusals()
    return [
        {
            "id": deployed.model,
            "object": "model",
            "created": int(deployed.manifest.created_at),
            "owned_by": "trueup",
            "version": deployed.version,
            "task": deployed.manifest.task,
            "labels": deployed.manifest.labels,
            "engine": deployed.engine.name,
            "refused": refusals[deployed.model].version if deployed.model in refusals else None,
        }
        for deployed in service.fleet.serving()
    ]


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    body = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Response(body, status, headers, media_type="application/json")


def _error(
    message: str, status: int, code: str, param: str | None = None, headers: dict[str, str] | None = None
) -> Response:
    kind = "invalid_request_error" if status < 500 else "server_error"
    content = {"message": message, "type": kind, "param": param, "code": code}
    return _json({"error": content}, status, headers)


async def _refused(request: Request, error: Exception) -> Response:  # noqa: ARG001
    assert isinstance(error, RequestError)
    headers = {"connection": "close"} if error.status == 413 else None  # the rest of the body is not read
    return _error(error.message, error.status, error.code, error.param, headers)


async def _failed(request: Request, error: Exception) -> Response:  # noqa: ARG001
    status, code, param = _ANSWERS.get(type(error), (500, "internal", None))
    headers = {"retry-after": "1"} if status in {429, 503} else None
    message = "The ledger cannot be written." if isinstance(error, LedgerWriteError) else str(error)
    return _error(message, status, code, param, headers)


async def _not_routed(request: Request, error: Exception) -> Response:  # noqa: ARG001
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    return _error(error.detail, error.status_code, code, None, dict(error.headers or {}))


async def _no_database(request: Request, error: Exception) -> Response:  # noqa: ARG001
    _log.error("database_failed", error=type(error).__name__)
    return _error("The database does not answer.", 503, "database_unavailable", None, {"retry-after": "1"})


async def _broken(request: Request, error: Exception) -> Response:  # noqa: ARG001
    return _error("Something unforeseen happened; the log has the cause.", 500, "internal")


class _Observed:
    """Counts and times requests, and gives each its x-request-id."""

    def __init__(self, app: ASGIApp, instruments: Instruments) -> None:
        self._app, self._instruments = app, instruments

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        started = time.perf_counter()
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            route = scope["path"] if scope["path"] in ROUTES else "other"
            self._instruments.requests.labels(route, status).inc()
            self._instruments.request_seconds.labels(route).observe(time.perf_counter() - started)


def _request_id(scope: Scope) -> bytes:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    if _REQUEST_ID.fullmatch(given.decode("latin-1")):
        return bytes(given)
    return uuid4().hex.encode()
