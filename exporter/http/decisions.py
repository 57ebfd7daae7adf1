"""OpenAI's /v1/decisions: typed questions, answered with the probabilities of a trained classifier.

The text is judged once; each question looks at a part of the labels, whose probabilities are scaled to sum
to 1 (the softmax of those labels alone). `instructions` and descriptions cannot change what was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from exporter.errors import RequestError
from exporter.http.asgi import Answer, Call, Route, json_answer
from exporter.http.messages import user_metadata
from exporter.http.openai import last_user_message
from exporter.http.terms import terms
from exporter.recording import Input
from exporter.requests import (
    MAX_LABEL_CHARACTERS,
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

MAX_QUESTIONS = 400
MAX_CHOICES = 255
_TRUE, _FALSE = {"true", "yes", "1", "positive"}, {"false", "no", "0", "negative"}

Scores: TypeAlias = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Question:
    kind: str
    name: str | None
    answer: Callable[[Scores], dict[str, Any] | None]  # None: nothing can be said


def routes(service: Service, settings: ExporterSettings) -> list[Route]:
    async def decide(call: Call) -> Answer:
        request = json_object(parse_json(await call.body()), None)
        model = text_of(request.get("model"), "model", MAX_MODEL_CHARACTERS)
        labels = service.fleet.deployed(model).engine.labels
        questions = parse_questions(request.get("questions"), labels)
        served = await service.predict(model, [_text(request, settings)], terms(call))
        id_ = served.predictions[0].id.encode()  # the protocol has no place for it
        return json_answer(decided(served, questions), headers=((b"x-prediction-id", id_),))

    return [Route("POST", "/v1/decisions", decide, ("ingest",))]


def parse_questions(given: Any, labels: Sequence[str]) -> list[Question]:
    """Raises RequestError that names the question at fault."""
    return [
        _question(json_object(one, f"questions[{number}]"), f"questions[{number}]", labels)
        for number, one in enumerate(list_of(given, "questions", MAX_QUESTIONS))
    ]


def decided(served: Served, questions: Sequence[Question]) -> dict[str, Any]:
    (prediction,) = served.predictions
    scores = dict(zip(served.labels, prediction.scores, strict=True))
    return {
        "model": served.model,
        "answers": [_answered(question, scores) for question in questions],
        "usage": {
            "input_tokens": prediction.tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prediction.tokens,
        },
    }


def share(scores: Scores, labels: Sequence[str]) -> list[float] | None:
    """Probabilities of `labels` if it must be one of them; None where none of them has any.

    >>> share({"a": 0.1, "b": 0.3, "c": 0.6}, ["b", "a"])
    [0.75, 0.25]
    """
    found = [scores.get(label, 0.0) for label in labels]
    total = sum(found)
    return [round(one / total, 7) for one in found] if total > 0 else None


def _text(request: dict[str, Any], settings: ExporterSettings) -> Input:
    given, param = request.get("input"), "input"
    if not isinstance(given, str):
        given, param = last_user_message(given, "input", "input_text")
    return input_of(given, param, user_metadata(request, ("safety_identifier",)), settings.max_characters)


def _question(given: dict[str, Any], param: str, labels: Sequence[str]) -> Question:
    kind = one_of(given.get("type"), f"{param}.type", tuple(_KINDS))
    name = given.get("name")
    if name is not None:
        name = text_of(name, f"{param}.name", MAX_LABEL_CHARACTERS)
    return Question(kind, name, _KINDS[kind](given, param, labels))


def _answered(question: Question, scores: Scores) -> dict[str, Any]:
    found = question.answer(scores)
    if found is None:
        return {"type": "refusal", "name": question.name}
    return {"type": question.kind, "name": question.name, **found}


def _predicate(
    given: dict[str, Any], param: str, labels: Sequence[str]
) -> Callable[[Scores], dict[str, Any] | None]:
    label = given.get("name") if given.get("name") in labels else _true_label(labels)
    if label is None:
        raise RequestError(
            "Name the predicate after one of the model's labels, or ask a `choice`: which label would be "
            f"true is not known. {_known(labels)}",
            f"{param}.name",
        )
    return lambda scores: {"probability": scores.get(label, 0.0)}


def _choice(
    given: dict[str, Any], param: str, labels: Sequence[str]
) -> Callable[[Scores], dict[str, Any] | None]:
    values = _of_model(given, f"{param}.choices", "value", labels)

    def answer(scores: Scores) -> dict[str, Any] | None:
        found = share(scores, values)
        if found is None:
            return None
        best = max(range(len(values)), key=found.__getitem__)
        pairs = zip(values, found, strict=True)
        return {
            "choice": values[best],
            "confidence": found[best],
            "probabilities": [{"value": value, "probability": one} for value, one in pairs],
        }

    return answer


def _score(
    given: dict[str, Any], param: str, labels: Sequence[str]
) -> Callable[[Scores], dict[str, Any] | None]:
    levels = _of_model(given, f"{param}.levels", "label", labels)

    def answer(scores: Scores) -> dict[str, Any] | None:
        found = share(scores, levels)
        if found is None:
            return None
        told = [
            {"label": label, "value": value, "probability": one}
            for value, (label, one) in enumerate(zip(levels, found, strict=True))
        ]
        mean = sum(value * one for value, one in enumerate(found))
        return {"score": round(mean, 7), "confidence": max(found), "probabilities": told}

    return answer


_KINDS = {"predicate": _predicate, "choice": _choice, "score": _score}


def _of_model(given: dict[str, Any], param: str, key: str, labels: Sequence[str]) -> list[str]:
    """What is asked for: labels of the model, each once."""
    options = list_of(given.get(param.rpartition(".")[2]), param, MAX_CHOICES, least=2)
    asked = [json_object(one, f"{param}[{number}]").get(key) for number, one in enumerate(options)]
    texts = [one for one in asked if isinstance(one, str) and one in labels]
    if len(texts) < len(asked):
        raise RequestError(f"{param} must be labels of the model. {_known(labels)}", param)
    if len(set(texts)) < len(texts):
        raise RequestError(f"{param} has a label twice.", param)
    return texts


def _true_label(labels: Sequence[str]) -> str | None:
    """Which of two labels says yes."""
    by_meaning = {label.lower(): label for label in labels}
    true, false = by_meaning.keys() & _TRUE, by_meaning.keys() & _FALSE
    return by_meaning[true.pop()] if len(labels) == 2 and len(true) == len(false) == 1 else None


def _known(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:20])
    return f"It has {shown}{' and more' if len(labels) > 20 else ''}."
