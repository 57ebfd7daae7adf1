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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trainer.errors import VersionRefusedError
from trainer.onnx_file import problem
from trainer.rows import HoldoutRow, holdout_from_bytes

FORMAT: Literal[2] = 2
MANIFEST = "manifest.json"
MODEL, TOKENIZER, NEAREST, HOLDOUT = "model.onnx", "tokenizer.json", "nearest.npy", "holdout.parquet"
INT8, PACKED = "model.int8.onnx", "model.fp16.packed.onnx"  # the same model for faster engines
TRAINED, RANGE_TEST = "trained.safetensors", "learning_rate.png"
REPORT, CARD = "report.json", "README.md"
FILES = frozenset({MODEL, TOKENIZER, NEAREST, HOLDOUT})
OPTIONAL = frozenset({TRAINED, RANGE_TEST, REPORT, CARD})  # versions of before have none
PLAIN_ENGINES = ("cpu-fp32", "cuda-fp32")  # what runs model.onnx
Precision = Literal["fp32", "fp16", "int8", "int4"]

__all__ = [
    "FORMAT", "DataPrint", "EngineFile", "HoldoutRow", "Manifest", "Parity", "Version", "open_version",
    "read_optional", "seal", "verified",
]  # fmt: skip


class DataPrint(BaseModel):
    """Which rows a version was trained on: sha256 of their snapshot and how many there are."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    sha256: str
    rows: int


class Parity(BaseModel):
    """The trained model against its exported graph, over `rows` texts.

    `accuracy_loss` is the share of right labels that a faster engine gives away; None where not measured.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    max_abs: float
    label_agreement: float
    rows: int
    accuracy_loss: float | None = None


class EngineFile(BaseModel):
    """A graph that an engine runs, and how it compares; a refused one was not kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    file: str
    precision: Precision
    parity: Parity | None = None  # None: it could not even be made
    refused: str | None = None


class Manifest(BaseModel):
    """What a version is and of which bytes it consists."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal[1, 2] = FORMAT
    task: str
    model: str
    labels: list[str]
    base: str
    base_sha256: str
    data: DataPrint
    spec: dict[str, Any]
    max_tokens: int
    temperature: float
    thresholds: list[float] = Field(default_factory=list)  # of the task, tuned on the hold-out
    metrics: dict[str, Any]
    parity: Parity
    attention: str = "fused"  # "fused": com.microsoft::MultiHeadAttention; "generic": plain ONNX, slower
    engines: dict[str, EngineFile] = Field(default_factory=dict)  # by name, the preferred ones first
    files: dict[str, str] = Field(default_factory=dict)
    findings: list[dict[str, Any]] = Field(default_factory=list)  # of the data gate, trainer/findings
    dropped: list[int] = Field(default_factory=list)  # rows of the data that it left out, after replay
    parent: str | None = None
    rung: str
    seed: int
    created_at: float
    versions: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _one_graph(cls, given: Any) -> Any:
        """Format 1 listed names of engines, all of model.onnx; so does a manifest that names none."""
        if not isinstance(given, dict):
            return given
        names = given.get("engines", PLAIN_ENGINES)
        if not isinstance(names, list | tuple):
            return given
        plain = {"file": MODEL, "precision": "fp32", "parity": given.get("parity")}
        return given | {"engines": dict.fromkeys(names, plain)}

    def engine_files(self) -> frozenset[str]:
        """Graphs of this version beside model.onnx."""
        return frozenset(one.file for one in self.engines.values() if one.refused is None) - {MODEL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A verified version in memory. `nearest` is float16 [N, hidden], unit rows.

    `variants` holds the graphs beside model.onnx, by the name of their file.
    """

    path: Path
    manifest: Manifest
    manifest_sha256: str
    model_bytes: bytes
    tokenizer_bytes: bytes
    nearest: np.ndarray[Any, np.dtype[np.float16]]
    holdout: list[HoldoutRow]
    variants: dict[str, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of the graph."""
        return len(self.model_bytes)

    def graph(self, name: str) -> bytes:
        """The graph in this file. Raises VersionRefusedError where the version has none."""
        if name == MODEL:
            return self.model_bytes
        if name not in self.variants:
            raise VersionRefusedError(self.path, f"it has no {name}")
        return self.variants[name]


def seal(
    directory: Path,
    manifest: Manifest,
    *,
    required: frozenset[str] | None = None,
    optional: frozenset[str] = OPTIONAL,
) -> Manifest:
    """Hash and fsync every file of `directory`, then write its manifest as the last and atomic step.

    Returns the manifest as it was written, with the sha256 of every file.
    """
    names = {entry.name for entry in directory.iterdir()}
    wanted = FILES | manifest.engine_files() if required is None else required
    _require_files(directory, names, wanted, optional)
    files: dict[str, str] = {}
    for name in sorted(names):
        files[name] = hashlib.sha256(_read(directory, name)).hexdigest()
        _sync(directory / name)
    sealed = manifest.model_copy(update={"files": files})
    text = sealed.model_dump_json(indent=2) + "\n"
    # Beside the directory, not in it: a leftover of a crash must not look like a file of the version.
    beside = directory.parent / f".{directory.name}.manifest"
    beside.write_text(text, encoding="utf-8")
    _sync(beside)
    _sync(directory)
    beside.replace(directory / MANIFEST)
    _sync(directory)
    _sync(directory.parent)
    return sealed


def open_version(directory: Path) -> Version:
    """Verify a sealed directory and return the bytes that were verified; VersionRefusedError otherwise."""
    manifest, digest, content = verified(directory)
    variants = manifest.engine_files()
    for name in sorted(variants | {MODEL}):
        why = problem(content[name])
        if why is not None:
            raise VersionRefusedError(directory, f"{name} {why}")
    return Version(
        path=directory,
        manifest=manifest,
        manifest_sha256=digest,
        model_bytes=content[MODEL],
        tokenizer_bytes=content[TOKENIZER],
        nearest=_nearest(directory, content[NEAREST]),
        holdout=_holdout(directory, content[HOLDOUT]),
        variants={name: content[name] for name in sorted(variants)},
    )


def verified(
    directory: Path, required: frozenset[str] | None = None, optional: frozenset[str] = OPTIONAL
) -> tuple[Manifest, str, dict[str, bytes]]:
    """The manifest, its sha256, the very bytes of every file that was hashed. Raises VersionRefusedError.

    `required`: FILES and the graphs of the manifest's engines, where nothing else is said.
    """
    if directory.is_symlink() or not directory.is_dir():
        raise VersionRefusedError(directory, "it is not a directory of its own")
    if not os.path.lexists(directory / MANIFEST):
        raise VersionRefusedError(directory, "it has no manifest.json, so it was never completed")
    raw = _read(directory, MANIFEST)
    manifest = _parse(directory, raw)
    present = {entry.name for entry in directory.iterdir()} - {MANIFEST}
    wanted = FILES | manifest.engine_files() if required is None else required
    _require_files(directory, present, wanted, optional)
    if set(manifest.files) != present:
        raise VersionRefusedError(directory, f"its manifest seals {_listed(set(manifest.files))}")
    content = {name: _verified(directory, name, manifest.files[name]) for name in sorted(present)}
    return manifest, hashlib.sha256(raw).hexdigest(), content


def read_optional(version: Version, name: str) -> bytes | None:
    """The verified bytes of one of OPTIONAL, None where the version has none; VersionRefusedError."""
    if name not in version.manifest.files:
        return None
    return _verified(version.path, name, version.manifest.files[name])


def _require_files(
    directory: Path, names: set[str], required: frozenset[str], optional: frozenset[str]
) -> None:
    if not required <= names <= required | optional:
        raise VersionRefusedError(directory, f"it should hold {_listed(required)}, it holds {_listed(names)}")


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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
