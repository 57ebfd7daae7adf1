"""OpenAI's protocol, as its official client speaks it: models, embeddings, chat (which classifies).

Source: types and resources of the package `openai` 3.54.0. Decisions have a module of their own.
"""

from __future__ import annotations

import math
import time
from base64 import b64encode
from typing import Any

import numpy as np

from exporter.deployed import Deployed
from exporter.errors import RequestError
from exporter.http import generation
from exporter.http.asgi import Answer, Call, Route, json_answer, to_json
from exporter.http.messages import MAX_MESSAGES, message_text, user_metadata
from exporter.http.terms import terms
from exporter.prediction import Prediction
from exporter.recording import Input
from exporter.requests import (
    MAX_MODEL_CHARACTERS,
    input_of,
    json_object,
    list_of,
    one_of,
    parse_json,
    text_of,
)
from exporter.service import Served, Service
from exporter.settings import ExporterSettings

MAX_TOP_LOGPROBS = 20  # OpenAI's; /v1/decisions has every probability
_MEANINGLESS = ("tools", "functions", "tool_choice", "audio", "prediction")  # a classifier cannot do these


def routes(service: Service, settings: ExporterSettings) -> list[Route]:
    async def models(call: Call) -> Answer:  # noqa: ARG001 (every handler is given the call)
        served = [_model(service, one) for one in service.fleet.serving()]
        return json_answer({"object": "list", "data": served})

    async def model(call: Call) -> Answer:
        return json_answer(_model(service, service.fleet.deployed(call.path["model"])))

    async def embeddings(call: Call) -> Answer:
        request = json_object(parse_json(await call.body()), None)
        name, inputs = _texts_to_embed(request, settings)
        form = one_of(request.get("encoding_format", "float"), "encoding_format", ("float", "base64"))
        served = await service.predict(name, inputs, terms(call))
        return json_answer(_embedded(served, form))

    async def chat(call: Call) -> Answer:
        request = json_object(parse_json(await call.body()), None)
        if service.generating.generates(text_of(request.get("model"), "model", MAX_MODEL_CHARACTERS)):
            return await generation.chat(service, settings, call, request)
        name, given = _conversation(request, settings)
        alternatives = _alternatives(request)
        served = await service.predict(name, [given], terms(call))
        content = _completion(served, alternatives, int(time.time()))
        if request.get("stream") is True:
            options = request.get("stream_options")
            usage = isinstance(options, dict) and options.get("include_usage") is True
            return Answer(_events(content, usage), media_type=b"text/event-stream")
        return json_answer(content)

    return [
        Route("GET", "/v1/models", models, ("ingest", "read")),
        Route("GET", "/v1/models/{model}", model, ("ingest", "read")),
        Route("POST", "/v1/embeddings", embeddings, ("ingest",)),
        Route("POST", "/v1/chat/completions", chat, ("ingest",)),
    ]


def last_user_message(given: Any, param: str, kind: str) -> tuple[str, str]:
    """(text, its name) of the last message whose role is user: what a classifier judges."""
    messages = list_of(given, param, MAX_MESSAGES)
    for number in range(len(messages) - 1, -1, -1):
        name = f"{param}[{number}]"
        if json_object(messages[number], name).get("role") == "user":
            return message_text(messages[number], name, kind), name
    raise RequestError(f"`{param}` has no message of the role user.", param)


def _model(service: Service, deployed: Deployed) -> dict[str, Any]:
    refused = service.fleet.refusals().get(deployed.model)
    return {
        "id": deployed.model,
        "object": "model",
        "created": int(deployed.manifest.created_at),
        "owned_by": "trueup",
        "shutdown_date": None,
        "version": deployed.version,
        "task": deployed.manifest.task,
        "labels": deployed.manifest.labels,
        "engine": deployed.engine.name,
        "loaded": deployed.loaded,
        "memory_bytes": deployed.memory_bytes,
        "refused": None if refused is None else refused.version,
    }


def _texts_to_embed(request: dict[str, Any], settings: ExporterSettings) -> tuple[str, list[Input]]:
    model = text_of(request.get("model"), "model", MAX_MODEL_CHARACTERS)
    if request.get("dimensions") is not None:
        raise RequestError(
            "The embedding has the encoder's own size, a part of it means nothing: leave `dimensions` out.",
            "dimensions",
        )
    given, shared = request.get("input"), user_metadata(request, ("user",))
    if isinstance(given, str):
        return model, [input_of(given, "input", shared, settings.max_characters)]
    texts = list_of(given, "input", settings.max_texts)
    if not all(isinstance(text, str) for text in texts):
        raise RequestError("`input` must be texts: a version has its own tokenizer.", "input")
    return model, [
        input_of(text, f"input[{number}]", shared, settings.max_characters)
        for number, text in enumerate(texts)
    ]


def _embedded(served: Served, form: str) -> dict[str, Any]:
    tokens = sum(one.tokens for one in served.predictions)
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": number, "embedding": _vector(one, form), "id": one.id}
            for number, one in enumerate(served.predictions)
        ],
        "model": served.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _vector(prediction: Prediction, form: str) -> str | list[float]:
    vector = np.frombuffer(prediction.embedding, dtype="<f2").astype("<f4")
    return b64encode(vector.tobytes()).decode() if form == "base64" else vector.tolist()


def _conversation(request: dict[str, Any], settings: ExporterSettings) -> tuple[str, Input]:
    model = text_of(request.get("model"), "model", MAX_MODEL_CHARACTERS)
    for name in _MEANINGLESS:
        if request.get(name):
            raise RequestError(f"{model!r} is a classifier: it answers with a label, without `{name}`.", name)
    if request.get("n") not in (None, 1):
        raise RequestError("A classifier has one answer: `n` must be 1.", "n")
    text, param = last_user_message(request.get("messages"), "messages", "text")
    metadata = user_metadata(request, ("user", "safety_identifier"))
    return model, input_of(text, param, metadata, settings.max_characters)


def _alternatives(request: dict[str, Any]) -> int | None:
    """How many `top_logprobs`; None where no logprobs are asked for."""
    wanted = request.get("top_logprobs") or 0
    if not isinstance(wanted, int) or not 0 <= wanted <= MAX_TOP_LOGPROBS:
        raise RequestError(f"top_logprobs must be 0 to {MAX_TOP_LOGPROBS}.", "top_logprobs")
    return wanted if request.get("logprobs") is True else None


def _completion(served: Served, alternatives: int | None, now: int) -> dict[str, Any]:
    (one,) = served.predictions
    message: dict[str, Any] = {
        "role": "assistant",
        "content": one.label,
        "refusal": None,
        "annotations": [],
    }
    logprobs = None if alternatives is None else _logprobs(served, alternatives)
    return {
        "id": one.id,
        "object": "chat.completion",
        "created": now,
        "model": served.model,
        "system_fingerprint": served.version,
        "choices": [{"index": 0, "finish_reason": "stop", "message": message, "logprobs": logprobs}],
        "usage": {
            "prompt_tokens": one.tokens,
            "completion_tokens": 1,
            "total_tokens": one.tokens + 1,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def _logprobs(served: Served, alternatives: int) -> dict[str, Any]:
    (one,) = served.predictions
    scores = sorted(zip(served.labels, one.scores, strict=True), key=lambda pair: -pair[1])
    top = [_logprob(label, score) for label, score in scores[:alternatives]]
    return {"content": [_logprob(one.label, one.score) | {"top_logprobs": top}], "refusal": None}


def _logprob(label: str, score: float) -> dict[str, Any]:
    least = -9999.0  # what OpenAI writes for a probability of 0
    return {
        "token": label,
        "bytes": list(label.encode()),
        "logprob": math.log(score) if score > 0 else least,
    }


def _events(completion: dict[str, Any], usage: bool) -> bytes:
    """Server-sent events: the label, the end, and the usage where it was asked for."""
    (choice,) = completion["choices"]
    shared = {key: completion[key] for key in ("id", "created", "model", "system_fingerprint")}
    shared["object"] = "chat.completion.chunk"
    said = {"role": "assistant", "content": choice["message"]["content"]}
    chunks = [
        [{"index": 0, "delta": said, "finish_reason": None, "logprobs": choice["logprobs"]}],
        [{"index": 0, "delta": {}, "finish_reason": "stop", "logprobs": None}],
    ]
    told = [shared | {"choices": chunk} | ({"usage": None} if usage else {}) for chunk in chunks]
    if usage:
        told.append(shared | {"choices": [], "usage": completion["usage"]})
    return b"".join(f"data: {to_json(one)}\n\n".encode() for one in told) + b"data: [DONE]\n\n"
