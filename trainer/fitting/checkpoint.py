"""Checkpoints: the mutable state of a training, on disk so that a death costs at most the steps since.

A checkpoint is a directory written beside, synced, sealed by a manifest of its files' sha256 and of what was
being trained on what, and renamed. No pickles: safetensors and JSON.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trainer.errors import CheckpointError
from trainer.spec import TrainSpec
from trainer.tabular import write_bytes

FORMAT = 1
KEPT = 2
MANIFEST, TENSORS, FACTS = "manifest.json", "tensors.safetensors", "facts.json"
Tensors = dict[str, Any]
Facts = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a checkpoint belongs to; one that differs in anything is not resumed."""

    data: str  # sha256 of the rows learnt from, in order
    spec: str  # sha256 of [fit] without what is operational
    base: str  # sha256 of the first weights
    libraries: str  # whose arithmetic it is


@dataclass(slots=True)
class Checkpoints:
    """The checkpoints of one phase of a training, below `folder`."""

    folder: Path
    identity: Identity
    torn: list[str] = field(default_factory=list)  # what `newest` skipped

    def newest(self) -> tuple[Tensors, Facts] | None:
        """The newest whole checkpoint; CheckpointError where it belongs to other data or another spec."""
        for found in sorted(self.folder.glob("step-*"), reverse=True):
            content = _opened(found)
            if content is None:
                self.torn.append(found.name)
                continue
            _refuse_others(found, Identity(**content[0]["identity"]), self.identity)
            return _loaded(content[1]), json.loads(content[2])
        return None

    def save(self, step: int, tensors: Tensors, facts: Facts) -> None:
        """Seal a checkpoint, then forget all but the newest KEPT; CheckpointError where the disk refuses."""
        beside = self.folder / f".step-{step:09d}.{os.getpid()}"
        try:
            self._clear()
            beside.mkdir(parents=True)
            self._write(beside, tensors, facts)
            whole = self.folder / f"step-{step:09d}"
            shutil.rmtree(whole, ignore_errors=True)
            beside.rename(whole)
            _sync(self.folder)
        except OSError as error:
            shutil.rmtree(beside, ignore_errors=True)
            problem = f"it could not be written ({error.strerror}); older checkpoints are as they were"
            mend = "Make room, or set TMPDIR or the home to another disk, then train again: it resumes."
            raise CheckpointError(self.folder, problem, mend) from error
        for old in sorted(self.folder.glob("step-*"))[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)

    def _write(self, beside: Path, tensors: Tensors, facts: Facts) -> None:
        from safetensors.torch import save  # noqa: PLC0415  imports torch

        # safetensors' own writer turns a full disk into an error without a number.
        contents = {TENSORS: save(tensors), FACTS: json.dumps(facts).encode()}
        for name, content in contents.items():
            _write_synced(beside / name, content)
        files = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        manifest = {"format": FORMAT, "identity": asdict(self.identity), "files": files}
        _write_synced(beside / MANIFEST, json.dumps(manifest, indent=2).encode())
        _sync(beside)

    def _clear(self) -> None:
        """Remove what a death left half written."""
        for left in self.folder.glob(".step-*"):
            shutil.rmtree(left, ignore_errors=True)

    def remembered(self, name: str, compute: Callable[[], Facts]) -> Facts:
        """What `compute` says, from disk where a training of the same identity has said it already."""
        path = self.folder / f"{name}.json"
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(path.read_text(encoding="utf-8"))
            _refuse_others(path, Identity(**known["identity"]), self.identity)
            return dict(known["facts"])
        facts = compute()
        write_bytes(path, json.dumps({"identity": asdict(self.identity), "facts": facts}).encode())
        return facts


def folder_of(root: Path, spec: TrainSpec, data_sha256: str) -> Path:
    """Where the checkpoints of one spec on one snapshot lie, whichever attempt writes them."""
    made_of = f"{data_sha256}\n{spec.model_dump_json()}"
    return root / "checkpoints" / hashlib.sha256(made_of.encode()).hexdigest()[:32]


def beside(out: Path) -> Path:
    """Where the checkpoints of a version in the making lie, where nobody named a folder.

    >>> beside(Path("jobs/7/version")).as_posix()
    'jobs/7/.version.checkpoints'
    """
    return out.parent / f".{out.name}.checkpoints"


def _opened(folder: Path) -> tuple[dict[str, Any], bytes, bytes] | None:
    """(manifest, tensors, facts) as they were sealed, None where the checkpoint is torn."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        tensors, facts = ((folder / name).read_bytes() for name in (TENSORS, FACTS))
        digests = [hashlib.sha256(content).hexdigest() for content in (tensors, facts)]
        whole = digests == [manifest["files"][TENSORS], manifest["files"][FACTS]]
        return (manifest, tensors, facts) if whole and manifest["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _loaded(content: bytes) -> Tensors:
    from safetensors.torch import load  # noqa: PLC0415  imports torch

    return dict(load(content))


def _refuse_others(found: Path, theirs: Identity, ours: Identity) -> None:
    other = [name for name, value in asdict(ours).items() if getattr(theirs, name) != value]
    if other:
        problem = f"it belongs to a training with another {' and '.join(other)}"
        mend = f"Delete {found.parent} to train from the start, or give back what was changed to resume."
        raise CheckpointError(found, problem, mend)


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
