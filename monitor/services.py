"""Apprise's services by their URLs: what the channels `apprise` and `mail` have in common."""

from __future__ import annotations

import logging
import re
import threading
import warnings
from functools import cache
from typing import Any

_LONG = 6  # characters of a URL's part from which it may be a secret


def service(url: str) -> Any:
    """The service that Apprise builds from the URL, None where it knows none."""
    return _apprise().Apprise.instantiate(url, suppress_exceptions=True) if "://" in url else None


def last_problem(url: str) -> str | None:
    """What Apprise last said in this thread, without any part of the URL; it is forgotten by that."""
    said, _last.said = getattr(_last, "said", None), None
    return None if said is None else without_secrets(said, url)


def without_secrets(text: str, url: str) -> str:
    """The text with every longer part of the URL, its scheme excepted, taken out.

    >>> without_secrets("401 at https://h/T0KEN123?x=1", "slack://T0KEN123/C1")
    '401 at https://h/…?x=1'
    """
    parts = re.split(r"[/:@?&=#]+", url.partition("://")[2])
    for part in sorted(filter(lambda one: len(one) >= _LONG, parts), key=len, reverse=True):
        text = text.replace(part, "…")
    return text


_last = threading.local()


class _Remember(logging.Handler):
    """Apprise answers True or False; why is only in its log."""

    def emit(self, record: logging.LogRecord) -> None:
        _last.said = record.getMessage().rstrip(".")


@cache
def _apprise() -> Any:
    """Load all of its plug-ins once, before there are threads: `catch_warnings` is not for threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its mail plug-in looks for the old imghdr
        import apprise  # noqa: PLC0415  # 180 plug-ins: only where a URL asks for them

        apprise.Apprise.instantiate("json://localhost")
    log = logging.getLogger("apprise")
    log.propagate = False  # it may name hosts and users; what we log of it is cleaned
    log.addHandler(_Remember(logging.WARNING))
    return apprise
