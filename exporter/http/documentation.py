"""/openapi.json, and /docs: a page that draws it with nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.http.asgi import Answer, Call, Route, to_json
from exporter.http.schemas import Schema, ref, schemas
from exporter.settings import ExporterSettings

STATIC = Path(__file__).parent / "static"
_FILES = {"/docs": "docs.html", "/docs/docs.css": "docs.css", "/docs/docs.js": "docs.js"}
_SAFE = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


@dataclass(frozen=True, slots=True)
class _Described:
    summary: str
    answer: str | None = None  # a schema's name; None: no JSON
    request: str | None = None
    media_type: str = "application/json"
    text: str = ""
    failure: str = ""  # where a 5XX is no error but an answer


_IDS = "The prediction's id is in the header x-prediction-id."
_OPERATIONS = {
    "POST /v1/predict": _Described("Classify texts", "Predictions", "PredictRequest"),
    "POST /v1/labels": _Described(
        "Send the truth of earlier predictions", "LabelOutcomes", "LabelsRequest",
        text="Rows that cannot be stored are listed in `errors`; the others are stored. "
        "Those whose label is new to the model are in `new_labels`, too.",
    ),
    "GET /v1/models": _Described("List the models that serve", "Models"),
    "GET /v1/models/{model}": _Described("One model", "Model"),
    "POST /v1/decisions": _Described(
        "Answer typed questions about a text", "Decision", "DecisionRequest",
        text="Choices and levels are labels of the model. " + _IDS,
    ),
    "POST /v1/embeddings": _Described(
        "Pooled embeddings of the model's encoder", "Embeddings", "EmbeddingsRequest",
        text="They are recorded as predictions. Each item has its `id`.",
    ),
    "POST /v1/chat/completions": _Described(
        "Answer a chat, or classify its last user message", "ChatCompletion", "ChatRequest",
        text="A language model generates, a classifier answers with its label. `id` is the prediction's id. "
        "With `stream` the answer comes as server-sent events.",
    ),
    "POST /v1/completions": _Described(
        "Continue a text", "ChatCompletion", "CompletionRequest",
        text="Of language models. `id` is the prediction's id. With `stream` as server-sent events.",
    ),
    "GET /v2": _Described("The server, in the Open Inference Protocol", "Object"),
    "GET /v2/health/live": _Described("Alive?"),
    "GET /v2/health/ready": _Described("Ready?", "Object", failure="Object"),
    "GET /healthz": _Described("Alive?", "Object"),
    "GET /readyz": _Described("Ready? 503 where no model is", "Object", failure="Object"),
    "GET /metrics": _Described("Prometheus metrics", media_type="text/plain", text="Or metrics_token."),
    "GET /openapi.json": _Described("This document", "Object"),
    "GET /docs": _Described("This document, for people", media_type="text/html"),
    "GET /docs/docs.css": _Described("Its style", media_type="text/css"),
    "GET /docs/docs.js": _Described("Its script", media_type="text/javascript"),
} | {
    f"{method} {path}{rest}": described
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
    for method, rest, described in (
        ("GET", "", _Described("The model's tensors", "Object")),
        ("GET", "/ready", _Described("Does it serve?")),
        (
            "POST", "/infer",
            _Described(
                "Classify texts", "Inference", "InferenceRequest",
                text="With Triton's binary tensor data. The output `id` holds the predictions' ids.",
            ),
        ),
    )
}  # fmt: skip


def routes(others: Sequence[Route], settings: ExporterSettings) -> list[Route]:
    """Routes of the document about `others` and these."""

    async def openapi(call: Call) -> Answer:  # noqa: ARG001 (every handler is given the call)
        return Answer(document)

    own = [Route("GET", "/openapi.json", openapi), *(_file(*pair) for pair in _FILES.items())]
    document = to_json(openapi_document([*others, *own], settings)).encode()
    return own


def openapi_document(routes: Sequence[Route], settings: ExporterSettings) -> dict[str, Any]:
    """OpenAPI 3.1 of `routes`; KeyError for a route that nobody described."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        described = _OPERATIONS[f"{route.method} {route.path}"]
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, described)
    return {
        "openapi": "3.1.0",
        "info": {"title": "trueup exporter", "version": "1", "description": "Serves and records."},
        "paths": paths,
        "components": {
            "schemas": schemas(settings),
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`trueup keys create`; not asked for on loopback before the first key.",
                }
            },
        },
    }


def _operation(route: Route, described: _Described) -> dict[str, Any]:
    refused = _json(ref("InferenceError" if route.errors == "text" else "Error"))
    failed = _json(ref(described.failure)) if described.failure else refused
    text = f"{described.text} Needs the role {' or '.join(route.needs)}." if route.needs else described.text
    found: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{route.method.lower()}{route.path}").strip("_"),
        "summary": described.summary,
        "description": text.strip(),
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in re.findall(r"{(\w+)}", route.path)
        ],
        "responses": {
            "200": _ok(described),
            "4XX": {"description": "Refused, with the part at fault.", "content": refused},
            "5XX": {"description": "Failed; Retry-After where it may pass.", "content": failed},
        },
    }
    if described.request is not None:
        found["requestBody"] = {"required": True, "content": _json(ref(described.request))}
    if route.needs:
        found["security"] = [{"key": []}]
    return found


def _ok(described: _Described) -> dict[str, Any]:
    if described.answer is not None:
        return {"description": "Answered.", "content": _json(ref(described.answer))}
    if described.media_type == "application/json":
        return {"description": "Yes."}
    return {"description": "Answered.", "content": {described.media_type: {"schema": {"type": "string"}}}}


def _json(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _file(path: str, name: str) -> Route:
    body = (STATIC / name).read_bytes()
    media_type = f"{_OPERATIONS[f'GET {path}'].media_type}; charset=utf-8".encode()

    async def file(call: Call) -> Answer:  # noqa: ARG001
        return Answer(body, headers=_SAFE, media_type=media_type)

    return Route("GET", path, file)
