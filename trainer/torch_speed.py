"""What an exported engine is to beat: the same encoder in torch, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from trainer.encoder import load_encoder, pool
from trainer.fit import use_threads
from trainer.tokens import by_length, padded

Way = Literal["eager", "compile"]
BATCH = {"cpu": 8, "cuda": 256}  # texts


def torch_run(
    base: Path,
    ids: Sequence[Sequence[int]],
    *,
    threads: int,
    way: Way,
    device: Literal["cpu", "cuda"] = "cpu",
) -> Callable[[], object]:
    """A pass of the base model over texts as tokens: sorted by length, BATCH padded together, pooled.

    In half precision on a GPU, which nobody has tried yet. With "compile" by torch.compile with dynamic
    shapes; the first pass compiles, which takes a minute. Weights are those of the base, not of a version:
    they take the same time. Raises BaseModelError.
    """
    import torch

    use_threads(threads)
    encoder = load_encoder(base)
    if device == "cuda":
        encoder = encoder.half().to(device)
    batches = [
        tuple(torch.from_numpy(part).to(device) for part in padded([ids[row] for row in batch]))
        for batch in by_length([len(one) for one in ids], BATCH[device])
    ]

    def embed(tokens: Any, mask: Any) -> Any:
        return pool(encoder(input_ids=tokens, attention_mask=mask).last_hidden_state, mask)

    forward = torch.compile(embed, dynamic=True) if way == "compile" else embed

    def run() -> Any:
        with torch.inference_mode():
            return [forward(*batch).cpu() for batch in batches]

    return run
