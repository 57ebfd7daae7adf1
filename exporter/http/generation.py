"""Text of language models over OpenAI's protocol, whole or as server-sent events.

Source: types of the package `openai` 3.54.0. `id` is the prediction's id, `system_fingerprint` the version.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Literal

from exporter.errors import ExporterError
from exporter.generating.service import Speech
from exporter.generating.turn import Done
from exporter.generation import Generation
from exporter.http.asgi import Answer, Call, Route, json_answer, to_json
from exporter.http.generation_requests import Wanted, chat_request, completion_request
from exporter.http.refusals import refusal
from exporter.http.terms import terms
from exporter.requests import json_object, parse_json
from exporter.service import Service
from exporter.settings import ExporterSettings

Kind = Literal["chat", "completion"]
EVENT_STREAM = b"text/event-stream"
_NO_BUFFER = ((b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no"))  # proxies would gather it


def routes(service: Service, settings: ExporterSettings) -> list[Route]:
    async def completions(call: Call) -> Answer:
        request = json_object(parse_json(await call.body()), None)
        return await _answer(service, call, completion_request(request, settings), "completion")

    return [Route("POST", "/v1/completions", completions, ("ingest",))]


async def chat(service: Service, settings: ExporterSettings, call: Call, request: dict[str, Any]) -> Answer:
    """The answer of a language model to a chat."""
    return await _answer(service, call, chat_request(request, settings), "chat")


async def _answer(service: Service, call: Call, wanted: Wanted, kind: Kind) -> Answer:
    speech = await service.generating.ask(wanted.model, wanted.prepare, wanted.key, terms(call))
    form = _Form(kind, speech.id, wanted.model, speech.version, int(time.time()))
    try:
        first = await speech.next()  # what fails before it is told with its status
        if wanted.stream:
            events = _events(speech, first, form, usage=wanted.usage, request_id=call.id)
            return Answer(b"", headers=_NO_BUFFER, media_type=EVENT_STREAM, stream=events)
        while isinstance(first, str):
            first = await speech.next()
    except BaseException:
        speech.leave()
        raise
    return json_answer(form.whole(first))


async def _events(
    speech: Speech, event: str | Done, form: _Form, *, usage: bool, request_id: str
) -> AsyncGenerator[bytes]:
    try:
        yield form.begin(usage=usage)
        while isinstance(event, str):
            yield form.piece(event, usage=usage)
            event = await speech.next()
        yield form.end(event, usage=usage)
    except ExporterError as error:  # the status has been told: the stream says what happened
        yield b"data: " + refusal(error, "object", request_id).body + b"\n\n"
    finally:
        speech.leave()


@dataclass(frozen=True, slots=True)
class _Form:
    """One answer's JSON."""

    kind: Kind
    id: str
    model: str
    version: str
    created: int

    def whole(self, done: Done) -> dict[str, Any]:
        choice: dict[str, Any] = {
            "index": 0,
            "finish_reason": done.generation.finish_reason,
            "logprobs": None,
        }
        if self.kind == "chat":
            said: dict[str, Any] = {
                "role": "assistant",
                "content": done.text,
                "refusal": None,
                "annotations": [],
            }
            return self._shared("chat.completion") | {
                "choices": [choice | {"message": said}],
                "usage": _usage(done.generation),
            }
        return self._shared("text_completion") | {
            "choices": [choice | {"text": done.text}],
            "usage": _usage(done.generation),
        }

    def begin(self, *, usage: bool) -> bytes:
        """The role, which a chat's stream begins with."""
        if self.kind != "chat":
            return b""
        return self._chunk({"role": "assistant", "content": ""}, None, usage=usage)

    def piece(self, text: str, *, usage: bool) -> bytes:
        return self._chunk({"content": text} if self.kind == "chat" else text, None, usage=usage)

    def end(self, done: Done, *, usage: bool) -> bytes:
        reason = done.generation.finish_reason
        last = self._chunk({} if self.kind == "chat" else "", reason, usage=usage)
        if usage:
            told = self._shared(self._object) | {"choices": [], "usage": _usage(done.generation)}
            last += _event(told)
        return last + b"data: [DONE]\n\n"

    @property
    def _object(self) -> str:
        return "chat.completion.chunk" if self.kind == "chat" else "text_completion"

    def _chunk(self, said: dict[str, str] | str, reason: str | None, *, usage: bool) -> bytes:
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason, "logprobs": None}
        choice["delta" if self.kind == "chat" else "text"] = said
        none = {"usage": None} if usage else {}
        return _event(self._shared(self._object) | {"choices": [choice]} | none)

    def _shared(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.version,
        }


def _event(content: dict[str, Any]) -> bytes:
    return f"data: {to_json(content)}\n\n".encode()


def _usage(generation: Generation) -> dict[str, Any]:
    prompt, completion = generation.prompt_tokens, generation.completion_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
