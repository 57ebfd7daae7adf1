from __future__ import annotations

import numpy as np
import pytest

from trainer.duplicates import (
    LONG,
    SHORT,
    Likeness,
    fitting,
    jaccard,
    near_duplicates,
    repeated,
    repeats,
    word_shingles,
)


def texts(rng: np.random.Generator, rows: int) -> list[str]:
    """Sentences from few words, so that many pairs share runs of five."""
    pool = [" ".join(rng.choice(list("abcdef"), size=7)) for _ in range(12)]
    return [
        " ".join([*rng.choice(pool, size=int(rng.integers(1, 6))), *rng.choice(list("abc"), size=2)])
        for _ in range(rows)
    ]


@pytest.mark.parametrize("limit", [0.2, LONG.limit, 0.8])
@pytest.mark.parametrize("seed", range(4))
def test_the_join_finds_what_comparing_every_pair_finds(limit: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = texts(rng, 210)
    held, trained = drawn[:150], drawn[150:]
    sets = [word_shingles(text) for text in trained]
    brute = {
        place
        for place, text in enumerate(held)
        if any(jaccard(word_shingles(text), other) > limit for other in sets)
    }
    assert 0 < len(brute) < len(held)
    assert repeated(held, trained, Likeness(word_shingles, limit)) == brute


@pytest.mark.parametrize(
    ("held", "trained", "found"),
    [
        ("Where is my card?", "where IS my card", True),
        ("where is my card", "where is my new card", False),  # shorter than a shingle: only itself
        ("i want to reset the pin of my card", "i want to reset the pin of my card please", True),
        ("i want to reset the pin of my card", "you need to change the name on my account", False),
        ("", "", False),
        ("?!", "...", False),
    ],
)
def test_case_and_marks_do_not_count_and_half_of_the_runs_must_be_shared(
    held: str, trained: str, found: bool
) -> None:
    assert (repeated([held], [trained]) == {0}) is found


def test_a_shared_signature_alone_makes_no_duplicate() -> None:
    signature = "kind regards from the whole team of the company"
    rng = np.random.default_rng(0)
    held = [f"{' '.join(rng.choice(list('abcdefgh'), size=30))} {signature}" for _ in range(20)]
    trained = [f"{' '.join(rng.choice(list('ijklmnop'), size=30))} {signature}" for _ in range(20)]
    assert repeated(held, trained) == set()


@pytest.mark.parametrize("seed", range(4))
def test_both_directions_of_the_join_agree(seed: int) -> None:
    drawn = texts(np.random.default_rng(seed), 200)
    held, trained = drawn[:120], drawn[120:]
    pairs = near_duplicates(held, trained)
    for place, position in pairs.items():
        assert jaccard(word_shingles(trained[place]), word_shingles(held[position])) > LONG.limit
    assert {place for place, text in enumerate(trained) if repeated([text], held)} == set(pairs)


def test_what_is_left_repeats_nothing() -> None:
    drawn = texts(np.random.default_rng(0), 200)
    found = repeats(drawn, LONG)
    kept = [text for place, text in enumerate(drawn) if place not in found]
    assert found
    assert not repeats(kept, LONG)
    assert all(first < place and first not in found for place, first in found.items())


def test_one_line_questions_are_compared_by_letters() -> None:
    assert repeats(["how do i link my card?", "How do I link my cards", "how do i pay"], SHORT) == {1: 0}


def test_long_texts_are_compared_by_words() -> None:
    assert fitting(["a line"] * 3 + ["x" * 900] * 2) is SHORT
    assert fitting(["a line"] * 2 + ["x" * 900] * 3) is LONG
