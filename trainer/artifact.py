"""A version directory: sealed by its manifest, and opened only if it is byte for byte what was sealed.

`manifest.json` is written last, so that its existence means the version is complete. Whoever opens a version
gets the very bytes that were hashed; nothing is read a second time by path.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trainer.errors import VersionRefusedError
from trainer.rows import HoldoutRow, holdout_from_bytes

FORMAT: Literal[1] = 1
MANIFEST = "manifest.json"
MODEL, TOKENIZER, NEAREST, HOLDOUT = "model.onnx", "tokenizer.json", "nearest.npy", "holdout.parquet"
INT8 = "model.int8.onnx"  # the same model for a faster engine; a version may lack it
FILES = frozenset({MODEL, TOKENIZER, NEAREST, HOLDOUT})
VARIANTS = frozenset({INT8})

__all__ = ["FORMAT", "DataPrint", "HoldoutRow", "Manifest", "Parity", "Version", "open_version", "seal"]


class DataPrint(BaseModel):
    """Which rows a version was trained on: sha256 of their snapshot and how many there are."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    sha256: str
    rows: int


class Parity(BaseModel):
    """The trained model against its exported graph, over `rows` texts."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    max_abs: float
    label_agreement: float
    rows: int


class Manifest(BaseModel):
    """What a version is and of which bytes it consists."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal[1] = FORMAT
    task: str
    model: str
    labels: list[str]
    base: str
    base_sha256: str
    data: DataPrint
    spec: dict[str, Any]
    max_tokens: int
    temperature: float
    metrics: dict[str, Any]
    parity: Parity
    attention: str = "fused"  # "fused": com.microsoft::MultiHeadAttention; "generic": plain ONNX, slower
    engines: list[str] | dict[str, dict[str, Any]] = Field(default_factory=lambda: ["cpu-fp32", "cuda-fp32"])
    files: dict[str, str] = Field(default_factory=dict)
    findings: list[dict[str, Any]] = Field(default_factory=list)  # of the data gate, trainer/findings
    dropped: list[int] = Field(default_factory=list)  # rows of the data that it left out, after replay
    parent: str | None = None
    rung: str
    seed: int
    created_at: float
    versions: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A verified version in memory. `nearest` is float16 [N, hidden], unit rows."""

    path: Path
    manifest: Manifest
    manifest_sha256: str
    model_bytes: bytes
    variants: dict[str, bytes] = field(default_factory=dict)  # of VARIANTS, as far as it has them
    tokenizer_bytes: bytes
    nearest: np.ndarray[Any, np.dtype[np.float16]]
    holdout: list[HoldoutRow]

    def graph(self, name: str) -> bytes:
        """The graph in this file. Raises VersionRefusedError where the version has none."""
        if name == MODEL:
            return self.model_bytes
        if name not in self.variants:
            raise VersionRefusedError(self.path, f"it has no {name}")
        return self.variants[name]


def seal(directory: Path, manifest: Manifest) -> None:
    """Hash and fsync every file of `directory`, then write its manifest as the last and atomic step."""
    names = {entry.name for entry in directory.iterdir()}
    if not FILES <= names <= FILES | VARIANTS:
        raise VersionRefusedError(directory, f"it should hold {_listed(FILES)}, it holds {_listed(names)}")
    files: dict[str, str] = {}
    for name in sorted(names):
        files[name] = hashlib.sha256(_read(directory, name)).hexdigest()
        _sync(directory / name)
    text = manifest.model_copy(update={"files": files}).model_dump_json(indent=2) + "\n"
    # Beside the directory, not in it: a leftover of a crash must not look like a file of the version.
    beside = directory.parent / f".{directory.name}.manifest"
    beside.write_text(text, encoding="utf-8")
    _sync(beside)
    _sync(directory)
    beside.replace(directory / MANIFEST)
    _sync(directory)
    _sync(directory.parent)


def open_version(directory: Path) -> Version:
    """Verify a sealed directory and return the bytes that were verified; VersionRefusedError otherwise."""
    if directory.is_symlink() or not directory.is_dir():
        raise VersionRefusedError(directory, "it is not a directory of its own")
    if not os.path.lexists(directory / MANIFEST):
        raise VersionRefusedError(directory, "it has no manifest.json, so it was never completed")
    raw = _read(directory, MANIFEST)
    manifest = _parse(directory, raw)
    present = {entry.name for entry in directory.iterdir()} - {MANIFEST}
    sealed = set(manifest.files)
    if not FILES <= sealed <= FILES | VARIANTS or present != sealed:
        raise VersionRefusedError(directory, f"it should hold {_listed(FILES)}, it holds {_listed(present)}")
    content = {name: _verified(directory, name, manifest.files[name]) for name in sorted(sealed)}
    variants = {name: content[name] for name in sorted(sealed & VARIANTS)}
    for name, graph in {MODEL: content[MODEL], **variants}.items():
        _refuse_external_tensors(directory, name, graph)
    return Version(
        path=directory,
        manifest=manifest,
        manifest_sha256=hashlib.sha256(raw).hexdigest(),
        model_bytes=content[MODEL],
        variants=variants,
        tokenizer_bytes=content[TOKENIZER],
        nearest=_nearest(directory, content[NEAREST]),
        holdout=_holdout(directory, content[HOLDOUT]),
    )


def _listed(names: frozenset[str] | set[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"


def _read(directory: Path, name: str) -> bytes:
    """Bytes of a plain file with one name; the descriptor that was checked is the one that is read."""
    try:
        descriptor = os.open(directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise VersionRefusedError(
            directory, f"{name} is a link or cannot be read ({error.strerror})"
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise VersionRefusedError(directory, f"{name} is not a plain file")
        if status.st_nlink != 1:
            raise VersionRefusedError(directory, f"{name} has a second name (hard link)")
        return file.read()


def _verified(directory: Path, name: str, expected: str) -> bytes:
    content = _read(directory, name)
    if hashlib.sha256(content).hexdigest() != expected:
        raise VersionRefusedError(directory, f"{name} is not the file that was sealed (sha256 differs)")
    return content


def _parse(directory: Path, raw: bytes) -> Manifest:
    try:
        return Manifest.model_validate(json.loads(raw))
    except (ValidationError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise VersionRefusedError(directory, f"its manifest.json cannot be read ({first})") from error


def _nearest(directory: Path, content: bytes) -> np.ndarray[Any, np.dtype[np.float16]]:
    try:
        array: np.ndarray[Any, Any] = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise VersionRefusedError(directory, f"nearest.npy is not a plain array ({error})") from error
    if array.ndim != 2 or array.dtype != np.float16 or not len(array):
        raise VersionRefusedError(
            directory, f"nearest.npy is {array.dtype} {array.shape}, not float16 [rows, hidden]"
        )
    return array


def _holdout(directory: Path, content: bytes) -> list[HoldoutRow]:
    try:
        return holdout_from_bytes(content)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise VersionRefusedError(directory, f"holdout.parquet cannot be read ({error})") from error


def _refuse_external_tensors(directory: Path, name: str, content: bytes) -> None:
    """A graph whose weights lie in another file would be served from bytes that nobody hashed."""
    import onnx
    from onnx.external_data_helper import uses_external_data

    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise VersionRefusedError(directory, f"{name} is not an ONNX model") from error
    if any(uses_external_data(tensor) for tensor in _tensors(model)):
        raise VersionRefusedError(directory, f"{name} keeps weights in another file")


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor anywhere in an ONNX message: initialisers, attributes, subgraphs, functions."""
    import onnx

    if isinstance(message, onnx.TensorProto):
        yield message
        return
    for member, value in message.ListFields():
        if member.message_type is not None:
            for part in value if member.is_repeated else [value]:
                yield from _tensors(part)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
