"""Language models over HTTP, spoken to by OpenAI's own client, and what is recorded of them."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from sqlalchemy import Engine, select

from exporter.database import open_database, sqlite_url
from exporter.forgetting import forget
from exporter.registry import promote, register
from exporter.tables import generations, metadata, predictions
from tests.decoders import CONTEXT
from tests.exporter.exporter_process import exporter_process
from tests.exporter.versions import build_version

HELLO: Any = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def writing(tiny_decoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """(URL, home) of an exporter that serves the language model "writer" beside the classifier "router"."""
    home = tmp_path_factory.mktemp("home")
    db = open_database(sqlite_url(home))
    metadata.create_all(db)
    for model, folder in (("writer", tiny_decoder), ("router", build_version(home / "built"))):
        version = register(db, home, folder, threads=1, now=1.7e9)
        assert promote(db, model, version, expected=None, reason="test", actor="test")
    db.dispose()
    with exporter_process(home) as (_, url):
        yield url, home


@pytest.fixture(scope="module")
def client(writing: tuple[str, Path]) -> Iterator[OpenAI]:
    with OpenAI(api_key="none", base_url=f"{writing[0]}/v1", timeout=60, max_retries=0) as made:
        yield made


def chat(client: OpenAI, messages: Any = HELLO, **rest: Any) -> Any:
    given = {"temperature": 0, "max_tokens": 12} | rest
    return client.chat.completions.create(model="writer", messages=messages, **given)


def rows(home: Path, id_: str) -> tuple[Any, Any]:
    """The prediction and the generation of an id, once they are loaded."""
    db = open_database(sqlite_url(home))
    found: tuple[Any, Any] = (None, None)
    deadline = time.monotonic() + 20
    while None in found and time.monotonic() < deadline:
        time.sleep(0.05)
        with db.connect() as connection:
            found = (
                connection.execute(select(predictions).where(predictions.c.id == id_)).one_or_none(),
                connection.execute(
                    select(generations).where(generations.c.prediction_id == id_)
                ).one_or_none(),
            )
    db.dispose()
    assert None not in found
    return found


def test_an_answer_is_whole_counted_and_recorded(writing: tuple[str, Path], client: OpenAI) -> None:
    answer = chat(client)
    (choice,) = answer.choices
    assert (choice.finish_reason, choice.message.role) == ("length", "assistant")
    assert choice.message.content
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
    prediction, generation = rows(writing[1], answer.id)
    assert (prediction.model, prediction.version, prediction.text) == ("writer", "v1", "Hello")
    assert (prediction.label, prediction.tokens) == ("length", answer.usage.prompt_tokens)
    assert generation.answer == choice.message.content
    assert (generation.prompt_tokens, generation.completion_tokens) == (prediction.tokens, 12)
    assert generation.min_logprob <= generation.mean_logprob <= 0
    assert 0 < prediction.score <= 1
    assert generation.first_token_ms > 0
    assert generation.tokens_per_s > 0
    assert (generation.temperature, generation.top_p, generation.guided) == (0.0, 1.0, False)


def test_a_stream_says_what_the_whole_answer_says(client: OpenAI) -> None:
    whole = chat(client).choices[0].message.content
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(one.choices[0].delta.content or "" for one in chunks if one.choices) == whole
    assert [one.choices[0].finish_reason for one in chunks if one.choices][-1] == "length"
    assert chunks[-1].usage.completion_tokens == 12
    assert len({one.id for one in chunks}) == 1


def test_a_stream_is_in_the_database_though_nothing_is_asked_after_it(
    writing: tuple[str, Path], client: OpenAI
) -> None:
    chunks = list(chat(client, stream=True))
    _, generation = rows(writing[1], chunks[0].id)
    assert generation.finish_reason == "length"


def test_completions_continue_a_text(client: OpenAI) -> None:
    whole = client.completions.create(model="writer", prompt="where is", temperature=0)
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (len("where is"), 16)
    chunks = client.completions.create(model="writer", prompt=["where is"], temperature=0, stream=True)
    assert "".join(one.choices[0].text for one in chunks) == whole.choices[0].text


def test_a_seed_repeats_an_answer_and_is_recorded_where_none_was_given(
    writing: tuple[str, Path], client: OpenAI
) -> None:
    def said(**rest: Any) -> Any:
        return chat(client, temperature=1, top_p=0.9, **rest)

    drawn = said()
    _, generation = rows(writing[1], drawn.id)
    again = said(seed=generation.seed).choices[0].message.content
    assert again == drawn.choices[0].message.content
    assert len({said(seed=seed).choices[0].message.content for seed in range(4)}) > 1


def test_an_answer_does_not_depend_on_those_beside_it(client: OpenAI) -> None:
    def said(number: int) -> str:
        messages = [{"role": "user", "content": "word " * (1 + number % 7)}]
        content = chat(client, messages, seed=number, temperature=0.8, max_tokens=8 + number % 9)
        return str(content.choices[0].message.content)

    alone = [said(number) for number in range(24)]
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(said, range(24))) == alone


def test_a_stop_string_ends_the_answer_wherever_its_tokens_end(client: OpenAI) -> None:
    whole = chat(client, max_tokens=40).choices[0].message.content
    stop = whole[5:8]  # byte tokens: it lies in several of them
    first = whole.find(stop)
    stopped = chat(client, max_tokens=40, stop=[stop, "never said"]).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == (whole[:first], "stop")
    chunks = chat(client, max_tokens=40, stop=stop, stream=True)
    assert "".join(one.choices[0].delta.content or "" for one in chunks) == whole[:first]


def test_a_schema_is_obeyed(writing: tuple[str, Path], client: OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"desk": {"enum": ["cards", "loans"]}, "urgent": {"type": "boolean"}},
        "required": ["desk", "urgent"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "desk", "schema": schema, "strict": True}}
    answer = chat(client, response_format=form, max_tokens=200, seed=1, temperature=0.7)
    found = json.loads(answer.choices[0].message.content)
    assert answer.choices[0].finish_reason == "stop"
    assert found["desk"] in ("cards", "loans")
    assert isinstance(found["urgent"], bool)
    assert rows(writing[1], answer.id)[1].guided is True


REFUSED: list[tuple[dict[str, Any], str | None, str]] = [
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role", "system, developer, user"),
    ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, "messages[0].role", "must be"),
    ({"messages": []}, "messages", "at least 1"),
    ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "without `tools`"),
    ({"stop": ["fine", ""]}, "stop", "1 to 256 characters"),
    ({"temperature": 3}, "temperature", "0 to 2"),
    ({"temperature": 10**400}, "temperature", "0 to 2"),  # which no float can hold
    ({"top_p": -0.1}, "top_p", "0 to 1"),
    ({"max_tokens": 0}, "max_tokens", "whole number"),
    ({"n": 2}, "n", "only be 1"),
    ({"seed": -1}, "seed", "whole number"),
    ({"response_format": {"type": "xml"}}, "response_format", "json_schema"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nope"}}}},
        "response_format",
        "Invalid type: nope",
    ),
]


@pytest.mark.parametrize(("given", "param", "told"), REFUSED, ids=[str(one[1]) for one in REFUSED])
def test_what_cannot_be_done_is_refused_with_its_name(
    client: OpenAI, given: dict[str, Any], param: str, told: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, **given)
    assert refused.value.param == param
    assert told in refused.value.message


def test_a_prompt_longer_than_the_context_is_refused_with_the_numbers(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model="writer", prompt="x" * 250, max_tokens=10)
    assert refused.value.code == "context_length_exceeded"
    for number in (str(CONTEXT), "250", "10", "260"):
        assert number in refused.value.message
    with pytest.raises(openai.BadRequestError, match=f"{CONTEXT} tokens"):
        client.completions.create(model="writer", prompt="x" * 300)


def test_an_answer_may_fill_the_context_to_its_last_token(client: OpenAI) -> None:
    answer = client.completions.create(model="writer", prompt="x" * 250, max_tokens=6, temperature=0)
    assert answer.usage is not None
    assert answer.usage.total_tokens <= CONTEXT


def test_a_model_is_asked_for_what_it_does(writing: tuple[str, Path], client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="is a classifier"):
        client.completions.create(model="router", prompt="x")
    label = client.chat.completions.create(model="router", messages=HELLO).choices[0].message.content
    assert label in ("yes", "no", "maybe")
    for path, body in (
        ("/v1/predict", {"model": "writer", "inputs": ["x"]}),
        ("/v1/embeddings", {"model": "writer", "input": "x"}),
    ):
        refused = httpx.post(writing[0] + path, json=body)
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "wrong_task"
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="nobody", prompt="x")


def test_a_client_that_leaves_is_recorded_as_such(writing: tuple[str, Path]) -> None:
    url, home = writing
    body = {"model": "writer", "prompt": "y" * 20, "max_tokens": 230, "stream": True, "user": "leaver"}
    with httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=30) as answer:
        line = next(line for line in answer.iter_lines() if line.startswith("data: "))
    prediction, generation = rows(home, json.loads(line[6:])["id"])
    # It may have ended before the exporter heard of it: 230 tokens of this model are a quarter of a second.
    assert prediction.label == generation.finish_reason
    assert generation.finish_reason in ("cancelled", "length", "stop")
    assert httpx.get(f"{url}/healthz").status_code == 200


def test_a_client_that_leaves_the_queue_is_never_answered(writing: tuple[str, Path]) -> None:
    url, home = writing
    long = {"model": "writer", "prompt": "busy", "max_tokens": 60, "temperature": 2}
    at_once = 300  # a long queue, and all of it within the deadline on a slow machine
    http = httpx.Client(base_url=url, timeout=60, limits=httpx.Limits(max_connections=at_once))
    with http, ThreadPoolExecutor(at_once) as pool:
        busy = [pool.submit(http.post, "/v1/completions", json=long) for _ in range(at_once)]
        next(as_completed(busy))
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/v1/completions", json=long | {"prompt": "impatient"}, timeout=0.05)
        ids = [one.result().json()["id"] for one in busy]
    rows(home, max(ids))
    db = open_database(sqlite_url(home))
    with db.connect() as connection:
        assert connection.scalar(select(predictions.c.id).where(predictions.c.text == "impatient")) is None
    db.dispose()


def test_requests_of_many_connections_all_finish_alike(writing: tuple[str, Path]) -> None:
    body = {"model": "writer", "prompt": "ask", "max_tokens": 4, "temperature": 0}
    made = httpx.Client(base_url=writing[0], timeout=60, limits=httpx.Limits(max_connections=100))
    with made as http, ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda _: http.post("/v1/completions", json=body), range(300)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["choices"][0]["text"] for answer in answers}) == 1
    assert len({answer.json()["id"] for answer in answers}) == 300


def test_a_model_without_a_chat_template_says_so(
    tiny_decoder: Path, tmp_path: Path, sqlite_db: Engine
) -> None:
    folder = Path(shutil.copytree(tiny_decoder, tmp_path / "bare"))
    (folder / "chat_template.jinja").unlink()
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"]["chat_template.jinja"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    version = register(sqlite_db, tmp_path, folder, threads=1, now=1.7e9)
    assert promote(sqlite_db, "writer", version, expected=None, reason="test", actor="test")
    with exporter_process(tmp_path) as (_, url):
        body = {"model": "writer", "messages": HELLO}
        refused = httpx.post(f"{url}/v1/chat/completions", json=body)
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "no_chat_template"
        assert httpx.post(f"{url}/v1/completions", json={"model": "writer", "prompt": "x"}).status_code == 200


def test_whoever_is_forgotten_takes_the_answers_along(writing: tuple[str, Path], client: OpenAI) -> None:
    answer = client.completions.create(model="writer", prompt="my name is Ann", user="ann", temperature=0)
    rows(writing[1], answer.id)
    db = open_database(sqlite_url(writing[1]))
    assert forget(db, "user", "ann", actor="test").prediction_ids == [answer.id]
    with db.connect() as connection:
        left = select(generations.c.prediction_id).where(generations.c.prediction_id == answer.id)
        assert connection.scalar(left) is None
    db.dispose()
