"""LitServe over the sealed graph; a module of its own, because its workers are spawned and import it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import litserve

from tests.benchmarks.peers import Graph, answer


class Api(litserve.LitAPI):  # type: ignore[misc]
    def __init__(self, directory: Path, **options: Any) -> None:
        super().__init__(api_path="/v1/predict", **options)
        self.directory = directory

    def setup(self, device: str) -> None:
        self.graph = Graph(self.directory)

    # Without types: LitServe would have FastAPI validate them.
    def decode_request(self, request, **_):  # type: ignore[no-untyped-def]
        return str(request["inputs"][0])

    def predict(self, x: Any, **_: Any) -> Any:
        return self.graph.run(x) if isinstance(x, list) else self.graph.run([x])[0]

    def encode_response(self, output: dict[str, Any], **_: Any) -> dict[str, Any]:
        return answer(output)


def run(directory: Path, port: int, *, batch: int) -> None:
    """Serve for ever; `batch` 1 means that nothing is gathered."""
    options: dict[str, Any] = {} if batch == 1 else {"max_batch_size": batch, "batch_timeout": 0.005}
    server = litserve.LitServer(
        Api(directory, **options), accelerator="cpu", workers_per_device=1, timeout=120
    )
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")
