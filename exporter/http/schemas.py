"""JSON schemas of the requests and answers, as the OpenAPI document has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from exporter.http.generation_requests import MAX_STOP_CHARACTERS, MAX_STOPS, MAX_TEMPERATURE
from exporter.requests import (
    MAX_ID_CHARACTERS,
    MAX_LABEL_CHARACTERS,
    MAX_LABELS,
    MAX_METADATA,
    MAX_METADATA_CHARACTERS,
    MAX_MODEL_CHARACTERS,
    MAX_TRUTH_CHARACTERS,
)
from exporter.settings import ExporterSettings

Schema: TypeAlias = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}
SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
ANY_OBJECT: Schema = {"type": "object"}
MODEL: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_MODEL_CHARACTERS, "examples": ["router"]}


def schemas(settings: ExporterSettings) -> dict[str, Schema]:
    """Components by name."""
    text = {"type": "string", "maxLength": settings.max_characters, "examples": ["where is my card"]}
    return {
        **_native(text, settings.max_texts),
        **_openai(text, settings.max_texts),
        **_inference(),
        **_rest(),
    }


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _native(text: Schema, most: int) -> dict[str, Schema]:
    name = {"type": "string", "maxLength": MAX_METADATA_CHARACTERS}
    whole = {"type": "integer", "minimum": -(2**63) + 1, "maximum": 2**63 - 1}
    scalar = {"anyOf": [name, whole, NUMBER, {"type": "boolean"}, {"type": "null"}]}
    id_ = {"type": "string", "minLength": 1, "maxLength": MAX_ID_CHARACTERS}
    label = {"type": "string", "minLength": 1, "maxLength": MAX_TRUTH_CHARACTERS}
    truth = {"anyOf": [label, _list({"anyOf": [label, ANY_OBJECT]})]}  # a list where answers are lists
    with_metadata = _object({"text": text, "metadata": ref("Metadata")}, ["text"])
    return {
        "Metadata": {
            "type": ["object", "null"],
            "maxProperties": MAX_METADATA,
            "propertyNames": {"maxLength": MAX_METADATA_CHARACTERS},
            "additionalProperties": scalar,
            "description": "The client's own slices; its `user` is what a canary draws by.",
        },
        "PredictRequest": _object(
            {
                "model": MODEL,
                "inputs": _list({"anyOf": [text, with_metadata]}, 1, most),
                "metadata": ref("Metadata"),
            },
            ["model", "inputs"],
        ),
        "Predictions": _object(
            {
                "model": TEXT,
                "version": TEXT,
                "predictions": _list(
                    _object(
                        {
                            "id": TEXT,
                            "label": TEXT,
                            "labels": _list(TEXT),
                            "entities": _list(ANY_OBJECT),
                            "score": SHARE,
                            "scores": _map(SHARE),
                            "truncated": {"type": "boolean"},
                        },
                        ["id", "label", "score", "scores", "truncated"],
                    )
                ),
            },
            ["model", "version", "predictions"],
        ),
        "LabelsRequest": _object(
            {"labels": _list(_object({"id": id_, "label": truth}, ["id", "label"]), 1, MAX_LABELS)},
            ["labels"],
        ),
        "LabelOutcomes": _object(
            {
                "stored": COUNT,
                "new_labels": _list(ANY_OBJECT),
                "duplicates": COUNT,
                "errors": _list(ANY_OBJECT),
            },
            ["stored", "new_labels", "duplicates", "errors"],
        ),
    }


def _openai(text: Schema, most: int) -> dict[str, Schema]:
    role = {"enum": ["user", "assistant", "system", "developer", "tool", "function"]}
    message = _object({"role": role, "content": {"anyOf": [text, _list(ANY_OBJECT, 1)]}}, ["role", "content"])
    question = _object(
        {
            "type": {"enum": ["predicate", "choice", "score"]},
            "name": {"type": "string", "minLength": 1, "maxLength": MAX_LABEL_CHARACTERS},
            "instructions": TEXT,
            "choices": _list(_object({"value": TEXT, "description": TEXT}, ["value"]), 2, 255),
            "levels": _list(_object({"label": TEXT, "description": TEXT}, ["label"]), 2, 255),
        },
        ["type", "instructions"],
    )
    return {
        "Model": _object(
            {"id": TEXT, "object": {"const": "model"}, "created": COUNT, "owned_by": TEXT}, ["id"]
        ),
        "Models": _object({"object": {"const": "list"}, "data": _list(ref("Model"))}, ["object", "data"]),
        "DecisionRequest": _object(
            {
                "model": MODEL,
                "input": {"anyOf": [text, _list(message, 1)]},
                "questions": _list(question, 1, 400),
                "metadata": ref("Metadata"),
            },
            ["model", "input", "questions"],
        ),
        "Decision": _object({"model": TEXT, "answers": _list(ANY_OBJECT), "usage": ANY_OBJECT}, ["answers"]),
        "EmbeddingsRequest": _object(
            {
                "model": MODEL,
                "input": {"anyOf": [text, _list(text, 1, most)]},
                "encoding_format": {"enum": ["float", "base64"], "default": "float"},
            },
            ["model", "input"],
        ),
        "Embeddings": _object(
            {"object": {"const": "list"}, "data": _list(ANY_OBJECT), "model": TEXT, "usage": ANY_OBJECT},
            ["object", "data", "model", "usage"],
        ),
        "ChatRequest": _object(
            {
                "model": MODEL,
                "messages": _list(message, 1),
                **_generated(),
                "logprobs": {"type": "boolean"},
                "top_logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
                "stream": {"type": "boolean"},
                "user": {"type": "string", "minLength": 1, "maxLength": MAX_METADATA_CHARACTERS},
                "metadata": ref("Metadata"),
            },
            ["model", "messages"],
        ),
        "CompletionRequest": _object(
            {"model": MODEL, "prompt": text | {"minLength": 1}, **_generated()}, ["model", "prompt"]
        ),
        "ChatCompletion": _object({"id": TEXT, "object": TEXT, "choices": _list(ANY_OBJECT, 1)}, ["choices"]),
    }


def _generated() -> dict[str, Schema]:
    """What a language model is asked beside its prompt; classifiers pass over it."""
    stop = {"type": "string", "minLength": 1, "maxLength": MAX_STOP_CHARACTERS}
    return {
        "max_tokens": {"type": "integer", "minimum": 1},
        "temperature": {"type": "number", "minimum": 0, "maximum": MAX_TEMPERATURE},
        "top_p": SHARE,
        "seed": {"type": "integer", "minimum": 0},
        "stop": {"anyOf": [stop, _list(stop, 0, MAX_STOPS), {"type": "null"}]},
        "response_format": ANY_OBJECT,
        "stream": {"type": "boolean"},
    }


def _inference() -> dict[str, Schema]:
    shape = _list({"type": "integer"}, 1, 2)
    tensor = _object(
        {
            "name": {"const": "text"},
            "datatype": {"const": "BYTES"},
            "shape": shape,
            "data": _list({}),
            "parameters": ANY_OBJECT,
        },
        ["name", "datatype", "shape"],
    )
    wanted = _object(
        {"name": {"enum": ["id", "label", "score", "scores", "embedding"]}, "parameters": ANY_OBJECT},
        ["name"],
    )
    return {
        "InferenceRequest": _object(
            {
                "id": {"type": "string", "minLength": 1, "maxLength": MAX_ID_CHARACTERS},
                "inputs": _list(tensor, 1, 1),
                "outputs": _list(wanted, 1, 5),
                "parameters": _object(
                    {"binary_data_output": {"type": "boolean"}, "metadata": ref("Metadata")}
                ),
            },
            ["inputs"],
        ),
        "Inference": _object(
            {"model_name": TEXT, "model_version": TEXT, "outputs": _list(ANY_OBJECT, 1)},
            ["model_name", "outputs"],
        ),
        "InferenceError": _object(
            {"error": TEXT, "type": TEXT, "param": {"type": ["string", "null"]}, "code": TEXT}, ["error"]
        ),
    }


def _rest() -> dict[str, Schema]:
    error = _object(
        {"message": TEXT, "type": TEXT, "param": {"type": ["string", "null"]}, "code": TEXT},
        ["message", "type", "param", "code"],
    )
    return {"Error": _object({"error": error}, ["error"]), "Object": ANY_OBJECT}


def _object(properties: dict[str, Schema], required: Sequence[str] = ()) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


def _list(items: Schema, least: int = 0, most: int | None = None) -> Schema:
    return {"type": "array", "items": items, "minItems": least} | ({} if most is None else {"maxItems": most})


def _map(values: Schema) -> Schema:
    return {"type": "object", "additionalProperties": values}
