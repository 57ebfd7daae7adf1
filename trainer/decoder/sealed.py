"""A version of the task text-generation: the exported model folder, sealed and opened like any version.

The graph and its weights are handed to ONNX Runtime as the bytes that were hashed; no file is opened a second
time, so what runs is what was sealed. Links, second names and files of another name are refused.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from trainer.artifact import (
    CARD,
    HOLDOUT,
    MANIFEST,
    REPORT,
    TOKENIZER,
    Manifest,
    Version,
    open_version,
    seal,
    verified,
)
from trainer.decoder import TASK
from trainer.decoder.graph import CONFIG, MODEL, WEIGHTS
from trainer.errors import VersionRefusedError
from trainer.onnx_file import problem, weight_files
from trainer.rows import HoldoutRow

TOKENIZER_CONFIG, TEMPLATE = "tokenizer_config.json", "chat_template.jinja"
REQUIRED = frozenset({CONFIG, MODEL, TOKENIZER, TOKENIZER_CONFIG})
EXPORTED = frozenset({WEIGHTS, TEMPLATE, "special_tokens_map.json"})
ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "base.json")  # for a retrain to go on from
ANSWERS = "answers.parquet"  # to the hold-out
PARENTS_ANSWERS = "parents_answers.parquet"  # the parent's, to rows that are new in it
OPTIONAL = EXPORTED | {*ADAPTER, ANSWERS, PARENTS_ANSWERS, HOLDOUT, REPORT, CARD}  # a base model has none


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderVersion:
    """A verified version in memory, file by file."""

    path: Path
    manifest: Manifest
    manifest_sha256: str
    files: dict[str, bytes]
    holdout: list[HoldoutRow] = field(default_factory=list)  # its reference is not replayed, it has no labels

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(map(len, self.files.values()))


Sealed = Version | DecoderVersion


def seal_decoder(directory: Path, manifest: Manifest) -> None:
    """Seal a model folder. Raises VersionRefusedError for files that are not of one."""
    seal(directory, manifest, required=REQUIRED, optional=OPTIONAL)


def open_decoder(directory: Path) -> DecoderVersion:
    """Verified and in memory. Raises VersionRefusedError."""
    manifest, digest, files = verified(directory, REQUIRED, OPTIONAL)
    if manifest.task != TASK:
        raise VersionRefusedError(directory, f"its task is {manifest.task!r}, its files are of {TASK!r}")
    why = problem(files[MODEL], beside=True)
    if why is not None:
        raise VersionRefusedError(directory, f"{MODEL} {why}")
    strange = weight_files(files[MODEL]) - (files.keys() & {WEIGHTS})
    if strange:
        raise VersionRefusedError(directory, f"its graph keeps weights in {sorted(strange)[0]!r}")
    return DecoderVersion(path=directory, manifest=manifest, manifest_sha256=digest, files=files)


def open_sealed(directory: Path) -> Sealed:
    """A version of any task. Raises VersionRefusedError."""
    return open_decoder(directory) if generates(directory) else open_version(directory)


def generates(directory: Path) -> bool:
    """Whether a version directory holds a language model, sealed or not."""
    return not directory.is_symlink() and os.path.lexists(directory / CONFIG)


def template_of(files: dict[str, bytes]) -> str | None:
    """The chat template of a model folder, None where it has none.

    >>> template_of({TOKENIZER_CONFIG: b'{"chat_template": "{{ messages }}"}'})
    '{{ messages }}'
    """
    if TEMPLATE in files:
        return files[TEMPLATE].decode(errors="replace")
    found = json.loads(files[TOKENIZER_CONFIG]).get("chat_template")
    return found if isinstance(found, str) else None


__all__ = [
    "MANIFEST",
    "DecoderVersion",
    "Sealed",
    "generates",
    "open_decoder",
    "open_sealed",
    "seal_decoder",
    "template_of",
]
