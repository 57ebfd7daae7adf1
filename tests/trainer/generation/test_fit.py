"""An adapter learns answers, is the same each time, stops in time and keeps its best weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch as safetensors

from trainer.generation.decoder import Decoder, load_decoder, with_adapter
from trainer.generation.errors import DivergedError, NothingToLearnError
from trainer.generation.fit import Fit, Moment, fit_adapter
from trainer.generation.frozen import lower_states, only
from trainer.generation.loss import held_out_loss, row_losses
from trainer.generation.plan import plan, replayed
from trainer.generation.rows import chat
from trainer.generation.settings import GenerationFit
from trainer.generation.template import Tokens

SETTINGS = GenerationFit(
    threads=1, epochs=6, learning_rate=0.02, batch_tokens=256, pass_tokens=256, patience=0
)
ANSWERS = {"fig": "sweet", "tin": "hard", "fog": "wet"}


def rows_of(decoder: Decoder, rows: int, start: int = 0) -> list[Tokens]:
    names = sorted(ANSWERS)
    samples = [
        chat(("system", "?"), ("user", f"{names[n % 3]} {n}"), ("assistant", ANSWERS[names[n % 3]]))
        for n in range(start, start + rows)
    ]
    return [decoder.template.tokens(sample) for sample in samples]


def fitted(base: Path, **changed: Any) -> tuple[Decoder, Fit, list[Moment]]:
    fit = SETTINGS.model_copy(update=changed)
    decoder = with_adapter(load_decoder(base, precision=fit.precision), fit)
    seen: list[Moment] = []
    done = fit_adapter(
        decoder, rows_of(decoder, 18), rows_of(decoder, 6, 100), fit, watch=seen.append, clock=lambda: 0.0
    )
    return decoder, done, seen


def weights(decoder: Decoder) -> Any:
    return np.concatenate(
        [
            part.detach().float().numpy().ravel()
            for name, part in decoder.model.named_parameters()
            if "lora" in name
        ]
    )


@pytest.mark.parametrize(
    "changed",
    [{}, {"batching": "packed"}, {"dora": True}, {"lora_layers": 2}, {"precision": "bf16"}],
    ids=["lora", "packed", "dora", "top layers", "bf16"],
)
def test_an_adapter_learns_the_answers(base: Path, changed: dict[str, Any]) -> None:
    bare = load_decoder(base)
    before = held_out_loss(bare.model, rows_of(bare, 6, 100)).loss
    decoder, done, _ = fitted(base, **changed)
    after = held_out_loss(decoder.model, rows_of(decoder, 6, 100)).loss
    assert before is not None
    assert after is not None
    assert after < 0.7 * before
    assert after == pytest.approx(min(loss for _, loss in done.held_out), abs=0.02)


def test_the_same_seed_gives_the_same_weights_and_another_one_does_not(base: Path) -> None:
    first, again, other = (weights(fitted(base, epochs=1, seed=seed)[0]) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_only_adapters_move(base: Path) -> None:
    decoder, _, _ = fitted(base, epochs=1)
    fresh = dict(load_decoder(base).model.named_parameters())
    kept = {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): part
        for name, part in decoder.model.named_parameters()
        if "lora" not in name
    }
    assert kept.keys() == fresh.keys()
    assert all(bool((kept[name] == fresh[name]).all()) for name in fresh)


def test_frozen_layers_computed_once_give_the_same_loss(base: Path) -> None:
    decoder = load_decoder(base)
    rows = rows_of(decoder, 5)
    whole = row_losses(decoder.model, rows)
    states = lower_states(decoder.model, rows, 2, pass_tokens=128)
    with only(decoder.model, slice(2, None), normed=True):
        upper = row_losses(decoder.model, rows, states)
    assert upper == pytest.approx(whole, abs=1e-4)
    assert row_losses(decoder.model, rows) == pytest.approx(whole, abs=1e-6)  # the decoder is whole again


def test_it_stops_when_looks_bring_nothing_and_keeps_the_best(base: Path) -> None:
    fit = SETTINGS.model_copy(update={"learning_rate": 0.3, "patience": 1, "looks": 6})
    decoder = with_adapter(load_decoder(base), fit)
    wrong = [replace(row, ids=row.ids[::-1], learnt=row.learnt[::-1]) for row in rows_of(decoder, 6)]
    done = fit_adapter(decoder, rows_of(decoder, 18), wrong, fit)
    assert done.stopped_early
    assert done.best == min(done.held_out, key=lambda one: one[1])[0]
    assert held_out_loss(decoder.model, wrong).loss == pytest.approx(min(loss for _, loss in done.held_out))


def test_every_step_is_told_with_what_is_left(base: Path) -> None:
    ticks = iter(range(1000))
    fit = SETTINGS.model_copy(update={"epochs": 1})
    decoder = with_adapter(load_decoder(base), fit)
    rows, seen = rows_of(decoder, 18), list[Moment]()
    fit_adapter(decoder, rows, [], fit, watch=seen.append, clock=lambda: float(next(ticks)))
    assert [one.step for one in seen] == list(range(1, len(seen) + 1))
    assert {one.steps for one in seen} == {len(seen)}
    assert [one.eta_s for one in seen] == [float(len(seen) - step) for step in range(1, len(seen) + 1)]
    assert seen[-1].tokens == sum(len(row.ids) for row in rows)


class Dying:
    """Keeps the state of one step, as a file would, and dies after it."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.kept: tuple[bytes, str] | None = None

    def newest(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        return (safetensors.load(self.kept[0]), json.loads(self.kept[1])) if self.kept else None

    def save(self, step: int, tensors: dict[str, Any], facts: dict[str, Any]) -> None:
        if step == self.step and self.kept is None:
            self.kept = safetensors.save(tensors), json.dumps(facts)
            raise KeyboardInterrupt


@pytest.mark.parametrize("changed", [{}, {"lora_dropout": 0.2}, {"lora_layers": 1}])
def test_a_fit_that_died_goes_on_to_the_same_weights(base: Path, changed: dict[str, Any]) -> None:
    fit = SETTINGS.model_copy(update={"epochs": 2, "checkpoint_steps": 1, "looks": 3, **changed})
    undisturbed, died, again = (with_adapter(load_decoder(base), fit) for _ in range(3))
    state = Dying(4)
    wanted = fit_adapter(undisturbed, rows_of(undisturbed, 18), rows_of(undisturbed, 6, 100), fit)
    with pytest.raises(KeyboardInterrupt):
        fit_adapter(died, rows_of(died, 18), rows_of(died, 6, 100), fit, checkpoints=state)
    found = fit_adapter(again, rows_of(again, 18), rows_of(again, 6, 100), fit, checkpoints=state)
    assert found == wanted
    assert np.array_equal(weights(again), weights(undisturbed))


def test_rows_without_answers_and_a_rate_beyond_reason_are_refused(base: Path) -> None:
    decoder = with_adapter(load_decoder(base), SETTINGS)
    with pytest.raises(NothingToLearnError, match="1 rows"):
        fit_adapter(decoder, [Tokens(ids=(5, 6), learnt=(False, False))], [], SETTINGS)
    decoder.model.get_input_embeddings().weight.data[:] = float("nan")
    with pytest.raises(DivergedError, match="step 1"):
        fit_adapter(decoder, rows_of(decoder, 3), [], SETTINGS)


@pytest.mark.parametrize("batching", ["bucketed", "packed"])
def test_every_row_comes_once_an_epoch_and_steps_keep_their_size(decoder: Decoder, batching: str) -> None:
    rows = rows_of(decoder, 30)
    fit = SETTINGS.model_copy(update={"batching": batching, "epochs": 2, "pass_tokens": 90})
    steps = plan(rows, fit)
    seen = [row for step in steps for lines in step for line in lines for row in line]
    assert sorted(seen) == sorted([*range(30), *range(30)])
    assert plan(rows, fit) == steps
    sizes = [sum(len(rows[row].ids) for lines in step for line in lines for row in line) for step in steps]
    assert max(sizes) <= fit.batch_tokens


def test_traffic_is_always_learnt_and_old_rows_are_drawn() -> None:
    turns = [
        chat(("user", str(n)), ("assistant", "yes"), origin="base" if n < 8 else "traffic") for n in range(12)
    ]
    drawn = replayed(turns, 3, seed=0)
    assert [one.origin for one in drawn] == ["base"] * 3 + ["traffic"] * 4
    assert replayed(turns, 3, seed=0) == drawn
    assert replayed(turns, 3, seed=1) != drawn
