from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import RedactPatternError
from exporter.redact import keeping, kept_text, redacted, storable


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("write to Ann.Lee+x@mail.example.org!", "write to [email]!"),
        ("card 4111 1111 1111 1111 please", "card [card] please"),
        ("IBAN DE89 3704 0044 0532 0130 00.", "IBAN [account]."),
        ("from 10.20.30.40 today", "from [address] today"),
        ("https://ann:pw@example.org/x", "https://[credentials]@example.org/x"),
        ("ring 030 1234 5678 now", "ring [phone] now"),
        ("I paid 20 dollars on 12 May 2024, order 5", "I paid 20 dollars on 12 May 2024, order 5"),
    ],
)
def test_personal_numbers_are_replaced_by_their_kind(text: str, kept: str) -> None:
    assert redacted(text) == kept


def test_each_policy_keeps_what_it_says() -> None:
    assert kept_text("a@b.org", "none") is None
    assert kept_text("a@b.org", "full") == "a@b.org"
    assert kept_text("a@b.org", "redacted") == "[email]"
    assert (kept_text("a@b.org", "hash") or "").startswith("sha256:")


def test_a_users_own_patterns_come_before_ours() -> None:
    keep = keeping("redacted", {"badge": r"EMP-\d{4}-\d{4}", "city": r"(?i)\bsalem\b"})
    assert keep.text("EMP-1234-5678 of Salem, ann@example.org") == "[badge] of [city], [email]"
    assert keeping("full", {"city": "Salem"}).text("Salem") == "Salem"
    assert keep.words
    assert not keeping("hash", {}).words


def test_a_pattern_that_takes_too_long_keeps_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.redact.MATCH_S", 0.001)
    told: list[None] = []
    keep = keeping("redacted", {"slow": "(a+)+b"}, timed_out=lambda: told.append(None))
    assert keep.text("a" * 20_000) is None
    assert keep.text("quick") == "quick"
    assert len(told) == 1


@pytest.mark.parametrize(("name", "pattern"), [("x", "("), ("x", "a*"), ("X y", "a"), ("", "a")])
def test_a_pattern_that_cannot_be_used_is_refused_by_name(name: str, pattern: str) -> None:
    with pytest.raises(RedactPatternError, match=r"exporter\.redact"):
        keeping("redacted", {name: pattern})


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_whatever_arrives_can_be_stored_and_encoded(text: str) -> None:
    kept = storable(text)
    assert "\x00" not in kept
    assert kept.encode().decode() == kept
    redacted(kept)
