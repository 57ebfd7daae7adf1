"""The pretrained encoder: loaded without code of its own, run over texts, its layers told apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from trainer.errors import BaseModelError
from trainer.tokens import by_length, padded

Array = np.ndarray[Any, np.dtype[Any]]
COUNT_FROM_PADDING = {
    "camembert", "data2vec-text", "ibert", "longformer", "luke", "mpnet", "roberta", "roberta-prelayernorm",
    "xlm-roberta", "xlm-roberta-xl", "xmod",
}  # fmt: skip
LAYER_LISTS = ("encoder.layer", "encoder.layers", "transformer.layer", "layers")
UNUSED = ("pooler.",)  # the embedding is a mean of the last layer's states
MEND = "Use an encoder such as BERT, RoBERTa or MiniLM."
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
        model, told = transformers.AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype="float32",
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        why = f"transformers cannot load it ({str(error).splitlines()[0]})"
        raise BaseModelError(folder, why, MEND) from error
    _refuse_incomplete(folder, model, told["missing_keys"])
    return model.eval().requires_grad_(False)


def _refuse_incomplete(folder: Path, model: Any, missing: Iterable[str]) -> None:
    """transformers only warns of weights that are not in the file, and fills them with random numbers."""
    import torch

    absent = sorted(name for name in missing if not name.startswith(UNUSED))
    if absent:
        why = f"{len(absent)} of its weights are not in the file ({', '.join(absent[:3])})"
        raise BaseModelError(folder, why, "Save the whole encoder again.")
    broken = [name for name, one in model.named_parameters() if not bool(torch.isfinite(one).all())]
    if broken:
        why = f"its weights are not all finite numbers ({', '.join(broken[:3])})"
        raise BaseModelError(folder, why, "Take a checkpoint from before its training diverged.")
    if getattr(model.config, "is_encoder_decoder", False):
        raise BaseModelError(folder, "it is an encoder with a decoder", MEND)


def layers(model: Any) -> Any | None:
    """The list of layers of an encoder that can be run one after the other on states and a mask alone.

    None where it cannot: where its layers are not found, share weights, or are told more than that (relative
    or rotary positions, ModernBERT's windows). Such an encoder is trained whole.
    """
    found = None
    for path in LAYER_LISTS:
        found = found or _part(model, path)
    return found if found is not None and _stand_alone(model, found) else None


def _part(model: Any, path: str) -> Any | None:
    for name in path.split("."):
        model = getattr(model, name, None)
    return model


def _stand_alone(model: Any, found: Any) -> bool:
    """Whether the layers alone say what the whole encoder says of two short texts."""
    import torch

    tokens = torch.arange(2, 12).view(2, 5) % model.config.vocab_size
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    caught: list[Any] = []
    hook = found[0].register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    try:
        with torch.inference_mode():
            whole = model(input_ids=tokens, attention_mask=mask).last_hidden_state
            states = caught[0]
            for layer in found:
                states = layer(states, mask[:, None, None, :].bool())
            return bool(torch.allclose(states[mask.bool()], whole[mask.bool()], atol=1e-4, rtol=1e-3))
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
        return False
    finally:
        hook.remove()


def pool(hidden: Any, mask: Any) -> Any:
    """Mean over the tokens of the mask, unit length: [rows, tokens, hidden] → [rows, hidden].

    Every sum is a product of matrices: ONNX Runtime's ReduceSum rounds differently for a single row, and an
    answer must not depend on its batch mates. torch's normalize would export as an Expand at which the graph
    optimiser's shape inference gives up.
    """
    kept = mask.unsqueeze(1).to(hidden.dtype)
    return unit(kept @ hidden / kept.sum(2, keepdim=True))


def unit(mean: Any) -> Any:
    """Vectors of unit length: [rows, 1, hidden] → [rows, hidden]."""
    length = (mean @ mean.transpose(1, 2)).clamp_min(1e-24).sqrt()  # [rows, 1, 1]
    return (mean / length).squeeze(1)


def first_position(config: Any) -> int:
    """Number of the first token's place: RoBERTa's kin count on from the number of the padding token."""
    return config.pad_token_id + 1 if config.model_type in COUNT_FROM_PADDING else 0


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
