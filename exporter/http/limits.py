"""Requests a minute of each key: a token bucket, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from exporter.access import Caller
from exporter.errors import RateLimitError
from exporter.http.asgi import Headers


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class RateLimits:
    """A key may send its limit at once, then as fast as the bucket fills again. `default` 0: no limit."""

    def __init__(self, default: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._default, self._clock = default, clock
        self._buckets: dict[int, _Bucket] = {}

    def take(self, caller: Caller) -> Headers:
        """Headers that say what is left. Raises RateLimitError."""
        limit = caller.requests_per_minute or self._default
        if not limit:
            return ()
        now, rate = self._clock(), limit / 60
        bucket = self._buckets.setdefault(caller.key, _Bucket(limit, now))
        bucket.tokens = min(limit, bucket.tokens + (now - bucket.at) * rate)
        bucket.at = now
        if bucket.tokens < 1:
            wait_s = (1 - bucket.tokens) / rate
            raise RateLimitError(limit, wait_s, _headers(limit, bucket.tokens, rate))
        bucket.tokens -= 1
        return _headers(limit, bucket.tokens, rate)


def _headers(limit: int, tokens: float, rate: float) -> Headers:
    return (
        (b"x-ratelimit-limit-requests", b"%d" % limit),
        (b"x-ratelimit-remaining-requests", b"%d" % int(tokens)),
        (b"x-ratelimit-reset-requests", b"%dms" % round((limit - tokens) / rate * 1e3)),
    )
