"""`trueup train SPEC --check-data` of a language model: what is wrong with its conversations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainer.decoder.base import resolve_decoder
from trainer.findings import Finding
from trainer.generation.decoder import load_template
from trainer.generation.gate import look
from trainer.generation.stored import sample_of
from trainer.rows import HoldoutRow, Row
from trainer.spec import TrainSpec


def look_at(
    spec: TrainSpec, rows: Sequence[Row], holdout: Sequence[HoldoutRow], *, cache: Path
) -> list[Finding]:
    """Every finding of a spec's rows, by the tokenizer of its base; nothing is refused or dropped."""
    form = spec.generation.form
    template = load_template(resolve_decoder(spec.model.base, cache), converses=form == "chat")
    samples, held = ([sample_of(row, form) for row in part] for part in (rows, holdout))
    return look(
        samples, held, template, max_tokens=spec.generation.max_tokens, on_finding=spec.data.on_finding
    )
