"""From rows to a fitted adapter: gate, replay, tokens, fit, in this order."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.findings import Action, Finding
from trainer.generation.decoder import Decoder, load_decoder, with_adapter, with_adapter_of
from trainer.generation.errors import ContextError
from trainer.generation.fit import Checkpoints, Fit, Watch, fit_adapter
from trainer.generation.gate import sift
from trainer.generation.plan import replayed, split
from trainer.generation.rows import Chat, Sample
from trainer.generation.settings import GenerationFit


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """A decoder with its fitted adapter, what the fit did, and what the gate found in `rows` rows learnt."""

    decoder: Decoder
    fit: Fit
    findings: list[Finding]
    dropped: list[int]  # positions that the gate left out
    rows: int


def tune(
    base: Path,
    samples: Sequence[Sample],
    held_out: Sequence[Sample],
    fit: GenerationFit,
    *,
    on_finding: Mapping[str, Action] | None = None,
    watch: Watch = lambda _: None,
    checkpoints: Checkpoints | None = None,
    adapter: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Tuned:
    """Fit a fresh adapter on `base`, or a copy of `adapter`, to `samples`.

    A part of the samples stops it and chooses its weights, where the fit has patience. `held_out` rows prove
    it later: here they are only looked for among the samples, and must be such as the template can write.
    The same rows, settings and seed give the same weights. Raises ContextError, FindingError, TemplateError
    (a held-out row that cannot be written) and what `fit_adapter` raises.
    """
    converses = any(isinstance(one, Chat) for one in [*samples, *held_out])
    decoder = load_decoder(base, precision=fit.precision, converses=converses)
    if fit.max_tokens > decoder.context:
        raise ContextError(base, fit.max_tokens, decoder.context)
    for one in held_out:
        decoder.template.tokens(one)
    left, findings = sift(
        samples, held_out, decoder.template, max_tokens=fit.max_tokens, on_finding=on_finding or {}
    )
    learnt = replayed([samples[row] for row in left], fit.replay_rows, seed=fit.seed)
    adapted = with_adapter(decoder, fit) if adapter is None else with_adapter_of(decoder, adapter, fit)
    rows, validation = split([decoder.template.tokens(one) for one in learnt], fit)
    dropped = sorted({*range(len(samples))} - {*left})
    done = fit_adapter(adapted, rows, validation, fit, watch=watch, checkpoints=checkpoints, clock=clock)
    return Tuned(decoder=adapted, fit=done, findings=findings, dropped=dropped, rows=len(rows))
