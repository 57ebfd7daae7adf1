"""Rows that share a pack do not see each other: each has the loss that it has alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from trainer.generation.decoder import Decoder
from trainer.generation.loss import held_out_loss, owners, row_losses, token_losses
from trainer.generation.packing import IGNORED, Pack, bucketed, pack, packed
from trainer.generation.rows import chat
from trainer.generation.template import Tokens

WORDS = ("no", "yes, of course", "it depends on the weather", "42")


def rows_of(decoder: Decoder) -> list[Tokens]:
    samples = [chat(("user", "why " * n), ("assistant", word)) for n, word in enumerate(WORDS, 1)]
    return [decoder.template.tokens(sample) for sample in samples]


def summed(decoder: Decoder, rows: Sequence[Tokens], laid: Pack) -> list[float]:
    import torch

    with torch.no_grad():
        losses = token_losses(decoder.model, laid).numpy()
    return [float(one) for one in np.bincount(owners(laid), weights=losses, minlength=len(rows))]


@pytest.mark.parametrize(
    "lines", [[[0, 1, 2, 3]], [[3, 1], [0, 2]], [[2], [0], [3], [1]]], ids=["one", "two", "side by side"]
)
def test_the_loss_of_a_row_is_the_one_it_has_alone(decoder: Decoder, lines: list[list[int]]) -> None:
    rows = rows_of(decoder)
    alone = [sum(summed(decoder, rows, pack(rows, [[row]]))) for row in range(len(rows))]
    assert summed(decoder, rows, pack(rows, lines)) == pytest.approx(alone, abs=1e-4)


def test_without_the_block_mask_it_is_not(decoder: Decoder) -> None:
    """The proof can fail: rows that see their neighbours have another loss."""
    rows = rows_of(decoder)
    laid = pack(rows, [[0, 1, 2, 3]])
    leaking = Pack(
        rows=laid.rows,
        ids=laid.ids,
        positions=laid.positions,
        segments=np.ones_like(laid.segments),
        targets=laid.targets,
    )
    alone = [sum(summed(decoder, rows, pack(rows, [[row]]))) for row in range(len(rows))]
    import torch

    with torch.no_grad():
        losses = token_losses(decoder.model, leaking).numpy()
    found = np.bincount(owners(laid), weights=losses, minlength=len(rows))
    assert found[0] == pytest.approx(alone[0], abs=1e-4)
    assert abs(found[1:] - alone[1:]).max() > 0.1


def test_every_learnt_token_is_a_target_once_and_no_other(decoder: Decoder) -> None:
    rows = rows_of(decoder)
    laid = pack(rows, [[3, 1], [0, 2]])
    wanted = sorted(n for row in rows for n, one in zip(row.ids, row.learnt, strict=True) if one)
    assert sorted(laid.targets[laid.targets != IGNORED].tolist()) == wanted
    assert laid.answers == sum(row.answers for row in rows)


def test_the_loss_of_a_row_is_that_of_transformers(decoder: Decoder) -> None:
    import torch

    (row,) = rows_of(decoder)[2:3]
    labels = [number if one else IGNORED for number, one in zip(row.ids, row.learnt, strict=True)]
    with torch.no_grad():
        theirs = decoder.model(input_ids=torch.tensor([row.ids]), labels=torch.tensor([labels])).loss
    assert held_out_loss(decoder.model, [row]).loss == pytest.approx(float(theirs), abs=1e-5)
    assert row_losses(decoder.model, [row])[0, 1] == row.answers


def test_rows_without_an_answer_have_no_loss(decoder: Decoder) -> None:
    found = held_out_loss(decoder.model, [Tokens(ids=(5, 6), learnt=(False, False))])
    assert (found.loss, found.perplexity, found.tokens) == (None, None, 0)
    assert held_out_loss(decoder.model, []).loss is None


@pytest.mark.parametrize("width", [8, 40, 200])
def test_every_row_is_in_one_line_that_is_not_too_wide(width: int) -> None:
    rng = np.random.default_rng(width)
    rows = [Tokens(ids=(1,) * n, learnt=(True,) * n) for n in rng.integers(2, 60, 50).tolist()]
    order = rng.permutation(50)
    for lines in (packed(rows, width, order), bucketed(rows, width, order)):
        assert sorted(row for line in lines for row in line) == list(range(50))
    for line in packed(rows, width, order):
        assert sum(len(rows[row].ids) for row in line) <= width or len(line) == 1
    for line in bucketed(rows, width, order):
        assert len(line) * max(len(rows[row].ids) for row in line) <= width or len(line) == 1
