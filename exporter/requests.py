"""Request bodies, parsed by hand: every way to be wrong is a RequestError that names the part at fault.

The functions that other protocols share take the value and `param`, its name in the body.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isfinite
from typing import Any, NoReturn

from exporter.errors import RequestError
from exporter.prediction import Metadata
from exporter.recording import Input
from exporter.redact import storable
from exporter.settings import ExporterSettings

MAX_LABELS = 10_000
MAX_MODEL_CHARACTERS = 256
MAX_METADATA = 16
MAX_METADATA_CHARACTERS = 256
MAX_ID_CHARACTERS = 128
MAX_LABEL_CHARACTERS = 1024  # of a class
MAX_TRUTH_CHARACTERS = 32_768  # of a label: the right answer of a language model may be long


def parse_predict(body: bytes, settings: ExporterSettings) -> tuple[str, list[Input]]:
    """(model, inputs) of {"model", "inputs": [text or {"text", "metadata"}], "metadata"?}."""
    request = json_object(parse_json(body), None)
    model = text_of(request.get("model"), "model", MAX_MODEL_CHARACTERS)
    given = list_of(request.get("inputs"), "inputs", settings.max_texts)
    shared = metadata_of(request.get("metadata"), "metadata")
    return model, [
        input_of(item, f"inputs[{number}]", shared, settings.max_characters)
        for number, item in enumerate(given)
    ]


def parse_labels(body: bytes) -> list[tuple[str, str]]:
    """(prediction id, label) rows of {"labels": [{"id", "label"}]}."""
    given = list_of(json_object(parse_json(body), None).get("labels"), "labels", MAX_LABELS)
    return [_label(item, f"labels[{number}]") for number, item in enumerate(given)]


def parse_json(body: bytes) -> Any:
    """Strict JSON: UTF-8, no NaN, no Infinity."""
    try:
        return _decode(body.decode())
    except UnicodeDecodeError as error:
        raise RequestError(
            f"The body is not UTF-8 (byte {error.start}).", None, code="invalid_json"
        ) from error
    except RecursionError as error:
        raise RequestError("The JSON is nested too deeply.", None, code="invalid_json") from error
    except ValueError as error:
        raise RequestError(f"The body is not JSON ({_where(error)}).", None, code="invalid_json") from error


def list_of(value: Any, param: str, longest: int, least: int = 1) -> list[Any]:
    if not isinstance(value, list) or len(value) < least:
        raise RequestError(f"`{param}` must be a list of at least {least}.", param)
    if len(value) > longest:
        raise RequestError(f"`{param}` may hold {longest}, not {len(value)}.", param)
    return value


def one_of(value: Any, param: str, allowed: Sequence[str]) -> str:
    if value not in allowed or not isinstance(value, str):
        raise RequestError(f"{param} must be one of {', '.join(allowed)}.", param)
    return value


def _where(error: ValueError) -> str:
    """Without the body's own words, which an error message must not repeat."""
    if isinstance(error, json.JSONDecodeError):
        return f"line {error.lineno}, column {error.colno}"
    return "a number is out of range"


def _refuse_constant(name: str) -> NoReturn:
    raise RequestError(f"{name} is not JSON.", None, code="invalid_json")


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode


def json_object(value: Any, param: str | None) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RequestError(f"{param or 'The body'} must be a JSON object.", param)
    return value


def input_of(item: Any, param: str, shared: Metadata, max_characters: int) -> Input:
    metadata = shared
    if isinstance(item, dict):
        metadata = shared | metadata_of(item.get("metadata"), f"{param}.metadata")
        param, item = f"{param}.text", item.get("text")
    if not isinstance(item, str):
        raise RequestError(f"{param} must be a text.", param)
    if len(item) > max_characters:
        raise RequestError(f"{param} has {len(item)} characters; {max_characters} are allowed.", param)
    return Input(storable(item), metadata)


def metadata_of(value: Any, param: str) -> Metadata:
    if value is None:
        return {}
    given = json_object(value, param)
    if len(given) > MAX_METADATA:
        raise RequestError(f"{param} may hold {MAX_METADATA} entries, not {len(given)}.", param)
    return {_short(name, param): _slice(item, param) for name, item in given.items()}


def _slice(value: Any, param: str) -> str | float | int | bool | None:
    if isinstance(value, str):
        return _short(value, param)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 1 << 63:
        return value
    if isinstance(value, float) and isfinite(value):
        return value
    raise RequestError(f"{param} may hold texts, numbers, true, false and null.", param)


def _short(value: str, param: str) -> str:
    if len(value) > MAX_METADATA_CHARACTERS:
        raise RequestError(f"{param}: names and texts may have {MAX_METADATA_CHARACTERS} characters.", param)
    return storable(value)


def _label(item: Any, param: str) -> tuple[str, str]:
    row = json_object(item, param)
    return (
        text_of(row.get("id"), f"{param}.id", MAX_ID_CHARACTERS),
        text_of(_spelled(row.get("label")), f"{param}.label", MAX_TRUTH_CHARACTERS),
    )


def _spelled(label: Any) -> Any:
    """A list as the text that stands for it; its model's task says whether it is one (see labels.py)."""
    return json.dumps(label, ensure_ascii=False) if isinstance(label, list) else label


def text_of(value: Any, param: str, longest: int) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise RequestError(f"{param} must be a text of 1 to {longest} characters.", param)
    return storable(value)
