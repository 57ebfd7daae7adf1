"""What a client may ask for beside the answer: x-timeout-ms, and traceparent (W3C Trace Context)."""

from __future__ import annotations

import re

from exporter.errors import RequestError
from exporter.http.asgi import Call
from exporter.waiting import Terms

_MILLISECONDS = re.compile(r"[1-9]\d{0,8}", re.ASCII)


def terms(call: Call) -> Terms:
    """Raises RequestError for a time that is none."""
    given = call.header(b"x-timeout-ms")
    if given is not None and not _MILLISECONDS.fullmatch(given):
        raise RequestError("x-timeout-ms must be a whole number of milliseconds, 1 or more.", "x-timeout-ms")
    return Terms(
        timeout_s=None if given is None else int(given) / 1000,
        traceparent=call.header(b"traceparent"),
        request_id=call.id,
    )
