from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from exporter.database import open_database, sqlite_url
from exporter.tables import metadata, predictions
from tests.exporter.conftest import deploy
from tests.exporter.exporter_process import exporter_process
from tests.exporter.versions import build_version

LIMITS: dict[str, Any] = {"queue_limit": 3, "max_texts": 4, "max_characters": 50, "max_body_bytes": 5000}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Path]]:
    """A client of a running exporter with narrow limits, and its home."""
    home = tmp_path_factory.mktemp("home")
    db = open_database(sqlite_url(home))
    metadata.create_all(db)
    deploy(db, home, build_version(home / "built"))
    db.dispose()
    with exporter_process(home, **LIMITS) as (_, url), httpx.Client(base_url=url, timeout=20) as client:
        yield client, home


@pytest.fixture
def client(served: tuple[httpx.Client, Path]) -> httpx.Client:
    return served[0]


def ask(client: httpx.Client, *inputs: object, **rest: object) -> httpx.Response:
    # Not by httpx: it refuses to send lone surrogates.
    body = json.dumps({"model": "router", "inputs": list(inputs)} | rest)
    return client.post("/v1/predict", content=body)


def stored(home: Path, row: str) -> dict[str, Any]:
    db = open_database(sqlite_url(home))
    with db.connect() as connection:
        found = connection.execute(select(predictions).where(predictions.c.id == row)).mappings().one()
    db.dispose()
    return dict(found)


def test_a_prediction_has_an_id_a_label_and_all_scores(client: httpx.Client) -> None:
    answer = ask(client, "where is my card", {"text": "help"})
    assert answer.status_code == 200
    content = answer.json()
    assert (content["model"], content["version"]) == ("router", "v1")
    first, second = content["predictions"]
    assert first["id"] != second["id"]
    assert set(first["scores"]) == {"yes", "no", "maybe"}
    assert first["score"] == first["scores"][first["label"]] == max(first["scores"].values())


def test_a_client_may_say_how_long_it_waits(client: httpx.Client) -> None:
    body = {"model": "router", "inputs": ["where is my card"]}
    for given, status in (("60000", 200), ("0", 400), ("soon", 400), ("1.5", 400), ("-1", 400)):
        answer = client.post("/v1/predict", json=body, headers={"x-timeout-ms": given})
        assert answer.status_code == status, given
    assert answer.json()["error"]["param"] == "x-timeout-ms"


def test_models_tell_what_they_take(client: httpx.Client) -> None:
    (model,) = client.get("/v1/models").json()["data"]
    assert model["loaded"]
    assert model["memory_bytes"] > 0


def test_a_prediction_is_stored_with_its_metadata_and_without_personal_numbers(
    served: tuple[httpx.Client, Path],
) -> None:
    client, home = served
    given = {"text": "mail a@b.org", "metadata": {"region": "eu"}}
    row = ask(client, given, metadata={"tier": 2}).json()["predictions"][0]
    assert (
        client.post("/v1/labels", json={"labels": [{"id": row["id"], "label": "no"}]}).json()["stored"] == 1
    )
    kept = stored(home, row["id"])
    assert (kept["text"], kept["metadata"]) == ("mail [email]", {"tier": 2, "region": "eu"})
    assert (kept["label"], kept["score"]) == (row["label"], row["score"])
    assert kept["scores"] == list(row["scores"].values())


BAD = [
    (b"{", None),
    (b"", None),
    (b"[]", None),
    (b"nonsense", None),
    (b'{"model": "router", "inputs": ["\xff"]}', None),
    (b"[" * 4000, None),
    (b'{"model": "router", "inputs": [NaN]}', None),
    (b'{"model": "router", "inputs": [' + b"9" * 4400 + b"]}", None),
    (b'{"inputs": ["x"]}', "model"),
    (b'{"model": 3, "inputs": ["x"]}', "model"),
    (b'{"model": "router"}', "inputs"),
    (b'{"model": "router", "inputs": []}', "inputs"),
    (b'{"model": "router", "inputs": "x"}', "inputs"),
    (b'{"model": "router", "inputs": ["x", 3]}', "inputs[1]"),
    (b'{"model": "router", "inputs": [{"text": null}]}', "inputs[0].text"),
    (b'{"model": "router", "inputs": ["x", "' + b"y" * 51 + b'"]}', "inputs[1]"),
    (b'{"model": "router", "inputs": ["x", "x", "x", "x", "x"]}', "inputs"),
    (b'{"model": "router", "inputs": ["x"], "metadata": []}', "metadata"),
    (b'{"model": "router", "inputs": ["x"], "metadata": {"a": 1e999}}', "metadata"),
    (b'{"model": "router", "inputs": [{"text": "x", "metadata": {"a": {}}}]}', "inputs[0].metadata"),
]


@pytest.mark.parametrize(("body", "param"), BAD, ids=range(len(BAD)))
def test_a_bad_body_is_400_and_names_the_part_at_fault(
    client: httpx.Client, body: bytes, param: str | None
) -> None:
    answer = client.post("/v1/predict", content=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


def test_more_texts_than_may_wait_are_429_with_a_time_to_come_back(client: httpx.Client) -> None:
    answer = ask(client, "a", "b", "c", "d")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert answer.json()["error"]["code"] == "queue_full"


def test_an_unknown_model_is_404(client: httpx.Client) -> None:
    answer = ask(client, "x", model="nobody")
    assert answer.status_code == 404
    assert (answer.json()["error"]["param"], answer.json()["error"]["code"]) == ("model", "model_not_found")


def test_a_body_over_the_limit_is_413_declared_or_not(client: httpx.Client) -> None:
    assert client.post("/v1/predict", content=b" " * 5001).status_code == 413
    assert client.post("/v1/predict", content=iter([b" " * 3000] * 2)).status_code == 413
    assert ask(client, "still here").status_code == 200


def test_a_repeated_key_counts_by_its_last_value(client: httpx.Client) -> None:
    body = b'{"model": "nobody", "model": "router", "inputs": ["x"]}'
    assert client.post("/v1/predict", content=body).status_code == 200


def test_lone_surrogates_and_nul_are_answered_and_stored_as_replacement(
    served: tuple[httpx.Client, Path],
) -> None:
    client, home = served
    answer = ask(client, "a\ud800b\x00", metadata={"k\udfff": "\x00"})
    assert answer.status_code == 200
    row = answer.json()["predictions"][0]["id"]
    client.post("/v1/labels", json={"labels": [{"id": row, "label": "no"}]})
    kept = stored(home, row)
    assert (kept["text"], kept["metadata"]) == ("a\ufffdb\ufffd", {"k\ufffd": "\ufffd"})


def test_labels_are_reported_per_row(client: httpx.Client) -> None:
    first, second, third = (row["id"] for row in ask(client, "x", "y", "z").json()["predictions"])
    rows = [
        {"id": first, "label": "yes"},
        {"id": "nobody", "label": "yes"},
        {"id": second, "label": " purple"},
        {"id": first, "label": "yes"},
        {"id": first, "label": "no"},
        {"id": third, "label": "purple"},
    ]
    answer = client.post("/v1/labels", json={"labels": rows})
    assert answer.status_code == 200
    content = answer.json()
    assert (content["stored"], content["duplicates"]) == (2, 1)
    assert [(new["index"], new["id"]) for new in content["new_labels"]] == [(5, third)]
    assert [(error["index"], error["id"], error["code"]) for error in content["errors"]] == [
        (1, "nobody", "unknown_id"),
        (2, second, "unknown_label"),
        (4, first, "conflict"),
    ]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "labels"),
        ({"labels": []}, "labels"),
        ({"labels": ["x"]}, "labels[0]"),
        ({"labels": [{"id": 3, "label": "yes"}]}, "labels[0].id"),
        ({"labels": [{"id": "x"}]}, "labels[0].label"),
    ],
)
def test_malformed_labels_are_400(client: httpx.Client, body: object, param: str) -> None:
    answer = client.post("/v1/labels", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_wrong_paths_and_methods_answer_in_the_same_form(client: httpx.Client) -> None:
    assert client.get("/nowhere").json()["error"]["code"] == "not_found"
    answer = client.get("/v1/predict")
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


def test_every_answer_has_a_request_id_and_a_given_one_is_kept(client: httpx.Client) -> None:
    assert len(client.get("/healthz").headers["x-request-id"]) == 32
    given = {"x-request-id": "abc-1"}
    assert client.get("/nowhere", headers=given).headers["x-request-id"] == "abc-1"
    assert (
        client.get("/healthz", headers={"x-request-id": "a b<script>"}).headers["x-request-id"]
        != "a b<script>"
    )


def test_health_readiness_models_and_metrics(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready", "models": {"router": "v1"}}
    (model,) = client.get("/v1/models").json()["data"]
    assert (model["id"], model["version"], model["labels"]) == ("router", "v1", ["yes", "no", "maybe"])
    ask(client, "x")
    metrics = client.get("/metrics").text
    assert 'trueup_predictions_total{model="router",version="v1"}' in metrics
    assert 'trueup_requests_total{route="/v1/predict",status="200"}' in metrics
    assert 'route="other",status="404"' in metrics
    assert "_created" not in metrics


def test_http_is_imported_without_any_heavy_library() -> None:
    heavy = ["onnxruntime", "torch", "onnx", "transformers", "pandas"]
    code = f"import sys, exporter.http, exporter.server; print([n for n in {heavy} if n in sys.modules])"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
