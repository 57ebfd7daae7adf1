"""The Open Inference Protocol v2 (KServe), as tritonclient speaks it: texts in, labels and scores out.

Source: github.com/kserve/open-inference-protocol, with Triton's binary tensor data extension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from exporter.deployed import Deployed
from exporter.errors import RequestError, UnknownModelError
from exporter.http.asgi import Answer, Call, Route, json_answer, to_json
from exporter.http.tensors import Tensor, split_body, texts_of_tensor
from exporter.http.terms import terms
from exporter.keys import AccessRole
from exporter.recording import Input
from exporter.requests import (
    MAX_ID_CHARACTERS,
    input_of,
    json_object,
    list_of,
    metadata_of,
    one_of,
    parse_json,
    text_of,
)
from exporter.service import Served, Service
from exporter.settings import ExporterSettings

INPUT = "text"
OUTPUTS = ("id", "label", "score", "scores", "embedding")
DEFAULT_OUTPUTS = OUTPUTS[:4]
_LENGTH = b"inference-header-content-length"


def routes(service: Service, settings: ExporterSettings) -> list[Route]:
    def deployed(call: Call) -> Deployed:
        found = service.fleet.deployed(call.path["model"])
        if call.path.get("version", found.version) != found.version:
            raise UnknownModelError(f"{found.model} {call.path['version']}")
        return found

    async def model(call: Call) -> Answer:
        return json_answer(_metadata(deployed(call)))

    async def ready(call: Call) -> Answer:
        deployed(call)
        return Answer(b"")

    async def infer(call: Call) -> Answer:
        found = deployed(call)
        body = await call.body()
        if call.headers.get(b"content-encoding", b"identity") != b"identity":
            raise RequestError("Compressed bodies are not read here.", None, status=415)
        head, binary = split_body(body, call.headers.get(_LENGTH))
        request = json_object(parse_json(head), None)
        inputs, outputs = _inputs(request, binary, settings), _outputs(request)
        request_id = _request_id(request)
        served = await service.predict(found.model, inputs, terms(call), version=call.path.get("version"))
        return _inferred(served, outputs, request_id)

    every: tuple[AccessRole, ...] = ("ingest", "read")
    found = [Route("GET", "/v2", server, every, "text")]
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        found += [
            Route("GET", path, model, every, "text"),
            Route("GET", f"{path}/ready", ready, every, "text"),
            Route("POST", f"{path}/infer", infer, ("ingest",), "text"),
        ]
    return found


async def server(call: Call) -> Answer:  # noqa: ARG001 (every handler is given the call)
    try:
        own = version("trueup")
    except PackageNotFoundError:  # run from its sources
        own = "0"
    return json_answer({"name": "trueup", "version": own, "extensions": ["binary_tensor_data"]})


def _metadata(deployed: Deployed) -> dict[str, Any]:
    shapes = {"scores": [-1, len(deployed.engine.labels)], "embedding": [-1, -1]}
    return {
        "name": deployed.model,
        "versions": [deployed.version],
        "platform": f"onnxruntime_{deployed.engine.name}",
        "inputs": [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {
                "name": name,
                "datatype": "BYTES" if name in ("id", "label") else "FP32",
                "shape": shapes.get(name, [-1]),
            }
            for name in OUTPUTS
        ],
        "parameters": {"labels": list(deployed.engine.labels)},
    }


def _inputs(request: Mapping[str, Any], binary: bytes, settings: ExporterSettings) -> list[Input]:
    (given,) = list_of(request.get("inputs"), "inputs", 1)
    tensor = json_object(given, "inputs[0]")
    one_of(tensor.get("name"), "inputs[0].name", (INPUT,))
    texts = list_of(texts_of_tensor(tensor, binary, "inputs[0]"), "inputs[0].data", settings.max_texts)
    parameters = request.get("parameters")
    own = json_object(parameters, "parameters").get("metadata") if parameters is not None else None
    shared = metadata_of(own, "parameters.metadata")
    return [
        input_of(text, f"inputs[0].data[{number}]", shared, settings.max_characters)
        for number, text in enumerate(texts)
    ]


def _request_id(request: Mapping[str, Any]) -> str | None:
    given = request.get("id")
    return None if given is None else text_of(given, "id", MAX_ID_CHARACTERS)


def _outputs(request: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """(name, whether in binary form) of each tensor to return."""
    if request.get("outputs") is None:
        return [(name, _flag(request, "binary_data_output")) for name in DEFAULT_OUTPUTS]
    wanted = []
    for number, one in enumerate(list_of(request["outputs"], "outputs", len(OUTPUTS))):
        output = json_object(one, f"outputs[{number}]")
        name = one_of(output.get("name"), f"outputs[{number}].name", OUTPUTS)
        wanted.append((name, _flag(output, "binary_data")))
    return wanted


def _flag(given: Mapping[str, Any], name: str) -> bool:
    parameters = given.get("parameters")
    return isinstance(parameters, dict) and parameters.get(name) is True


def _inferred(served: Served, outputs: Sequence[tuple[str, bool]], request_id: str | None) -> Answer:
    told, blobs = [], []
    for name, binary in outputs:
        tensor = _tensor(served, name)
        described = tensor.described()
        if binary:
            blobs.append(tensor.binary())
            described["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            described["data"] = list(tensor.flat)
        told.append(described)
    content = {"model_name": served.model, "model_version": served.version, "outputs": told}
    if request_id is not None:
        content["id"] = request_id
    head = to_json(content).encode()
    if not blobs:
        return Answer(head)
    length = ((_LENGTH, b"%d" % len(head)),)
    return Answer(b"".join([head, *blobs]), headers=length, media_type=b"application/octet-stream")


def _tensor(served: Served, name: str) -> Tensor:
    rows = served.predictions
    many = len(rows)
    if name == "scores":
        flat = [score for row in rows for score in row.scores]
        return Tensor(name, "FP32", (many, len(served.labels)), flat)
    if name == "embedding":
        vectors = np.frombuffer(b"".join(row.embedding for row in rows), dtype="<f2").astype("<f4")
        return Tensor(name, "FP32", (many, vectors.size // many), vectors.tolist())
    if name == "score":
        return Tensor(name, "FP32", (many,), [row.score for row in rows])
    return Tensor(name, "BYTES", (many,), [getattr(row, name) for row in rows])
