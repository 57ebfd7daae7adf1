"""Every architecture that the exporter knows by every route: seconds, and how far a logit is from torch's."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.trainer.encoders import BUILDERS, batches, encoder, fitted
from trainer.errors import ExportError
from trainer.export import export, export_packed, routes
from trainer.fit import Fitted
from trainer.graph import Graph
from trainer.packed_reference import PackedReference
from trainer.parity import torch_logits


def main() -> None:
    """One JSON line an architecture and route."""
    for name in BUILDERS:
        made = fitted(encoder(name))
        for route in ("fused", "generic", "packed"):
            print(json.dumps({"architecture": name, "route": route, **_measured(made, route)}), flush=True)


def _measured(made: Fitted, route: Any) -> dict[str, Any]:
    if route not in [*routes(made), "packed"]:
        return {"refused": "its attention cannot be replaced"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        began = time.monotonic()
        try:
            export_packed(made, path) if route == "packed" else export(made, path, route)
        except ExportError as error:
            return {"refused": error.why}
        seconds = time.monotonic() - began
        graph = PackedReference(path.read_bytes(), threads=1) if route == "packed" else Graph(path, threads=1)
        worst = max(float(np.abs(graph.run(ids)[0] - torch_logits(made, ids)).max()) for ids in batches())
    return {"seconds": round(seconds, 1), "max_abs": worst}


if __name__ == "__main__":
    main()
