"""The weights that a training starts from, and those that it leaves: `trained.safetensors`.

The file holds what differs from the base model, adapters merged, so that a retrain may start from its parent.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.artifact import TRAINED, Version, read_optional
from trainer.encoder import load_encoder
from trainer.errors import VersionRefusedError
from trainer.head import Head
from trainer.sources import base_sha256
from trainer.splice import read_head


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The first weights: the base model's, with what a parent has learnt where it starts from that."""

    base: Path
    trained: bytes | None = None
    head: Head | None = None
    labels: list[str] = field(default_factory=list)

    def encoder(self) -> Any:
        """A fresh encoder with these weights."""
        from safetensors.torch import load  # noqa: PLC0415  imports torch

        model = load_encoder(self.base)
        if self.trained is not None:
            model.load_state_dict(load(self.trained), strict=False)
        return model

    def sha256(self) -> str:
        """Of the base model and of what the parent learnt."""
        digest = hashlib.sha256(base_sha256(self.base).encode())
        digest.update(self.trained or b"")
        return digest.hexdigest()


def start_of(base: Path, parent: Version | None) -> Start:
    """Start from `parent`, of the same base; VersionRefusedError where its weights were not kept."""
    if parent is None:
        return Start(base=base)
    trained = read_optional(parent, TRAINED)
    if trained is None and encoder_of(parent) == "trained":
        raise VersionRefusedError(
            parent.path, 'its weights were not kept, so [fit] start must be "base", or keep_weights true'
        )
    return Start(
        base=base, trained=trained, head=read_head(parent.model_bytes), labels=parent.manifest.labels
    )


def encoder_of(version: Version) -> str:
    """ "base" where the version's encoder is its base model's, otherwise "trained"."""
    usual = "base" if version.manifest.rung == "head" else "trained"
    return str(version.manifest.metrics.get("fit", {}).get("encoder", usual))


def trained_bytes(encoder: Any, base: Path) -> bytes:
    """The tensors of `encoder` that differ from the base model's, as safetensors."""
    import torch
    from safetensors.torch import save  # noqa: PLC0415  imports torch

    before = load_encoder(base).state_dict()
    now = encoder.state_dict()
    moved = {name: part for name, part in now.items() if not torch.equal(part, before[name])}
    return bytes(save({name: part.contiguous() for name, part in moved.items()}))
