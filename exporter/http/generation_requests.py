"""Requests to language models, parsed by hand: what is not understood is refused, never ignored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from exporter.decoder_engine import DecoderEngine
from exporter.errors import RequestError
from exporter.generating.asked import Asked
from exporter.generating.guidance import MAX_SCHEMA_CHARACTERS
from exporter.generating.service import Prepare
from exporter.http.asgi import to_json
from exporter.http.messages import MAX_MESSAGES, message_text, user_metadata
from exporter.redact import storable
from exporter.requests import MAX_MODEL_CHARACTERS, json_object, list_of, text_of
from exporter.settings import ExporterSettings
from trainer.generation.transcript import transcript

ROLES = ("system", "developer", "user", "assistant")
MAX_STOPS, MAX_STOP_CHARACTERS = 4, 256
MAX_TEMPERATURE = 2.0
COMPLETION_TOKENS = 16  # of /v1/completions where nothing is asked, as OpenAI has it
_UNKNOWN = ("tools", "functions", "audio", "prediction", "logit_bias", "suffix", "echo", "logprobs")
_NEUTRAL: dict[str, Sequence[Any]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "tool_choice": (None, "none"),
    "modalities": (None, ["text"]),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A request's model, how its prompt is made, and the form of the answer."""

    model: str
    prepare: Prepare
    key: str  # by which a canary draws
    stream: bool
    usage: bool  # told at the end of a stream


def chat_request(request: dict[str, Any], settings: ExporterSettings) -> Wanted:
    """Of /v1/chat/completions. Raises RequestError."""
    messages = _messages(request.get("messages"), settings)
    shared = _shared(request, ("max_completion_tokens", "max_tokens"), None)
    shared["schema"] = _schema(request.get("response_format"))
    text = transcript([(one["role"], one["content"]) for one in messages])

    def prepare(engine: DecoderEngine) -> Asked:
        prompt = storable(engine.prompt(messages))
        return Asked(prompt=prompt, special=False, text=text, param="messages", **shared)

    return _wanted(request, prepare, shared["metadata"].get(settings.sticky_key) or text)


def completion_request(request: dict[str, Any], settings: ExporterSettings) -> Wanted:
    """Of /v1/completions: one text is continued. Raises RequestError."""
    given = request.get("prompt")
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if not isinstance(given, str) or not given:
        raise RequestError("`prompt` must be one text, not empty.", "prompt")
    text = _short(storable(given), "prompt", settings.max_characters)
    shared = _shared(request, ("max_tokens",), COMPLETION_TOKENS)

    def prepare(engine: DecoderEngine) -> Asked:  # noqa: ARG001 (a chat needs its template)
        return Asked(prompt=text, special=True, text=text, param="prompt", **shared)

    return _wanted(request, prepare, shared["metadata"].get(settings.sticky_key) or text)


def _wanted(request: dict[str, Any], prepare: Prepare, key: Any) -> Wanted:
    options = request.get("stream_options")
    return Wanted(
        model=text_of(request.get("model"), "model", MAX_MODEL_CHARACTERS),
        prepare=prepare,
        key=str(key),
        stream=request.get("stream") is True,
        usage=isinstance(options, dict) and options.get("include_usage") is True,
    )


def _shared(request: dict[str, Any], limits: Sequence[str], default: int | None) -> dict[str, Any]:
    for name in _UNKNOWN:
        if request.get(name) not in (None, False, [], {}):
            raise RequestError(f"This model is served without `{name}`: leave it out.", name)
    for name, allowed in _NEUTRAL.items():
        if request.get(name) not in allowed:
            raise RequestError(f"`{name}` can only be {allowed[-1]!r} here.", name)
    limit = next((name for name in limits if request.get(name) is not None), None)
    seed = request.get("seed")
    return {
        "metadata": user_metadata(request, ("user", "safety_identifier")),
        "max_tokens": default if limit is None else _whole(request[limit], limit, 1, 2**31),
        "temperature": _number(request, "temperature", MAX_TEMPERATURE),
        "top_p": _number(request, "top_p", 1.0),
        "seed": None if seed is None else _whole(seed, "seed", 0, 2**63 - 1),
        "stops": _stops(request.get("stop")),
    }


def _whole(value: Any, param: str, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise RequestError(f"{param} must be a whole number, {least} to {most}.", param)
    return value


def _number(request: dict[str, Any], param: str, most: float) -> float:
    value = request.get(param)
    if value is None:
        return 1.0
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise RequestError(f"{param} must be a number.", param)
    if not 0 <= value <= most:  # nor is NaN, or a whole number that no float can hold
        raise RequestError(f"{param} must be 0 to {most:g}.", param)
    return float(value)


def _stops(given: Any) -> tuple[str, ...]:
    if given is None:
        return ()
    stops = [given] if isinstance(given, str) else list_of(given, "stop", MAX_STOPS, 0)
    for stop in stops:
        if not isinstance(stop, str) or not 0 < len(stop) <= MAX_STOP_CHARACTERS:
            raise RequestError(f"stop strings must have 1 to {MAX_STOP_CHARACTERS} characters.", "stop")
    return tuple(stops)


def _schema(given: Any) -> str | None:
    """JSON schema of the answer, None for plain text."""
    if given is None:
        return None
    form = json_object(given, "response_format")
    kind = form.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return '{"type":"object"}'
    if kind != "json_schema":
        raise RequestError(
            "response_format.type must be text, json_object or json_schema.", "response_format"
        )
    described = json_object(form.get("json_schema"), "response_format.json_schema")
    schema = to_json(json_object(described.get("schema"), "response_format.json_schema.schema"))
    if len(schema) > MAX_SCHEMA_CHARACTERS:
        raise RequestError(f"The schema may have {MAX_SCHEMA_CHARACTERS} characters.", "response_format")
    return schema


def _messages(given: Any, settings: ExporterSettings) -> list[dict[str, str]]:
    messages = []
    for number, one in enumerate(list_of(given, "messages", MAX_MESSAGES)):
        param = f"messages[{number}]"
        role = json_object(one, param).get("role")
        if role not in ROLES:
            raise RequestError(f"{param}.role must be one of {', '.join(ROLES)}.", f"{param}.role")
        content = storable(message_text(one, param, "text"))
        messages.append({"role": "system" if role == "developer" else role, "content": content})
    _short("".join(one["content"] for one in messages), "messages", settings.max_characters)
    return messages


def _short(text: str, param: str, longest: int) -> str:
    if len(text) > longest:
        raise RequestError(f"`{param}` has {len(text)} characters; {longest} are allowed.", param)
    return text
