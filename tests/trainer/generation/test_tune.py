"""From rows to a fitted adapter in one call."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.errors import FindingError
from trainer.generation.decoder import save_adapter
from trainer.generation.errors import AdapterError, ContextError
from trainer.generation.generate import greedy
from trainer.generation.rows import Completion, Sample, chat
from trainer.generation.settings import GenerationFit
from trainer.generation.tune import tune

FIT = GenerationFit(
    threads=1, epochs=12, learning_rate=0.02, batch_tokens=256, pass_tokens=256, max_tokens=120, patience=0
)
WHERE: list[Sample] = [
    chat(("system", "?"), ("user", f"where is {n}"), ("assistant", "home"))
    for n in ["pear", "plum", "corn", "rice"]
]


def test_rows_are_sifted_drawn_and_learnt(base: Path) -> None:
    new: list[Sample] = [chat(("system", "?"), ("user", "who is it"), ("assistant", "me"), origin="traffic")]
    empty: list[Sample] = [chat(("user", "hello there"), ("assistant", ""))]
    done = tune(base, [*WHERE, *new, *empty], WHERE[:1], FIT.model_copy(update={"replay_rows": 2}))
    assert done.rows == 3
    assert "empty_answers" in [one.kind for one in done.findings]
    assert greedy(done.decoder, new, new_tokens=6) == ["me"]


def test_a_refused_finding_ends_it_before_the_fit(base: Path) -> None:
    with pytest.raises(FindingError, match="leakage"):
        tune(base, WHERE, WHERE[:1], FIT, on_finding={"leakage": "refuse"})


def test_more_tokens_than_the_base_reads_are_refused_with_both_numbers(base: Path) -> None:
    with pytest.raises(ContextError, match=r"512.*256"):
        tune(base, WHERE, [], FIT.model_copy(update={"max_tokens": 512}))


def test_completions_need_no_chat_template(tmp_path: Path) -> None:
    from tests.trainer.generation.conftest import build

    rows: list[Sample] = [Completion(prompt=f"{n} is", answer=" red") for n in ("rose", "wine", "fire")]
    done = tune(build(tmp_path, template=None), rows, [], FIT.model_copy(update={"epochs": 25}))
    assert greedy(done.decoder, rows, new_tokens=6) == [" red"] * 3


def test_a_child_begins_with_its_parents_adapter(base: Path, tmp_path: Path) -> None:
    still = FIT.model_copy(update={"learning_rate": 1e-9, "epochs": 1})
    save_adapter(tune(base, WHERE, [], FIT).decoder, tmp_path / "parent")
    child = tune(base, WHERE, [], still, adapter=tmp_path / "parent").decoder
    assert greedy(child, WHERE, new_tokens=6) == ["home"] * 4
    assert greedy(tune(base, WHERE, [], still).decoder, WHERE, new_tokens=6) != ["home"] * 4
    with pytest.raises(AdapterError, match="its lora_rank is 8, the spec's 4"):
        tune(base, WHERE, [], FIT.model_copy(update={"lora_rank": 4}), adapter=tmp_path / "parent")


def test_the_proof_does_not_choose_the_weights(base: Path) -> None:
    """Other held-out rows, the same weights: what proves a version has no part in making it."""
    patient = FIT.model_copy(update={"epochs": 2, "patience": 1, "looks": 2, "validation_share": 0.25})
    other: list[Sample] = [chat(("user", "who are you"), ("assistant", "nobody at all"))]
    fits = [tune(base, WHERE, held, patient).fit for held in ([], other)]
    assert fits[0].held_out == fits[1].held_out
    assert len(fits[0].held_out) == 2
