"""Which of the answers that clients got count for the champion."""

from __future__ import annotations

from typing import get_args

from sqlalchemy import Engine

from exporter.generation import FinishReason, Generation, insert_generations
from monitor.compare_answers import _recorded
from monitor.compose import Pairing
from tests.monitor.test_compare import NEW, record

REASONS: tuple[FinishReason, ...] = get_args(FinishReason)


def generation(reason: FinishReason) -> Generation:
    return Generation(
        answer=f"it ended by {reason}", prompt_tokens=3, completion_tokens=2, finish_reason=reason,
        first_token_ms=1.0, tokens_per_s=None, mean_logprob=-1.0, min_logprob=-2.0,
        temperature=1.0, top_p=1.0, seed=0, guided=False,
    )  # fmt: skip


def test_an_answer_that_broke_off_is_not_held_against_the_champion(db: Engine) -> None:
    ids = tuple(f"p{number}" for number in range(len(REASONS)))
    record(db, ids, NEW[: len(REASONS)])
    with db.begin() as connection:
        insert_generations(
            connection, [(id_, generation(one)) for id_, one in zip(ids, REASONS, strict=True)]
        )
    found = _recorded(db, Pairing(parent="v1", base_rows=10, recent_ids=ids, labels_used=4))
    assert {row: one.answer for row, one in found.items()} == {
        10 + REASONS.index(reason): f"it ended by {reason}" for reason in ("stop", "length")
    }
