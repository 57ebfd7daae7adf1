"""Rows of the table `generations`."""

from __future__ import annotations

from exporter.generation import FinishReason, Generation


def generation(reason: FinishReason) -> Generation:
    return Generation(
        answer=f"it ended by {reason}", prompt_tokens=3, completion_tokens=2, finish_reason=reason,
        first_token_ms=1.0, tokens_per_s=None, mean_logprob=-1.0, min_logprob=-2.0,
        temperature=1.0, top_p=1.0, seed=0, guided=False,
    )  # fmt: skip
