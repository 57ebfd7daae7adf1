"""How well a decoder answers rows that it has not seen: by loss, and by the answers that it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.generation.decoder import Decoder
from trainer.generation.json_answers import Check, follows, value_of
from trainer.generation.loss import held_out_loss
from trainer.generation.metrics import chrf, exact_match, rouge_l, token_f1
from trainer.generation.rows import Sample
from trainer.generation.typos import with_typos

MEASURES = {"exact_match": exact_match, "token_f1": token_f1, "rouge_l": rouge_l, "chrf": chrf}
SLIPPED = 0.3  # share of the words with a typo when robustness is asked for


def losses(decoder: Decoder, samples: Sequence[Sample]) -> dict[str, Any]:
    """Held-out loss (nats a token) and perplexity over the learnt tokens; None where there are none."""
    found = held_out_loss(decoder.model, [decoder.template.tokens(one) for one in samples])
    return {
        "rows": found.rows,
        "tokens": found.tokens,
        "loss": found.loss,
        "perplexity": found.perplexity,
    }


def forgetting(before: Mapping[str, Any], after: Mapping[str, Any]) -> float | None:
    """Nats a token that a general set has become harder; None where either figure is missing.

    >>> forgetting({"loss": 1.5}, {"loss": 1.75})
    0.25
    """
    if before.get("loss") is None or after.get("loss") is None:
        return None
    return float(after["loss"] - before["loss"])


def answered(
    answers: Sequence[str], samples: Sequence[Sample], *, schema: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Mean figures of answers against those of the rows; figures are None where there are no rows.

    `valid_json` is the share that is JSON, and, with a schema, `follows_schema` the share that follows it.

    >>> from trainer.generation.rows import chat
    >>> answered(["{}"], [chat(("user", "go"), ("assistant", "{}"))])["exact_match"]
    1.0
    """
    check = follows(schema) if schema is not None else None
    figures: dict[str, list[float]] = {name: [] for name in MEASURES}
    for answer, sample in zip(answers, samples, strict=True):
        for name, measure in MEASURES.items():
            figures[name].append(measure(answer, sample.answer))
    figures |= _json(answers, check)
    return {"rows": len(samples)} | {name: _mean(values) for name, values in figures.items()}


def typos(samples: Sequence[Sample], *, seed: int) -> list[Sample]:
    """The rows as somebody in haste would have asked them."""
    return [with_typos(one, share=SLIPPED, seed=seed + row) for row, one in enumerate(samples)]


def _json(answers: Sequence[str], check: Check | None) -> dict[str, list[float]]:
    values = [value_of(answer) for answer in answers]
    found = {"valid_json": [float(valid) for valid, _ in values]}
    if check is not None:
        found["follows_schema"] = [float(valid and check(value)) for valid, value in values]
    return found


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
