"""Ways to tell people: one module a channel, found by walking this package.

A module is a channel when it has `claims(url) -> bool` and `send(url, message) -> None`; the latter raises
DeliveryError. The first that claims a URL sends it, by `PRIORITY` (0 where it has none) and name.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol, cast

from monitor.errors import MonitorError


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One change of an alert episode, in words."""

    title: str
    body: str
    severity: str  # "warning" | "success"
    model: str
    episode: int
    state: str


class DeliveryError(MonitorError):
    """A channel did not take the message."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"The message was not delivered to {url.split(':', 1)[0]!r}: {why}.")


class UnknownChannel(MonitorError):
    """No channel understands the URL."""

    def __init__(self, url: str) -> None:
        super().__init__(
            f"No channel understands {url.split(':', 1)[0]!r}. "
            "Write 'log' or a URL of Apprise, such as 'slack://…', 'mailto://…', 'json://host/path'."
        )


class Channel(Protocol):
    """What a module of this package offers."""

    def claims(self, url: str) -> bool:
        """Whether this channel sends to such a URL."""
        ...

    def send(self, url: str, message: Message) -> None:
        """Deliver or raise DeliveryError."""
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


def check_urls(urls: Sequence[str]) -> None:
    """Raise UnknownChannel for the first URL that nobody understands; for use before the monitor starts."""
    for url in urls:
        channel(url)
