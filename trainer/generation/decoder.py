"""Decoders on disk: a base folder read, an adapter on it, and both written again (safetensors only)."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from trainer.errors import BaseModelError
from trainer.generation.errors import AdapterError, NoChatTemplateError, PrecisionError
from trainer.generation.settings import GenerationFit
from trainer.generation.template import Template
from trainer.sources import base_sha256
from trainer.tabular import write_bytes

BASE = "base.json"  # beside an adapter: sha256 of the base it belongs to
MEND = "Use a Transformers folder with safetensors weights and tokenizer.json."


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """A causal language model, with or without an adapter, and how to write rows for it."""

    model: Any
    template: Template
    folder: Path  # of the base

    @property
    def context(self) -> int:
        """The most tokens that it can read."""
        return int(getattr(self.model.config, "max_position_embeddings", 2**31))


def load_decoder(folder: Path, *, precision: str = "fp32", converses: bool = True) -> Decoder:
    """Read a base folder; NoChatTemplateError where it `converses` and cannot, else BaseModelError."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if precision not in kinds:
        raise PrecisionError(precision, sorted(kinds))
    template = load_template(folder, converses=converses)
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=kinds[precision], use_safetensors=True, local_files_only=True
        )
    except (OSError, ValueError) as error:
        raise BaseModelError(folder, str(error).splitlines()[0], MEND) from error
    model.eval().requires_grad_(False)
    return Decoder(model=model, template=template, folder=folder)


def load_template(folder: Path, *, converses: bool = True) -> Template:
    """The tokenizer of a base folder and its chat template; raises as `load_decoder` does."""
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise BaseModelError(folder, str(error).splitlines()[0], MEND) from error
    if converses and not tokenizer.chat_template:
        raise NoChatTemplateError(folder)
    return Template(tokenizer)


def with_adapter(decoder: Decoder, fit: GenerationFit) -> Decoder:
    """A fresh LoRA or DoRA adapter on the top layers, by the seed; in fp32 whatever the base is in."""
    import peft
    import torch

    torch.manual_seed(fit.seed)
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=fit.lora_rank,
        lora_alpha=fit.lora_alpha,
        lora_dropout=fit.lora_dropout,
        use_dora=fit.dora,
        target_modules=list(fit.projections),
        layers_to_transform=_layers(decoder, fit),
    )
    try:
        with _quietly():
            adapted = peft.get_peft_model(decoder.model, config)
    except ValueError as error:
        why = f"it has none of the projections {', '.join(fit.projections)}"
        raise BaseModelError(decoder.folder, why, "Name others under `projections`.") from error
    return Decoder(model=adapted, template=decoder.template, folder=decoder.folder)


def with_adapter_of(decoder: Decoder, folder: Path, fit: GenerationFit) -> Decoder:
    """A saved adapter to go on from; AdapterError where it has another base, or not the shape of `fit`."""
    adapted = load_adapter(decoder, folder, trainable=True)
    found = adapted.model.peft_config["default"]
    asked = {
        "lora_rank": (found.r, fit.lora_rank),
        "lora_alpha": (found.lora_alpha, fit.lora_alpha),
        "dora": (bool(found.use_dora), fit.dora),
        "projections": (sorted(found.target_modules), sorted(fit.projections)),
        "lora_layers": (found.layers_to_transform, _layers(decoder, fit)),
    }
    for key, (theirs, ours) in asked.items():
        if theirs != ours:
            raise AdapterError(folder, f"its {key} is {theirs}, the spec's {ours}")
    return adapted


def load_adapter(decoder: Decoder, folder: Path, *, trainable: bool = False) -> Decoder:
    """A saved adapter on its base; AdapterError where it belongs to another one."""
    import peft

    found = _base_of(folder)
    if found != base_sha256(decoder.folder):
        raise AdapterError(folder, f"it was trained on another base (sha256 {found[:12]}…)")
    try:
        with _quietly():
            adapted = peft.PeftModel.from_pretrained(decoder.model, folder, is_trainable=trainable)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise AdapterError(folder, str(error).splitlines()[0]) from error
    return Decoder(model=adapted, template=decoder.template, folder=decoder.folder)


def save_adapter(decoder: Decoder, folder: Path) -> Path:
    """Write the adapter alone, as peft does, and the sha256 of its base last."""
    for config in decoder.model.peft_config.values():
        config.base_model_name_or_path = decoder.folder.name  # not where it lies on this machine
    # "auto" would look for the embeddings of a base of that name on the hub.
    decoder.model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
    write_bytes(folder / BASE, json.dumps({"sha256": base_sha256(decoder.folder)}).encode())
    return folder


def save_merged(base: Path, adapter: Path, folder: Path) -> Path:
    """Write the base with a saved adapter merged in, as a Transformers folder, always in fp32."""
    decoder = load_adapter(load_decoder(base, converses=False), adapter)
    decoder.model.merge_and_unload().save_pretrained(folder, safe_serialization=True)
    decoder.template.tokenizer.save_pretrained(folder)
    return folder


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what peft 0.21 has transformers 5.23 say about a name that peft uses."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def _layers(decoder: Decoder, fit: GenerationFit) -> list[int] | None:
    total = int(decoder.model.config.num_hidden_layers)
    return None if fit.lora_layers is None else list(range(max(0, total - fit.lora_layers), total))


def _base_of(folder: Path) -> str:
    try:
        return str(json.loads((folder / BASE).read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(folder, f"it does not say which base it belongs to ({BASE})") from error
