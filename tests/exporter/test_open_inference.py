"""The Open Inference Protocol, spoken by Triton's own client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException

from tests.exporter.stored import labelled

TEXTS = ["where is my card", "é help"]


@pytest.fixture(scope="module")
def client(serving: tuple[str, Path]) -> Iterator[Any]:
    made = triton.InferenceServerClient(serving[0].removeprefix("http://"))
    yield made
    made.close()


def tensor(texts: list[str], *, binary: bool = True, shape: tuple[int, ...] | None = None) -> Any:
    values = np.array([text.encode() for text in texts], dtype=np.object_).reshape(shape or (len(texts),))
    made = triton.InferInput("text", list(values.shape), "BYTES")
    made.set_data_from_numpy(values, binary_data=binary)
    return made


def native(url: str) -> list[dict[str, Any]]:
    answer = httpx.post(f"{url}/v1/predict", json={"model": "router", "inputs": TEXTS})
    found: list[dict[str, Any]] = answer.json()["predictions"]
    return found


def test_the_server_is_alive_and_ready_and_describes_its_models(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("router")
    assert client.is_model_ready("router", "v1")
    assert not client.is_model_ready("nobody")
    assert client.get_server_metadata()["name"] == "trueup"
    described = client.get_model_metadata("router")
    assert described["versions"] == ["v1"]
    assert described["parameters"]["labels"] == ["yes", "no", "maybe"]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_texts_are_answered_in_json_and_in_binary_as_natively(
    serving: tuple[str, Path], client: Any, binary_in: bool, binary_out: bool | None
) -> None:
    names = ["label", "scores", "id", "embedding"]
    outputs = [triton.InferRequestedOutput(name, binary_data=bool(binary_out)) for name in names]
    answer = client.infer(
        "router", [tensor(TEXTS, binary=binary_in)], outputs=None if binary_out is None else outputs
    )
    wanted = native(serving[0])
    labels = [one.decode() if isinstance(one, bytes) else one for one in answer.as_numpy("label")]
    assert labels == [one["label"] for one in wanted]
    scores = answer.as_numpy("scores")
    assert scores == pytest.approx(np.array([list(one["scores"].values()) for one in wanted]), abs=1e-6)
    assert scores.shape == (2, 3)
    if binary_out is not None:
        assert np.linalg.norm(answer.as_numpy("embedding"), axis=1) == pytest.approx(1.0, abs=1e-3)


def test_a_column_is_as_good_as_a_row_and_the_request_id_comes_back(client: Any) -> None:
    answer = client.infer("router", [tensor(TEXTS, shape=(2, 1))], request_id="r1", model_version="v1")
    assert answer.get_response()["id"] == "r1"
    assert answer.as_numpy("score").shape == (2,)


def test_the_ids_take_labels(serving: tuple[str, Path], client: Any) -> None:
    url, home = serving
    ids = client.infer("router", [tensor(TEXTS)], parameters={"metadata": {"tenant": "a"}}).as_numpy("id")
    row = labelled(url, home, ids[1].decode())
    assert (row["text"], row["metadata"]) == (TEXTS[1], {"tenant": "a"})


def test_refusals_are_texts_that_the_client_can_show(client: Any) -> None:
    wrong = triton.InferInput("tokens", [1], "BYTES")
    wrong.set_data_from_numpy(np.array([b"x"], dtype=np.object_))
    with pytest.raises(InferenceServerException) as refused:
        client.infer("router", [wrong])
    assert str(refused.value) == "[400] inputs[0].name must be one of text."
    with pytest.raises(InferenceServerException, match="nobody"):
        client.infer("nobody", [tensor(TEXTS)])
    with pytest.raises(InferenceServerException, match="router v9"):
        client.infer("router", [tensor(TEXTS)], model_version="v9")
    with pytest.raises(InferenceServerException, match="Compressed"):
        client.infer("router", [tensor(TEXTS)], request_compression_algorithm="gzip")


def infer(url: str, content: bytes, **headers: str) -> httpx.Response:
    return httpx.post(f"{url}/v2/models/router/infer", content=content, headers=headers)


HEAD = (
    b'{"inputs":[{"name":"text","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":5}}],'
    b'"outputs":[{"name":"label"}]}'
)


@pytest.mark.parametrize(
    ("binary", "length"),
    [
        (b"\x01\0\0\0", str(len(HEAD))),
        (b"\xff\xff\xff\xffx", str(len(HEAD))),
        (b"\x01\0\0\0\xff", str(len(HEAD))),
        (b"\x01\0\0\0xy", str(len(HEAD))),
        (b"\x01\0\0\0x", "9" * 30),
        (b"\x01\0\0\0x", "0" * 5000),
        (b"\x01\0\0\0x", "-1"),
        (b"\x01\0\0\0x", "5"),
    ],
)
def test_a_wrong_binary_tensor_is_400(serving: tuple[str, Path], binary: bytes, length: str) -> None:
    answer = infer(serving[0], HEAD + binary, **{"inference-header-content-length": length})
    assert answer.status_code == 400
    assert isinstance(answer.json()["error"], str)


def test_a_binary_tensor_that_fits_is_answered(serving: tuple[str, Path]) -> None:
    answer = infer(serving[0], HEAD + b"\x01\0\0\0x", **{"inference-header-content-length": str(len(HEAD))})
    assert answer.status_code == 200
    assert answer.json()["outputs"][0]["data"][0] in ("yes", "no", "maybe")


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"shape": [2]}, "inputs[0].shape"),
        ({"shape": [1, 1, 1]}, "inputs[0].shape"),
        ({"shape": "1"}, "inputs[0].shape"),
        ({"datatype": "FP32"}, "inputs[0].datatype"),
        ({"data": "x"}, "inputs[0].data"),
        ({"data": [3]}, "inputs[0].data[0]"),
        ({"data": [["x", "y"]]}, "inputs[0].data[0]"),
    ],
)
def test_a_json_tensor_that_does_not_fit_is_named(serving: tuple[str, Path], change: Any, param: str) -> None:
    given = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["x"]} | change
    answer = httpx.post(f"{serving[0]}/v2/models/router/infer", json={"inputs": [given]})
    assert (answer.status_code, answer.json()["param"]) == (400, param)


def test_a_bad_request_id_is_refused_before_anything_is_predicted(serving: tuple[str, Path]) -> None:
    def predicted() -> list[str]:
        lines = httpx.get(f"{serving[0]}/metrics").text.splitlines()
        return [line for line in lines if line.startswith("trueup_predictions_total{")]

    given = {"name": "text", "datatype": "BYTES", "shape": [1], "data": ["x"]}
    httpx.post(f"{serving[0]}/v2/models/router/infer", json={"inputs": [given]})
    before = predicted()
    answer = httpx.post(f"{serving[0]}/v2/models/router/infer", json={"inputs": [given], "id": 3})
    assert (answer.status_code, answer.json()["param"]) == (400, "id")
    assert before
    assert predicted() == before
