"""Answers of a decoder in memory, greedily, a few rows at a time: for evaluation, never for serving."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trainer.generation.decoder import Decoder
from trainer.generation.rows import Sample
from trainer.tokens import by_length, padded

TOGETHER = 16


def greedy(decoder: Decoder, samples: Sequence[Sample], *, new_tokens: int = 64) -> list[str]:
    """The likeliest next token after the next, until the end token; one answer a row."""
    import torch

    prompts = [decoder.template.prompt(sample) for sample in samples]
    answers = [""] * len(samples)
    decoder.model.eval()
    with torch.inference_mode():
        for batch in by_length([len(one) for one in prompts], TOGETHER):
            for row, ids in zip(
                batch, _run(decoder, [prompts[row] for row in batch], new_tokens), strict=True
            ):
                answers[row] = decoder.template.decode(ids)
    return answers


def _run(decoder: Decoder, prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
    import torch

    ids, mask = (torch.from_numpy(part[:, ::-1].copy()) for part in padded([row[::-1] for row in prompts]))
    tokenizer: Any = decoder.template.tokenizer
    found = decoder.model.generate(
        input_ids=ids,
        attention_mask=mask,
        do_sample=False,
        max_new_tokens=new_tokens,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    return [row[ids.shape[1] :].tolist() for row in found]
