"""A finished turn as the ledger keeps it."""

from __future__ import annotations

from math import exp

from exporter.answers import describe_answer
from exporter.descriptors import describe
from exporter.generating.turn import Turn
from exporter.generation import Generation
from exporter.prediction import Prediction
from exporter.redact import Keep, storable
from trainer.generation.answers import Said, mean


def recorded(turn: Turn, *, at: float, keep: Keep) -> tuple[Prediction, Generation]:
    """The prediction and, in it as well, what belongs to a generation. The turn has a token and an end."""
    assert turn.finish is not None
    asked, deployed, count = turn.asked, turn.deployed, len(turn.tokens)
    described = describe(asked.text)
    likely = sum(turn.logprobs) / count
    spent = turn.last - turn.first
    generation = Generation(
        answer=keep.text(storable(turn.text)),
        prompt_tokens=len(turn.ids),
        completion_tokens=count,
        finish_reason=turn.finish,
        first_token_ms=round((turn.first - turn.arrived) * 1e3, 3),
        tokens_per_s=round((count - 1) / spent, 3) if spent > 0 else None,
        mean_logprob=likely,
        min_logprob=min(turn.logprobs),
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
        score=exp(likely),
        scores=(),
        embedding=b"",
        similarity=None,
        tokens=len(turn.ids),
        characters=len(asked.text),
        truncated=False,
        queue_ms=round((turn.began - turn.arrived) * 1e3, 3),
        run_ms=round((turn.last - turn.began) * 1e3, 3),
        metadata=asked.metadata,
        descriptors=(*described.numbers, *_described(turn)),
        words=described.words if keep.words else None,
        generation=generation,
    )
    return prediction, generation


def _described(turn: Turn) -> tuple[float | None, ...]:
    """Descriptors of prompt and answer (exporter.answers)."""
    asked, most = turn.asked, turn.engine.answer_tokens
    alike = asked.temperature == 0 and asked.schema is None and not asked.stops
    alike = alike and most is not None and turn.limit >= most and turn.finish in ("stop", "length")
    text, logprobs = turn.text, turn.logprobs[:most]
    if len(turn.tokens) > len(logprobs):
        text = turn.engine.tokenizer.decode(turn.tokens[:most])
    said = Said(text, len(logprobs), mean(logprobs), mean(turn.prompt_logprobs))
    return describe_answer(said, alike=alike)
