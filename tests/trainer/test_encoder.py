"""A base model is loaded whole or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.trainer.encoders import BUILDERS, SIZES, encoder
from trainer.encoder import load_encoder
from trainer.errors import BaseModelError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    encoder("bert").save_pretrained(tmp_path)
    return tmp_path


def _without_a_layer(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    kept = {name: one for name, one in weights.items() if "layer.1.attention" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def _with_nan(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.0.output.dense.weight"][0, 0] = math.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _cut(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def _of_another_size(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 41}), encoding="utf-8")


def _strange(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(
        json.dumps(config | {"model_type": "of the future"}), encoding="utf-8"
    )


SPOILED: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing weights": (_without_a_layer, "10 of its weights are not in the file"),
    "NaN weights": (_with_nan, "not all finite"),
    "cut file": (_cut, "transformers cannot load it"),
    "weights of another size": (_of_another_size, "transformers cannot load it"),
    "unknown architecture": (_strange, "transformers cannot load it"),
}


@pytest.mark.parametrize("case", SPOILED)
def test_a_spoiled_encoder_is_refused(case: str, folder: Path) -> None:
    spoil, why = SPOILED[case]
    spoil(folder)
    with pytest.raises(BaseModelError, match=why):
        load_encoder(folder)


def test_an_encoder_with_a_decoder_is_refused(tmp_path: Path) -> None:
    import transformers

    config = transformers.T5Config(vocab_size=40, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4)
    transformers.T5Model(config).save_pretrained(tmp_path)
    with pytest.raises(BaseModelError, match="an encoder with a decoder"):
        load_encoder(tmp_path)


def test_tied_weights_of_another_head_and_a_pooler_nobody_reads_are_no_fault(tmp_path: Path) -> None:
    """A masked language model: its output is tied to its input, and it has no pooler."""
    import torch
    import transformers

    whole = transformers.BertForMaskedLM(transformers.BertConfig(**SIZES, tie_word_embeddings=True))
    whole.save_pretrained(tmp_path)
    loaded = load_encoder(tmp_path)
    assert torch.equal(loaded.embeddings.word_embeddings.weight, whole.bert.embeddings.word_embeddings.weight)


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_every_architecture_loads_from_its_folder(name: str, tmp_path: Path) -> None:
    encoder(name).save_pretrained(tmp_path)
    assert type(load_encoder(tmp_path)) is type(encoder(name))
