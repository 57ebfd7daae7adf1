"""The application itself, given any bytes at all: never a 500, never an answer out of form."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine
from sqlalchemy.pool import StaticPool

from exporter.access import Access
from exporter.errors import BusyError, EngineFailedError, ExporterError, RequestError
from exporter.http import application
from exporter.http.asgi import BODIES, Bodies
from exporter.http.native import MOST_LABELLING
from exporter.http.refusals import refusal
from exporter.instruments import Instruments
from exporter.labels import LabelOutcome
from exporter.settings import ExporterSettings
from exporter.tables import metadata
from tests.benchmarks.http_layer import OneModel, ReadyService

GOOD: dict[str, tuple[str, Any]] = {  # path -> (the list within, a request that is answered)
    "/v1/predict": ("inputs", {"model": "router", "inputs": [{"text": "x"}]}),
    "/v1/labels": ("labels", {"labels": [{"id": "p1", "label": "yes"}]}),
    "/v1/decisions": (
        "questions",
        {
            "model": "router",
            "input": "x",
            "questions": [{"type": "choice", "choices": [{"value": "yes"}, {"value": "no"}]}],
        },
    ),
    "/v1/embeddings": ("input", {"model": "router", "input": ["x"]}),
    "/v1/chat/completions": ("messages", {"model": "router", "messages": [{"role": "user", "content": "x"}]}),
    "/v2/models/router/infer": (
        "inputs",
        {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["x"]}]},
    ),
}
POSTS = list(GOOD)
SCALAR = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[]))
)
NAMES = st.sampled_from(
    ["model", "inputs", "input", "text", "labels", "id", "label", "metadata", "questions", "type", "choices",
     "levels", "value", "name", "messages", "role", "content", "logprobs", "top_logprobs", "stream", "user",
     "stream_options", "outputs", "shape", "data", "datatype", "parameters", "binary_data_size", "dimensions"]
)  # fmt: skip
WORDS = st.sampled_from(
    ["router", "yes", "no", "user", "choice", "score", "predicate", "text", "BYTES", "base64"]
)
JSON = st.recursive(
    SCALAR | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(), inner, max_size=6),
    max_leaves=20,
)


class Ready(ReadyService):
    def __init__(self) -> None:
        super().__init__()
        self.fleet = OneModel()

    def problems(self) -> list[str]:
        return []


@pytest.fixture(scope="module")
def app() -> Any:
    return application_of(lambda rows: [])


def application_of(record: Any) -> Any:
    db: Engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    metadata.create_all(db)
    access = Access(db, local=True)
    access.refresh()
    service: Any = Ready()
    return application(service, record, ExporterSettings(), Instruments(), access)


def ask(app: Any, path: str, pieces: list[bytes], headers: Mapping[bytes, bytes] = {}) -> tuple[int, bytes]:
    return asyncio.run(answered(app, "POST", path, pieces, headers))


async def answered(
    app: Any, method: str, path: str, pieces: list[bytes], headers: Mapping[bytes, bytes] = {}
) -> tuple[int, bytes]:
    sent: list[Mapping[str, Any]] = []
    waiting = [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces) - 1}
        for number, piece in enumerate(pieces)
    ]

    async def receive() -> Mapping[str, Any]:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    raw = path.encode()
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": raw,
        "headers": list(headers.items()),
    }
    await app(scope, receive, send)
    start, body = sent
    assert dict(start["headers"])[b"content-length"] == str(len(body["body"])).encode()
    return start["status"], body["body"]


@pytest.mark.parametrize("path", POSTS)
def test_a_good_request_is_answered(app: Any, path: str) -> None:
    assert ask(app, path, [json.dumps(GOOD[path][1]).encode()])[0] == 200


CHANGES = st.dictionaries(NAMES, JSON, max_size=2)


@given(path=st.sampled_from(POSTS), whole=CHANGES | JSON, inner=CHANGES)
def test_any_json_is_answered_or_refused_in_form(app: Any, path: str, whole: Any, inner: Any) -> None:
    name, good = GOOD[path]
    first = good[name][0] | inner if isinstance(good[name][0], dict) else good[name][0]
    request = good | {name: [first]} | whole if isinstance(whole, dict) else whole
    status, body = ask(app, path, [json.dumps(request).encode()])
    assert status in {200, 400, 404}
    content = json.loads(body) if status != 200 else {}
    assert status == 200 or isinstance(content["error"], str if path.startswith("/v2") else dict)


@given(
    path=st.sampled_from(POSTS) | st.text(),
    pieces=st.lists(st.binary(), min_size=1, max_size=4),
    length=st.none() | st.binary(max_size=8) | st.integers(0, 40).map(lambda value: str(value).encode()),
)
def test_any_bytes_are_answered_or_refused(
    app: Any, path: str, pieces: list[bytes], length: bytes | None
) -> None:
    headers = {} if length is None else {b"inference-header-content-length": length}
    assert ask(app, path.encode("utf-8", "replace").decode(), pieces, headers)[0] in {200, 400, 404, 405}


def test_labels_that_wait_for_the_database_hold_up_nothing_else_and_are_bounded() -> None:
    let, labels = threading.Event(), [json.dumps(GOOD["/v1/labels"][1]).encode()]

    def record(_: object) -> list[LabelOutcome]:
        assert let.wait(20)
        return []

    async def scene() -> tuple[int, list[int]]:
        app = application_of(record)
        posts = [
            asyncio.create_task(answered(app, "POST", "/v1/labels", labels))
            for _ in range(2 * MOST_LABELLING)
        ]
        async with asyncio.timeout(10):
            await asyncio.sleep(0.05)
            ready, _ = await answered(app, "GET", "/readyz", [b""])
        let.set()
        return ready, [status for status, _ in await asyncio.gather(*posts)]

    try:
        ready, posted = asyncio.run(scene())
    finally:
        let.set()
    assert ready == 200
    assert sorted(set(posted)) == [200, 503]
    assert posted.count(200) == MOST_LABELLING


def test_bodies_on_their_way_are_bounded_together_and_let_go() -> None:
    bodies, never = Bodies(100), asyncio.Event()

    async def half(sent: list[int]) -> Mapping[str, Any]:
        if sent:
            await never.wait()
        sent.append(1)
        return {"type": "http.request", "body": b"x" * 100, "more_body": True}

    async def run() -> None:
        reading = [asyncio.create_task(_read(bodies, half)) for _ in range(BODIES)]
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await _read(bodies, half)
        for one in reading:
            one.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        with pytest.raises(RequestError, match="100 bytes"):
            await bodies.read({}, _whole(b"x" * 101))
        assert await bodies.read({}, _whole(b"x" * 100)) == b"x" * 100

    asyncio.run(run())


async def _read(bodies: Bodies, half: Any) -> bytes:
    sent: list[int] = []
    return await bodies.read({}, lambda: half(sent))


def _whole(body: bytes) -> Any:
    async def receive() -> Mapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


@pytest.mark.parametrize("error", [ValueError("secret"), EngineFailedError("m", "v1"), ExporterError("x")])
def test_a_failure_says_nothing_internal_and_tells_openais_client_not_to_repeat_it(error: Exception) -> None:
    answer = refusal(error, "object", "r1")
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert (b"x-should-retry", b"false") in answer.headers
