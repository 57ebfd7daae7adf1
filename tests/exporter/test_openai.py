"""OpenAI's protocol, spoken by OpenAI's own client."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from openai import OpenAI

from tests.exporter.stored import labelled

TEXT = "where is my card"
LABELS = ["yes", "no", "maybe"]


@pytest.fixture(scope="module")
def client(serving: tuple[str, Path]) -> Iterator[OpenAI]:
    with OpenAI(api_key="none", base_url=f"{serving[0]}/v1", timeout=20) as made:
        yield made


def native(url: str, text: str = TEXT) -> dict[str, float]:
    answer = httpx.post(f"{url}/v1/predict", json={"model": "router", "inputs": [text]})
    scores: dict[str, float] = answer.json()["predictions"][0]["scores"]
    return scores


def choice(*values: object, **rest: object) -> Any:
    choices = [{"value": value} for value in values]
    return {"type": "choice", "instructions": "Which?", "choices": choices} | rest


def chat(client: OpenAI, **rest: Any) -> Any:
    messages: Any = [{"role": "system", "content": "Classify."}, {"role": "user", "content": TEXT}]
    return client.chat.completions.create(model="router", messages=messages, **rest)


def test_models_are_listed_once_and_found_by_name(client: OpenAI) -> None:
    (listed,) = list(client.models.list())
    assert (listed.id, listed.object, listed.owned_by) == ("router", "model", "trueup")
    assert client.models.retrieve("router") == listed


@pytest.mark.parametrize("name", ["nobody", "org/model", "ft:base:org:x:1", "a b", "é"])
def test_a_model_that_is_not_there_is_not_found_whatever_its_name(client: OpenAI, name: str) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve(name)
    assert refused.value.code == "model_not_found"
    assert repr(name) in refused.value.message


def test_an_error_has_message_code_param_and_request_id(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.decisions.create(model="router", input=TEXT, questions=[choice("yes", "purple")])
    error = refused.value
    assert (error.code, error.param, error.type) == (
        "invalid_request", "questions[0].choices", "invalid_request_error",
    )  # fmt: skip
    assert "yes, no, maybe" in error.message
    assert error.request_id is not None
    assert len(error.request_id) == 32


def test_a_choice_has_the_shares_of_its_labels_alone(serving: tuple[str, Path], client: OpenAI) -> None:
    scores = native(serving[0])
    questions = [choice(*LABELS, name="all"), choice("maybe", "no")]
    whole, part = client.decisions.create(model="router", input=TEXT, questions=questions).answers
    assert whole.type == part.type == "choice"
    assert (whole.name, part.name) == ("all", None)
    assert {one.value: one.probability for one in whole.probabilities} == pytest.approx(scores, abs=1e-6)
    assert whole.choice == max(scores, key=scores.__getitem__)
    total = scores["maybe"] + scores["no"]
    assert [one.value for one in part.probabilities] == ["maybe", "no"]
    assert part.probabilities[0].probability == pytest.approx(scores["maybe"] / total, abs=1e-6)
    assert part.confidence == max(one.probability for one in part.probabilities)


def test_predicates_and_scores_are_answered_in_order(serving: tuple[str, Path], client: OpenAI) -> None:
    scores = native(serving[0])
    levels = [{"label": label} for label in ("no", "maybe", "yes")]
    questions: Any = [
        {"type": "score", "instructions": "How sure?", "levels": levels},
        {"type": "predicate", "instructions": "Is it?", "name": "maybe"},
    ]
    score, predicate = client.decisions.create(model="router", input=TEXT, questions=questions).answers
    assert score.type == "score"
    assert score.score == pytest.approx(scores["maybe"] + 2 * scores["yes"], abs=1e-5)
    assert [one.value for one in score.probabilities] == [0, 1, 2]
    assert predicate.type == "predicate"
    assert predicate.probability == scores["maybe"]


@pytest.mark.parametrize(
    ("question", "param"),
    [
        (choice("yes", True), "questions[0].choices"),
        (choice("yes", "yes"), "questions[0].choices"),
        (choice("yes"), "questions[0].choices"),
        (choice("yes", "no", name=3), "questions[0].name"),
        ({"type": "predicate", "instructions": "Is it good?"}, "questions[0].name"),
        ({"type": "score", "instructions": "", "levels": [{"label": "no"}]}, "questions[0].levels"),
        ({"type": "essay"}, "questions[0].type"),
        ("yes?", "questions[0]"),
    ],
)  # fmt: skip
def test_a_question_that_cannot_be_answered_is_named(client: OpenAI, question: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.decisions.create(model="router", input=TEXT, questions=[question])
    assert refused.value.param == param


def test_a_conversation_is_judged_by_its_last_user_message(serving: tuple[str, Path], client: OpenAI) -> None:
    part = {"type": "input_text", "text": TEXT}
    conversation: Any = [
        {"role": "user", "content": "hello"},
        {"role": "user", "content": [part]},
        {"role": "assistant", "content": "fine"},
    ]
    (answer,) = client.decisions.create(
        model="router", input=conversation, questions=[choice(*LABELS)]
    ).answers
    assert answer.type == "choice"
    assert answer.confidence == pytest.approx(max(native(serving[0]).values()), abs=1e-6)
    image: Any = [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]
    with pytest.raises(openai.BadRequestError) as refused:
        client.decisions.create(model="router", input=image, questions=[choice(*LABELS)])
    assert refused.value.param == "input[0].content[0]"


def test_embeddings_are_base64_by_default_and_equal_to_the_floats(client: OpenAI) -> None:
    packed = client.embeddings.create(model="router", input=[TEXT, "help"])
    plain = client.embeddings.create(model="router", input=[TEXT, "help"], encoding_format="float")
    assert [one.index for one in packed.data] == [0, 1]
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding)
        assert np.linalg.norm(one.embedding) == pytest.approx(1.0, abs=1e-3)
    assert packed.usage.total_tokens == packed.usage.prompt_tokens > 0
    raw = client.post("/embeddings", body={"model": "router", "input": TEXT}, cast_to=object)
    assert isinstance(raw, dict)
    assert isinstance(raw["data"][0]["embedding"], list)


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        ({"input": TEXT, "dimensions": 4}, "dimensions"),
        ({"input": [1, 2, 3]}, "input"),
        ({"input": [[1, 2]]}, "input"),
        ({"input": []}, "input"),
    ],
)
def test_what_embeddings_cannot_do_is_refused_by_name(client: OpenAI, request_: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model="router", **request_)
    assert refused.value.param == param


def test_a_chat_is_answered_with_label_and_logprobs(serving: tuple[str, Path], client: OpenAI) -> None:
    scores = native(serving[0])
    answer = chat(client, logprobs=True, top_logprobs=2)
    best = max(scores, key=scores.__getitem__)
    (said,) = answer.choices
    assert (said.message.content, said.finish_reason, answer.system_fingerprint) == (best, "stop", "v1")
    assert said.logprobs.content[0].logprob == pytest.approx(math.log(scores[best]), abs=1e-5)
    assert len(said.logprobs.content[0].top_logprobs) == 2
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 1
    assert chat(client).choices[0].logprobs is None


@pytest.mark.parametrize("usage", [False, True])
def test_a_stream_has_a_usage_chunk_only_where_it_is_asked_for(client: OpenAI, usage: bool) -> None:
    options = {"stream_options": {"include_usage": True}} if usage else {}
    chunks = list(chat(client, stream=True, **options))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text in LABELS
    assert [bool(chunk.choices) for chunk in chunks] == [True, True, *([False] if usage else [])]
    assert chunks[1].choices[0].finish_reason == "stop"
    assert (chunks[-1].usage is not None) == usage


@pytest.mark.parametrize(
    ("rest", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"n": 2}, "n"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"metadata": {"a": {"b": "c"}}}, "metadata"),
    ],
)
def test_what_a_chat_cannot_do_is_refused_by_name(client: OpenAI, rest: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, **rest)
    assert refused.value.param == param


def test_every_answer_has_an_id_that_takes_a_label(serving: tuple[str, Path], client: OpenAI) -> None:
    url, home = serving
    completion = chat(client, metadata={"tenant": "a"}, user="u1")
    assert labelled(url, home, completion.id)["metadata"] == {"tenant": "a", "user": "u1"}
    embedded = client.embeddings.create(model="router", input=TEXT)
    assert labelled(url, home, embedded.data[0].model_extra["id"])["text"] == TEXT  # type: ignore[index]
    decided = client.decisions.with_raw_response.create(
        model="router", input=TEXT, questions=[choice(*LABELS)]
    )
    assert labelled(url, home, decided.headers["x-prediction-id"])["text"] == TEXT
