"""An int8 twin of a sealed version, for benchmarks and tests of the engine that serves it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from trainer.artifact import FILES, INT8, MODEL, Manifest, open_version, seal

ENGINES: dict[str, dict[str, Any]] = {
    "cpu-int8": {"file": INT8, "precision": "int8", "parity": None, "refused": None},
    "cpu-fp32": {"file": MODEL, "precision": "fp32", "parity": None, "refused": None},
}


def with_int8(directory: Path, target: Path, engines: dict[str, dict[str, Any]] | None = None) -> Path:
    """A copy of the version in `target`, which must not exist, with a quantised graph beside its own.

    `engines` as the manifest will name them; a graph that they refuse is not made.
    """
    chosen = ENGINES if engines is None else engines
    before = open_version(directory).manifest.model_dump()
    target.mkdir(parents=True)
    for name in FILES:
        shutil.copy(directory / name, target / name)
    if chosen["cpu-int8"]["refused"] is None:
        quantise(target / MODEL, target / INT8)
    seal(target, Manifest.model_validate(before | {"engines": chosen}))
    return target


def quantise(path: Path, target: Path) -> None:
    """Weights per channel; activations by their range in each run."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(path)
    del model.graph.value_info[:]  # the exporter's example shapes, which the quantiser would believe
    quantize_dynamic(
        model,
        target,
        per_channel=True,
        weight_type=QuantType.QInt8,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
