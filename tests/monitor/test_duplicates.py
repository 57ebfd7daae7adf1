from __future__ import annotations

import numpy as np
import pytest

from monitor.duplicates import LIMIT, jaccard, near_duplicates, shingles


def texts(rng: np.random.Generator, rows: int) -> list[str]:
    """Sentences from few words, so that many pairs share runs of five."""
    pool = [" ".join(rng.choice(list("abcdef"), size=7)) for _ in range(12)]
    return [
        " ".join([*rng.choice(pool, size=int(rng.integers(1, 6))), *rng.choice(list("abc"), size=2)])
        for _ in range(rows)
    ]


@pytest.mark.parametrize("limit", [0.2, LIMIT, 0.8])
@pytest.mark.parametrize("seed", range(4))
def test_the_join_finds_what_comparing_every_pair_finds(limit: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = texts(rng, 210)
    held, trained = drawn[:150], drawn[150:]
    sets = [shingles(text) for text in trained]
    brute = {
        place
        for place, text in enumerate(held)
        if any(jaccard(shingles(text), other) > limit for other in sets)
    }
    assert 0 < len(brute) < len(held)
    assert near_duplicates(held, trained, limit=limit) == brute


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
    assert (near_duplicates([held], [trained]) == {0}) is found


def test_a_shared_signature_alone_makes_no_duplicate() -> None:
    signature = "kind regards from the whole team of the company"
    rng = np.random.default_rng(0)
    held = [f"{' '.join(rng.choice(list('abcdefgh'), size=30))} {signature}" for _ in range(20)]
    trained = [f"{' '.join(rng.choice(list('ijklmnop'), size=30))} {signature}" for _ in range(20)]
    assert near_duplicates(held, trained) == set()
