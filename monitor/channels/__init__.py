"""Ways to tell people: one module a channel, found by walking this package.

A module is a channel when it has `claims(url)`, `problem(url, options)` and `send(url, message, options)`,
which raises DeliveryError. The first that claims a URL sends it: by `PRIORITY` (0 without), then name.
One with `KEYED = True` hands the message's key on, so that its receivers know a repetition.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, Protocol, cast

from pydantic import SecretStr

from monitor.errors import MonitorError

PICTURE = "<!--picture-->"  # where a channel that shows pictures inside the HTML puts it


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One change of a model's state, in words; no attempt to send it changes any of it."""

    title: str  # one line
    text: str
    html: str  # the same for mail, everything escaped
    severity: Literal["warning", "success"]
    model: str
    kind: str  # tables.NoticeKind, or "test"
    key: str  # the same at every attempt: receivers that keep it see each message once
    thread: str  # the same for all messages of one change, from firing to resolved
    at: float
    facts: Mapping[str, Any] = field(default_factory=dict)  # JSON-able, for machines
    picture: Callable[[], bytes | None] = lambda: None  # PNG; drawn only where a channel takes pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What channels may be told beside their URL."""

    webhook_secret: SecretStr | None = None
    allow_private: bool = False
    timeout_s: float = 10.0


class DeliveryError(MonitorError):
    """A channel did not take the message."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"The message was not delivered to {_scheme(url)!r}: {why}.")


class UnknownChannel(MonitorError):
    """No channel understands the URL."""

    def __init__(self, url: str) -> None:
        super().__init__(
            f"No channel understands {_scheme(url)!r}. Write 'log', 'webhook+https://…' or a URL of Apprise, "
            "such as 'slack://…', 'mailto://…', 'json://host/path'."
        )


class UnusableChannel(MonitorError):
    """The channel could never send with these settings."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"[monitor] notify: {_scheme(url)!r} cannot be used: {why}.")


class Channel(Protocol):
    """What a module of this package offers."""

    def claims(self, url: str) -> bool:
        """Whether this channel sends to such a URL."""
        ...

    def problem(self, url: str, options: Options) -> str | None:
        """Why it could never send, None where it may."""
        ...

    def send(self, url: str, message: Message, options: Options) -> None:
        """Deliver or raise DeliveryError; once, the outbox tries again."""
        ...


@cache
def channels() -> tuple[Channel, ...]:
    """Every channel of this package."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    found = [importlib.import_module(f"{__name__}.{name}") for name in names]
    found.sort(key=lambda module: getattr(module, "PRIORITY", 0))
    return tuple(cast("Channel", module) for module in found)


def channel(url: str) -> Channel:
    """The channel that sends to `url`; UnknownChannel where there is none."""
    for candidate in channels():
        if candidate.claims(url):
            return candidate
    raise UnknownChannel(url)


def keyed(url: str) -> bool:
    """Whether receivers of this channel know a repetition by its key."""
    return bool(getattr(channel(url), "KEYED", False))


def channel_name(url: str) -> str:
    """Name for tables, logs and metrics: URLs hold secrets, names do not.

    >>> channel_name("log"), channel_name("slack://token@host/")
    ('log', 'slack:7aa900')
    """
    if "://" not in url:
        return url
    return f"{_scheme(url)}:{hashlib.sha256(url.encode()).hexdigest()[:6]}"


def check_urls(urls: Sequence[str], options: Options = Options()) -> None:
    """Raise UnknownChannel or UnusableChannel for the first bad URL; for use before the monitor starts."""
    for url in urls:
        why = channel(url).problem(url, options)
        if why is not None:
            raise UnusableChannel(url, why)


def _scheme(url: str) -> str:
    return url.split(":", 1)[0]
