"""An int8 twin of a sealed version, for benchmarks and tests of the engine that serves it."""

from __future__ import annotations

import shutil
from pathlib import Path

from trainer.artifact import FILES, INT8, MANIFEST, MODEL, EngineFile, open_version, seal

ENGINES = {
    "cpu-fp32": EngineFile(file=MODEL, precision="fp32"),
    "cpu-int8": EngineFile(file=INT8, precision="int8"),
}


def with_int8(directory: Path, target: Path) -> Path:
    """A copy of the version in `target`, which must not exist, with a quantised graph beside its own."""
    manifest = open_version(directory).manifest
    target.mkdir(parents=True)
    for name in FILES:
        shutil.copy(directory / name, target / name)
    quantise(target / MODEL, target / INT8)
    assert not (target / MANIFEST).exists()
    seal(target, manifest.model_copy(update={"engines": ENGINES}))
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
