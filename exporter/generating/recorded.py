"""A finished turn as the ledger keeps it."""

from __future__ import annotations

from math import exp

from exporter.descriptors import describe
from exporter.generating.turn import Turn
from exporter.generation import Generation
from exporter.prediction import Prediction
from exporter.redact import Keep, storable


def recorded(turn: Turn, *, at: float, keep: Keep) -> tuple[Prediction, Generation]:
    """The prediction and, in it as well, what belongs to a generation. The turn has a token and an end."""
    assert turn.finish is not None
    asked, deployed, count = turn.asked, turn.deployed, len(turn.tokens)
    described = describe(asked.text)
    mean = turn.logprob_sum / count
    spent = turn.last - turn.first
    generation = Generation(
        answer=keep.text(storable(turn.text)),
        prompt_tokens=len(turn.ids),
        completion_tokens=count,
        finish_reason=turn.finish,
        first_token_ms=round((turn.first - turn.arrived) * 1e3, 3),
        tokens_per_s=round((count - 1) / spent, 3) if spent > 0 else None,
        mean_logprob=mean,
        min_logprob=turn.logprob_min,
        temperature=asked.temperature,
        top_p=asked.top_p,
        seed=turn.seed,
        guided=asked.schema is not None,
    )
    prediction = Prediction(
        id=turn.id,
        model=deployed.model,
        version=deployed.version,
        role=deployed.role,
        at=at,
        text=keep.text(asked.text),
        label=turn.finish,
        score=exp(mean),
        scores=(),
        embedding=b"",
        similarity=None,
        tokens=len(turn.ids),
        characters=len(asked.text),
        truncated=False,
        queue_ms=round((turn.began - turn.arrived) * 1e3, 3),
        run_ms=round((turn.last - turn.began) * 1e3, 3),
        metadata=asked.metadata,
        descriptors=described.numbers,
        words=described.words if keep.words else None,
        generation=generation,
    )
    return prediction, generation
