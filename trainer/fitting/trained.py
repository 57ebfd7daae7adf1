"""Which weights of an encoder a rung moves, and how to run them on rows of the training texts.

The layers below the lowest one that moves are frozen, so what enters it is computed once and kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.encoder import ROWS, Embedded, layers, pool
from trainer.errors import BaseModelError
from trainer.fitting.table import Deep, FitTable
from trainer.head import Head
from trainer.tokens import by_length, padded

Array = np.ndarray[Any, np.dtype[Any]]

PROJECTIONS = ("query", "value", "q_proj", "v_proj", "q_lin", "v_lin", "Wqkv", "qkv_proj")


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Token numbers, the task's targets ([rows] or [rows, labels]), what the frozen encoder made of
    the texts.

    `first` is the layer whose input `frozen.hidden` holds, None where nothing was kept.
    """

    ids: list[list[int]]
    truth: Array
    frozen: Embedded
    first: int | None


def first_trained(model: Any, fit: FitTable, rung: Deep) -> int | None:
    """Number of the lowest layer that a rung moves; None where it moves all, or they cannot be told apart."""
    found = layers(model)
    if found is None or rung == "full":
        return None
    return max(0, len(found) - (fit.lora_layers if rung == "adapter" else fit.top_layers))


class Trained:
    """The part of an encoder that one rung trains, under a head.

    Raises BaseModelError where the encoder has no layers, or no attention projections, that the rung knows.
    """

    def __init__(self, encoder: Any, head: Head, texts: Texts, fit: FitTable, rung: Deep) -> None:
        import torch

        torch.manual_seed(fit.seed)
        self.texts, self.rung, self.encoder, self._noise = texts, rung, encoder, fit.neftune_alpha
        start = first_trained(encoder, fit, rung)
        self._whole = start is None or texts.first is None
        self.module = encoder
        if not self._whole:
            self.module = torch.nn.Module()
            self.module.layer = layers(encoder)[texts.first :]  # type: ignore[index]
        self._adapted = self._unfrozen(fit, 0 if start is None else start - (texts.first or 0))
        _set_dropout(encoder, fit.dropout)
        if fit.gradient_checkpointing and rung == "full":
            encoder.activation_checkpointing_enable()
        if fit.neftune_alpha and self._whole:
            encoder.get_input_embeddings().register_forward_hook(lambda _, __, out: self._noisy(out, None))
        self.head = torch.nn.Linear(head.weight.shape[1], head.weight.shape[0])
        self.head.weight.data, self.head.bias.data = torch.tensor(head.weight), torch.tensor(head.bias)

    def tensors(self) -> dict[str, Any]:
        """The parameters that move, by name."""
        moved = {name: part for name, part in self.module.named_parameters() if part.requires_grad}
        return moved | {"head.weight": self.head.weight, "head.bias": self.head.bias}

    def embed(self, rows: Sequence[int] | Array) -> Any:
        """Unit embeddings [rows, hidden], with gradients where weights move."""
        import torch

        tokens, mask = map(torch.from_numpy, padded([self.texts.ids[i] for i in rows]))
        if self._whole:
            return pool(self.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state, mask)
        states = torch.nn.utils.rnn.pad_sequence(
            [self.texts.frozen.hidden[i] for i in rows], batch_first=True
        ).float()
        states = self._noisy(states, mask)
        seen = None if bool(mask.all()) else mask[:, None, None, :].bool()
        for layer in self.module.layer:
            states = layer(states, seen)
        return pool(states, mask)

    def logits(self, rows: Sequence[int] | Array) -> Array:
        """Logits [rows, labels], without dropout or gradients."""
        import torch

        self.module.eval()
        found: Array = np.zeros((len(rows), self.head.out_features), dtype=np.float32)
        with torch.no_grad():
            for batch in by_length([len(self.texts.ids[row]) for row in rows], ROWS):
                found[batch] = self.head(self.embed([int(rows[i]) for i in batch])).float().numpy()
        return found

    def finished(self) -> tuple[Head, Array]:
        """The head, and embeddings [rows, hidden] of every text; adapters go into the encoder's weights."""
        import torch

        if self._adapted is not None:
            self._adapted.merge_and_unload()
        self.encoder.eval().requires_grad_(False)
        rows = len(self.texts.ids)
        embeddings: Array = np.zeros((rows, self.head.in_features), dtype=np.float32)
        with torch.no_grad():
            for batch in by_length([len(row) for row in self.texts.ids], ROWS):
                embeddings[batch] = self.embed(batch).numpy()
        weight, bias = (part.detach().numpy().copy() for part in (self.head.weight, self.head.bias))
        return Head(weight=weight, bias=bias), embeddings

    def _unfrozen(self, fit: FitTable, skipped: int) -> Any | None:
        """Let the rung's weights move; the peft model where they are adapters."""
        if self.rung == "adapter":
            return _with_adapters(self.module, fit, skipped)
        if self.rung == "full":
            self.module.requires_grad_(True)
        elif self._whole:
            why = "its layers cannot be told apart"
            raise BaseModelError(type(self.module).__name__, why, 'Use [fit] rung = "head" or "full".')
        else:
            for layer in self.module.layer[skipped:]:
                layer.requires_grad_(True)
        return None

    def _noisy(self, states: Any, mask: Any) -> Any:
        """NEFTune (Jain et al. 2023, arXiv 2310.05914), on what enters the lowest layer that is run."""
        import torch

        if not self._noise or not self.module.training:
            return states
        tokens = states.shape[1] if mask is None else mask.sum(1).view(-1, 1, 1)
        size = self._noise / (tokens * states.shape[2]) ** 0.5
        return states + (torch.rand_like(states) * 2 - 1) * size


def _with_adapters(module: Any, fit: FitTable, skipped: int) -> Any:
    import peft

    names = [name for name, _ in module.named_modules() if name.rpartition(".")[2] in PROJECTIONS]
    names = [name for name in names if not any(name.startswith(f"layer.{low}.") for low in range(skipped))]
    if not names:
        why = "none of its parts is a known attention projection"
        raise BaseModelError(type(module).__name__, why, 'Use [fit] rung = "head" or "full".')
    config = peft.LoraConfig(
        r=fit.lora_rank,
        lora_alpha=2 * fit.lora_rank,
        target_modules=names,
        use_dora=fit.lora_variant == "dora",
        use_rslora=fit.lora_variant == "rslora",
    )
    return peft.get_peft_model(module, config)


def _set_dropout(encoder: Any, share: float) -> None:
    import torch

    for part in encoder.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = share
