"""A version opens only if it is byte for byte what was sealed."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from trainer.artifact import EngineFile, Manifest, open_version, seal
from trainer.errors import VersionRefusedError


@pytest.fixture
def sealed(unsealed: Path, manifest: Manifest) -> Path:
    seal(unsealed, manifest)
    return unsealed


def test_what_was_sealed_opens(sealed: Path, manifest: Manifest) -> None:
    version = open_version(sealed)
    assert version.manifest.model_copy(update={"files": {}}) == manifest
    assert version.model_bytes == (sealed / "model.onnx").read_bytes()
    assert version.nearest.tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert [row.label for row in version.holdout] == ["a", None]
    assert len(version.manifest_sha256) == 64


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "nearest.npy", "holdout.parquet"])
def test_a_flipped_byte_is_refused(sealed: Path, name: str) -> None:
    content = bytearray((sealed / name).read_bytes())
    content[len(content) // 2] ^= 1
    (sealed / name).write_bytes(content)
    with pytest.raises(VersionRefusedError, match=name):
        open_version(sealed)


def _symlink(folder: Path) -> None:
    (folder / "model.onnx").rename(folder.parent / "elsewhere")
    (folder / "model.onnx").symlink_to(folder.parent / "elsewhere")


def _hard_link(folder: Path) -> None:
    os.link(folder / "model.onnx", folder.parent / "second name")


def _no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def _linked_manifest(folder: Path) -> None:
    (folder / "manifest.json").rename(folder.parent / "m.json")
    (folder / "manifest.json").symlink_to(folder.parent / "m.json")


def _extra(folder: Path) -> None:
    (folder / "extra.txt").write_text("x", encoding="utf-8")


def _pickle(folder: Path) -> None:
    (folder / "optimizer.pt").write_bytes(pickle.dumps({"a": 1}))


def _missing(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _fifo(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    os.mkfifo(folder / "tokenizer.json")


def _torn_manifest(folder: Path) -> None:
    text = (folder / "manifest.json").read_text(encoding="utf-8")
    (folder / "manifest.json").write_text(text[:100], encoding="utf-8")


def _outside(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"]["../outside.onnx"] = manifest["files"].pop("model.onnx")
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def _other_format(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format": 3}), encoding="utf-8")


SPOILED: dict[str, tuple[Callable[[Path], None], str]] = {
    "symlink": (_symlink, "model.onnx is a link"),
    "hard link": (_hard_link, "second name"),
    "no manifest": (_no_manifest, "no manifest.json"),
    "linked manifest": (_linked_manifest, "manifest.json is a link"),
    "extra file": (_extra, "extra.txt"),
    "pickle": (_pickle, "optimizer.pt"),
    "missing file": (_missing, "it holds holdout.parquet, model.onnx, nearest.npy"),
    "pipe": (_fifo, "not a plain file"),
    "torn manifest": (_torn_manifest, "manifest.json cannot be read"),
    "path outside": (_outside, "its manifest seals ../outside"),
    "unknown format": (_other_format, "manifest.json cannot be read"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_a_spoiled_directory_is_refused(case: str, sealed: Path) -> None:
    spoil, why = SPOILED[case]
    spoil(sealed)
    with pytest.raises(VersionRefusedError, match=why):
        open_version(sealed)


def test_a_link_to_a_whole_version_is_refused(sealed: Path) -> None:
    link = sealed.parent / "link"
    link.symlink_to(sealed)
    with pytest.raises(VersionRefusedError, match="not a directory of its own"):
        open_version(link)


def test_a_pickled_array_is_refused_although_it_was_sealed(unsealed: Path, manifest: Manifest) -> None:
    np.save(unsealed / "nearest.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    seal(unsealed, manifest)
    with pytest.raises(VersionRefusedError, match=r"nearest\.npy is not a plain array"):
        open_version(unsealed)


def test_weights_in_another_file_are_refused_although_they_were_sealed(
    unsealed: Path, manifest: Manifest
) -> None:
    model = onnx.load(unsealed / "model.onnx")
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    (unsealed / "model.onnx").write_bytes(model.SerializeToString())
    seal(unsealed, manifest)
    with pytest.raises(VersionRefusedError, match="keeps weights in another file"):
        open_version(unsealed)


def _wrong_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


def _strange_domain(model: onnx.ModelProto) -> None:
    model.opset_import.add(domain="com.example", version=1)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_wrong_opset, r"model\.onnx wants version 99 of ONNX's operators, known is 26"),
        (_strange_domain, r"model\.onnx wants operators of 'com\.example'"),
    ],
)
def test_operators_that_nobody_runs_are_refused_although_they_were_sealed(
    spoil: Callable[[onnx.ModelProto], None], why: str, unsealed: Path, manifest: Manifest
) -> None:
    model = onnx.load(unsealed / "model.onnx")
    spoil(model)
    (unsealed / "model.onnx").write_bytes(model.SerializeToString())
    seal(unsealed, manifest)
    with pytest.raises(VersionRefusedError, match=why):
        open_version(unsealed)


def _corrupt(folder: Path) -> None:
    (folder / "model.int8.onnx").write_bytes(b"\xff" * 64)


def _empty(folder: Path) -> None:
    (folder / "model.int8.onnx").write_bytes(b"")


@pytest.mark.parametrize("spoil", [_corrupt, _empty])
def test_a_graph_of_another_engine_is_looked_at_as_well(
    spoil: Callable[[Path], None], unsealed: Path, manifest: Manifest
) -> None:
    spoil(unsealed)
    engine = EngineFile(file="model.int8.onnx", precision="int8", parity=manifest.parity)
    seal(unsealed, manifest.model_copy(update={"engines": {**manifest.engines, "cpu-int8": engine}}))
    with pytest.raises(VersionRefusedError, match=r"model\.int8\.onnx is an? (not an )?ONNX|is not an ONNX"):
        open_version(unsealed)


def test_a_manifest_of_format_1_names_engines_of_one_graph(sealed: Path) -> None:
    told = json.loads((sealed / "manifest.json").read_text(encoding="utf-8"))
    old = told | {"format": 1, "engines": ["cpu-fp32", "cuda-fp32"]}
    (sealed / "manifest.json").write_text(json.dumps(old), encoding="utf-8")
    opened = open_version(sealed).manifest
    assert opened.format == 1
    assert {name: one.file for name, one in opened.engines.items()} == {
        "cpu-fp32": "model.onnx",
        "cuda-fp32": "model.onnx",
    }
    assert {one.parity for one in opened.engines.values()} == {opened.parity}


def test_something_that_is_no_graph_is_refused(unsealed: Path, manifest: Manifest) -> None:
    (unsealed / "model.onnx").write_bytes(b"\xff" * 64)
    seal(unsealed, manifest)
    with pytest.raises(VersionRefusedError, match="not an ONNX model"):
        open_version(unsealed)


def test_an_incomplete_directory_is_not_sealed(unsealed: Path, manifest: Manifest) -> None:
    (unsealed / "nearest.npy").unlink()
    with pytest.raises(VersionRefusedError, match="it should hold"):
        seal(unsealed, manifest)
    assert not (unsealed / "manifest.json").exists()


# Ends itself with SIGKILL at the N-th file operation of sealing.
KILLED = """
import os, signal, sys
from pathlib import Path
from trainer.artifact import Manifest, seal
folder, manifest, count = Path(sys.argv[1]), Manifest.model_validate_json(sys.argv[2]), [int(sys.argv[3])]
def hook(event, arguments):
    if event in {"open", "os.rename", "os.scandir"}:
        count[0] -= 1
        if count[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
seal(folder, manifest)
"""


def test_death_at_any_file_operation_of_sealing_leaves_no_half_version(
    unsealed: Path, manifest: Manifest
) -> None:
    died = 0
    for step in range(1, 40):
        command = [sys.executable, "-c", KILLED, str(unsealed), manifest.model_dump_json(), str(step)]
        done = subprocess.run(command, check=False)
        if done.returncode == 0:
            break
        assert done.returncode == -9
        died += 1
        if (unsealed / "manifest.json").exists():
            open_version(unsealed)
            (unsealed / "manifest.json").unlink()
        else:
            with pytest.raises(VersionRefusedError, match="never completed"):
                open_version(unsealed)
    assert died >= 10
    assert open_version(unsealed).manifest.files
