from __future__ import annotations

import numpy as np
import pytest

from exporter.descriptors import LANGUAGES, MAX_WORDS, WORD_BUCKETS, describe


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("what is the balance of my account", "en"),
        ("cuando llega el pedido que hice para los niños", "es"),
        ("wie kann ich mein Konto schließen", "de"),
        ("je ne trouve pas la carte que vous avez envoyée", "fr"),
        ("balance account 7", "none"),
    ],
)
def test_a_language_shows_in_its_function_words(text: str, language: str) -> None:
    found = describe(text).language
    assert found is not None
    assert LANGUAGES[found] == language


@pytest.mark.parametrize("text", ["", "   ", "7 8 9 !!", "\ufffd"])
def test_a_text_without_words_has_no_numbers_about_words(text: str) -> None:
    found = describe(text)
    assert (found.repetition, found.language, found.words) == (None, None, b"")


def test_numbers_are_shares() -> None:
    found = describe("spam spam spam!!")
    assert found.repetition == pytest.approx(2 / 3)
    assert found.non_letters == pytest.approx(2 / 16)


def test_words_are_hashed_without_regard_to_case_and_no_more_than_the_first() -> None:
    assert describe("Card LOST").words == describe("card lost").words
    many = np.frombuffer(describe("word " * 1000).words, dtype="<u2")
    assert many.size == MAX_WORDS
    assert many.max() < WORD_BUCKETS
