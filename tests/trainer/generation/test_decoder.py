"""Decoders and adapters on disk, and the answers that they give."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.trainer.generation.conftest import build
from trainer.errors import BaseModelError
from trainer.generation.decoder import (
    BASE,
    Decoder,
    load_adapter,
    load_decoder,
    save_adapter,
    save_merged,
    with_adapter,
)
from trainer.generation.errors import AdapterError, NoChatTemplateError, PrecisionError
from trainer.generation.evaluate import answered, forgetting, losses
from trainer.generation.fit import fit_adapter
from trainer.generation.generate import greedy
from trainer.generation.rows import Completion, Sample, chat
from trainer.generation.settings import GenerationFit
from trainer.generation.typos import with_typos

FIT = GenerationFit(threads=1, epochs=12, learning_rate=0.02, batch_tokens=256, pass_tokens=256, patience=0)
ROWS: list[Sample] = [
    chat(("system", "?"), ("user", f"where is {n}"), ("assistant", '{"at": "home"}')) for n in range(12)
]


@pytest.fixture
def taught(base: Path) -> Decoder:
    decoder = with_adapter(load_decoder(base), FIT)
    fit_adapter(decoder, [decoder.template.tokens(row) for row in ROWS], [], FIT)
    return decoder


def test_a_taught_decoder_answers_and_is_the_same_from_disk(
    taught: Decoder, base: Path, tmp_path: Path
) -> None:
    assert greedy(taught, ROWS[:3], new_tokens=20) == ['{"at": "home"}'] * 3
    wanted = losses(taught, ROWS)["loss"]
    adapter = save_adapter(taught, tmp_path / "adapter")
    assert {"adapter_config.json", "adapter_model.safetensors", BASE} <= {p.name for p in adapter.iterdir()}
    assert losses(load_adapter(load_decoder(base), adapter), ROWS)["loss"] == pytest.approx(wanted, abs=1e-5)
    merged = load_decoder(save_merged(base, adapter, tmp_path / "merged"))
    assert losses(merged, ROWS)["loss"] == pytest.approx(wanted, abs=1e-4)
    assert not list((tmp_path / "merged").glob("*.bin"))


def test_an_answer_does_not_depend_on_what_is_answered_beside_it(taught: Decoder) -> None:
    rows = [*ROWS[:2], chat(("user", "a much longer question than the others " * 3), ("assistant", ""))]
    together = greedy(taught, rows, new_tokens=8)
    assert together == [greedy(taught, [row], new_tokens=8)[0] for row in rows]


def test_what_was_learnt_is_told_from_what_was_not(taught: Decoder) -> None:
    schema = {"type": "object", "required": ["at"]}
    found = answered(greedy(taught, ROWS[:2], new_tokens=20), ROWS[:2], schema=schema)
    assert found["exact_match"] == found["follows_schema"] == 1.0
    general = losses(taught, [Completion(prompt="once upon", answer=" a time")])
    assert losses(taught, ROWS[:4])["perplexity"] < 3 < general["perplexity"]
    assert forgetting(losses(taught, []), general) is None


def test_typos_are_in_the_last_question_only_and_the_same_each_time() -> None:
    row = chat(
        ("user", "earlier words stay"),
        ("assistant", "yes"),
        ("user", "where are they going"),
        ("assistant", "home"),
    )
    slipped = with_typos(row, share=1.0, seed=3)
    assert slipped == with_typos(row, share=1.0, seed=3) != row
    assert slipped.prompt != row.prompt
    assert [a == b for a, b in zip(slipped.messages, row.messages, strict=True)] == [True, True, False, True]  # type: ignore[union-attr]
    assert with_typos(Completion(prompt="a b", answer="c"), share=1.0, seed=0).prompt == "a b"


def test_an_adapter_of_another_base_is_refused(taught: Decoder, tmp_path: Path) -> None:
    adapter = save_adapter(taught, tmp_path / "adapter")
    other = load_decoder(build(tmp_path / "other", seed=1))
    with pytest.raises(AdapterError, match="another base"):
        load_adapter(other, adapter)
    (adapter / BASE).write_text(json.dumps({}), encoding="utf-8")
    with pytest.raises(AdapterError, match="which base"):
        load_adapter(other, adapter)


def test_a_torn_adapter_is_refused(taught: Decoder, base: Path, tmp_path: Path) -> None:
    adapter = save_adapter(taught, tmp_path / "adapter")
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    with pytest.raises(AdapterError):
        load_adapter(load_decoder(base), adapter)


def test_bases_that_cannot_be_used_say_why(base: Path, tmp_path: Path) -> None:
    with pytest.raises(NoChatTemplateError, match="chat template"):
        load_decoder(build(tmp_path / "mute", template=None))
    assert load_decoder(tmp_path / "mute", converses=False).context == 256
    with pytest.raises(PrecisionError, match="bf16, fp32"):
        load_decoder(base, precision="int3")
    with pytest.raises(BaseModelError):
        load_decoder(tmp_path / "nowhere")
    with pytest.raises(BaseModelError, match="projections"):
        with_adapter(load_decoder(base), FIT.model_copy(update={"projections": ("query",)}))
