"""What is kept of one generated answer beside its prediction: the row of `generations`.

Its prediction has the prompt as its text, the finish reason as its label, and as its score the geometric mean
of the answer's token probabilities; so what watches predictions watches generations, too.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, case, func, insert, select

from exporter.tables import generations, labels, predictions

WHITE = " \t\n\r\v\f"

# "cancelled": the client went away before the end; "error": the engine failed in the middle of the answer
FinishReason = Literal["stop", "length", "cancelled", "error"]
WHOLE: tuple[FinishReason, ...] = ("stop", "length")


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    answer: str | None  # by the text policy
    prompt_tokens: int
    completion_tokens: int
    finish_reason: FinishReason
    first_token_ms: float  # since the request arrived
    tokens_per_s: float | None  # after the first one; None where there is no other
    mean_logprob: float  # of the answer's tokens under the model: temperature 1, no top_p, no schema
    min_logprob: float
    temperature: float
    top_p: float
    seed: int
    guided: bool  # by a JSON schema


def said() -> ColumnElement[str]:
    """What a row of `predictions` answered, to be held against its label: the generated answer or the class.

    White space around an answer does not count (trainer.generation.metrics.exact_match). NULL where nobody
    can say whether the answer was right: it was not kept, or only as a hash, or it broke off.
    """
    own = generations.c.prediction_id == predictions.c.id
    generated = select(generations.c.prediction_id).where(own).exists()
    answer = select(func.trim(generations.c.answer, WHITE)).where(own, *_judged()).scalar_subquery()
    return case((generated, answer), else_=predictions.c.label)


def told() -> ColumnElement[str]:
    """The label of a row, to be compared with `said`; NULL where there is nothing to compare it with."""
    own = generations.c.prediction_id == labels.c.prediction_id
    generated = select(generations.c.prediction_id).where(own)
    return case(
        (generated.where(*_judged()).exists(), func.trim(labels.c.label, WHITE)),
        (generated.exists(), None),
        else_=labels.c.label,
    )


def _judged() -> tuple[ColumnElement[bool], ...]:
    """Answers that can be right or wrong."""
    answer = generations.c.answer
    return answer.is_not(None), answer.not_like("sha256:%"), generations.c.finish_reason.in_(WHOLE)


def insert_generations(connection: Connection, pairs: list[tuple[str, Generation]]) -> None:
    """`pairs`: prediction id and what belongs to it, in the transaction that stores the predictions."""
    if pairs:
        connection.execute(insert(generations), [{"prediction_id": id_} | asdict(one) for id_, one in pairs])


def from_ledger(found: dict[str, Any]) -> Generation:
    """What `asdict` made. Raises TypeError for anything else."""
    return Generation(**found)
