from __future__ import annotations

import pytest

from exporter.access import LOCAL, Caller
from exporter.errors import RateLimitError
from exporter.http.limits import RateLimits


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def caller(key: int, limit: int | None = None) -> Caller:
    return Caller(f"k{key}", frozenset(), key, limit)


def test_a_bucket_gives_its_limit_at_once_and_refills_evenly() -> None:
    clock = Clock()
    limits = RateLimits(60, clock)
    for _ in range(60):
        limits.take(caller(1))
    with pytest.raises(RateLimitError) as refused:
        limits.take(caller(1))
    assert refused.value.retry_s == pytest.approx(1.0)
    clock.now += 2.5
    limits.take(caller(1))
    assert dict(limits.take(caller(1)))[b"x-ratelimit-remaining-requests"] == b"0"
    with pytest.raises(RateLimitError):
        limits.take(caller(1))
    clock.now += 3600
    assert dict(limits.take(caller(1)))[b"x-ratelimit-remaining-requests"] == b"59"


def test_a_key_has_a_bucket_and_perhaps_a_limit_of_its_own() -> None:
    limits = RateLimits(1, Clock())
    limits.take(caller(1))
    limits.take(caller(2))
    for _ in range(3):
        limits.take(caller(3, 3))
    for key in (1, 2, 3):
        with pytest.raises(RateLimitError):
            limits.take(caller(key, 3 if key == 3 else None))


def test_no_limit_has_no_headers() -> None:
    assert RateLimits(0, Clock()).take(LOCAL) == ()
