"""The pretrained encoder: loaded without code of its own, run over texts, its layers told apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainer.errors import BaseModelError
from trainer.tokens import by_length, padded

Array = np.ndarray[Any, np.dtype[Any]]
ROWS = 32  # texts per forward pass; more does not make a processor faster
Tick = Callable[[int, int], None]  # (rows done, rows in all)


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """What the frozen encoder says: unit embeddings [rows, hidden] and, per row, the input of one layer."""

    embeddings: Array
    hidden: list[Any]  # float16 tensors [tokens, hidden]; empty when no layer was asked for

    def take(self, rows: list[int]) -> Embedded:
        """Only these rows."""
        hidden = [self.hidden[row] for row in rows] if self.hidden else []
        return Embedded(embeddings=self.embeddings[rows], hidden=hidden)


def load_encoder(folder: Path) -> Any:
    """A transformers model in fp32 for inference; BaseModelError where the folder holds none."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    try:
        model = transformers.AutoModel.from_pretrained(
            folder,
            attn_implementation="sdpa",
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype="float32",
        )
    except (OSError, ValueError, KeyError) as error:
        why = f"transformers cannot load it ({str(error).splitlines()[0]})"
        raise BaseModelError(folder, why, "Use an encoder such as BERT, RoBERTa or MiniLM.") from error
    return model.eval().requires_grad_(False)


def layers(model: Any) -> Any | None:
    """The list of layers of a BERT-like encoder, None for an unknown architecture."""
    return getattr(getattr(model, "encoder", None), "layer", None)


def pool(hidden: Any, mask: Any) -> Any:
    """Mean over the tokens of the mask, unit length: [rows, tokens, hidden] → [rows, hidden].

    Every sum is a product of matrices: ONNX Runtime's ReduceSum rounds differently for a single row, and an
    answer must not depend on its batch mates. torch's normalize would export as an Expand at which the graph
    optimiser's shape inference gives up.
    """
    kept = mask.unsqueeze(1).to(hidden.dtype)
    mean = kept @ hidden / kept.sum(2, keepdim=True)  # [rows, 1, hidden]
    length = (mean @ mean.transpose(1, 2)).clamp_min(1e-24).sqrt()  # [rows, 1, 1]
    return (mean / length).squeeze(1)


def embed(model: Any, ids: Sequence[Sequence[int]], *, layer: int | None, tick: Tick) -> Embedded:
    """Run the frozen encoder once over every text, keeping the input of `layer` for training the rest."""
    import torch

    caught: list[Any] = []
    hook = None
    if layer is not None:
        hook = layers(model)[layer].register_forward_pre_hook(lambda _, given: caught.append(given[0]))  # type: ignore[index]
    embeddings: Array = np.zeros((len(ids), model.config.hidden_size), dtype=np.float32)
    hidden: list[Any] = [None] * len(ids) if layer is not None else []
    done = 0
    with torch.inference_mode():
        for batch in by_length([len(row) for row in ids], ROWS):
            tokens, mask = map(torch.from_numpy, padded([ids[i] for i in batch]))
            last = model(input_ids=tokens, attention_mask=mask).last_hidden_state
            embeddings[batch] = pool(last, mask).numpy()
            for row, states in zip(batch, caught.pop() if caught else [], strict=False):
                hidden[row] = states[: len(ids[row])].half()
            done += len(batch)
            tick(done, len(ids))
    if hook is not None:
        hook.remove()
    return Embedded(embeddings=embeddings, hidden=hidden)
