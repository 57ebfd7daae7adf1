"""Labels that change their meaning, on points in a plane: a class is a direction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monitor.stale import Seen, contradicted, renamed, stale_texts

CLASSES = "abcd"


def seen(said: str, truth: str, rows: int, *, similarity: float = 0.9) -> list[Seen]:
    return [Seen(said=said, truth=truth, similarity=similarity)] * rows


REFERENCE = [row for name in CLASSES for row in seen(name, name, 24) + seen(name, "b", 1)]


def test_a_class_whose_answers_became_wrong_is_found() -> None:
    now = seen("a", "z", 15) + seen("a", "a", 3) + seen("b", "b", 20) + seen("c", "c", 20)
    assert renamed(REFERENCE, now) == ("a",)


def test_wrong_answers_to_new_text_rename_nothing() -> None:
    """Errors far from the training text are ordinary drift: the old rows are still true."""
    before = REFERENCE + [row for name in CLASSES for row in seen(name, name, 25, similarity=0.5)]
    now = [row for name in CLASSES for row in seen(name, "z", 20, similarity=0.4) + seen(name, name, 20)]
    assert renamed(before, now) == ()


def test_a_class_that_became_somewhat_harder_is_not_renamed() -> None:
    now = seen("a", "b", 15) + seen("a", "a", 85)
    assert renamed(REFERENCE, now) == ()


def test_nothing_is_said_without_rows() -> None:
    assert renamed([], seen("a", "b", 50)) == renamed(REFERENCE, []) == ()
    assert renamed(REFERENCE, seen("a", "z", 4)) == ()


def test_where_nothing_changed_classes_are_rarely_accused() -> None:
    rng = np.random.default_rng(0)

    def rows(count: int) -> list[Seen]:
        said = rng.choice(list(CLASSES), count)
        truth = np.where(rng.random(count) < 0.85, said, "z")
        return [
            Seen(said=a, truth=b, similarity=float(rng.random())) for a, b in zip(said, truth, strict=True)
        ]

    assert sum(bool(renamed(rows(300), rows(200))) for _ in range(300)) <= 3


def test_only_the_moved_half_of_a_class_is_stale() -> None:
    """Class a answers two topics; the labels of one of them moved to c."""
    topics = {"kept": np.array([1.0, 0.0]), "moved": np.array([0.0, 1.0])}
    old = {f"{topic} {number}": "a" for topic in topics for number in range(10)} | {"other": "b"}

    def embed(texts: Sequence[str]) -> np.ndarray:
        return np.stack([topics[text.split()[0]] for text in texts])

    truth = {"kept": "a", "moved": "c"}
    recent = [
        (Seen(said="a", truth=truth[topic], similarity=0.9), topics[topic])
        for topic in topics
        for _ in range(6)
    ]
    assert stale_texts(("a",), old, recent, embed) == {f"moved {number}" for number in range(10)}


def test_with_fewer_neighbours_than_asked_for_those_there_are_decide() -> None:
    assert contradicted(np.eye(2), np.eye(2)[:1], [False]) == [True, True]
