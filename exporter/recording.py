"""One answered text as the ledger keeps it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from exporter.deployed import Deployed
from exporter.descriptors import describe
from exporter.engines import Answer
from exporter.prediction import Metadata, Prediction
from exporter.redact import Keep
from trainer.tagging import TASK as TAGGING


@dataclass(frozen=True, slots=True)
class Input:
    """A text as the engine may see it (see redact.storable), and the client's own slices."""

    text: str
    metadata: Metadata = field(default_factory=dict)


def recorded(
    deployed: Deployed,
    given: Input,
    answer: Answer,
    *,
    id_: str,
    at: float,
    queue_ms: float,
    run_ms: float,
    keep: Keep,
) -> Prediction:
    """The row of an answer; descriptors are of the raw text, which itself goes through `keep`."""
    described = describe(given.text)
    return Prediction(
        id=id_,
        model=deployed.model,
        version=deployed.version,
        role=deployed.role,
        at=at,
        text=keep.text(given.text, in_place=deployed.manifest.task == TAGGING),
        label=answer.label,
        score=answer.score,
        scores=answer.scores,
        embedding=answer.embedding,
        similarity=answer.similarity,
        tokens=answer.tokens,
        characters=len(given.text),
        truncated=answer.truncated,
        queue_ms=round(queue_ms, 3),
        run_ms=round(run_ms, 3),
        metadata=given.metadata,
        descriptors=described.numbers,
        words=described.words if keep.words else None,
        parts=answer.parts,
    )


def prediction_id(now: float) -> str:
    """Unique, and sorting by millisecond, so that the database's index grows at its end."""
    return f"{int(now * 1e3):012x}{os.urandom(10).hex()}"
