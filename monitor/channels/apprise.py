"""Every service that Apprise knows (mail, Slack, Teams, JSON webhooks, …), by its URL."""

from __future__ import annotations

import warnings
from typing import Any

from monitor.channels import DeliveryError, Message

PRIORITY = 1  # asked after the channels of our own


def claims(url: str) -> bool:
    """Whether Apprise can build a service from the URL."""
    return "://" in url and _service(url) is not None


def send(url: str, message: Message) -> None:
    """Send once; Apprise has no retries, the caller has."""
    service = _service(url)
    kind = "success" if message.severity == "success" else "warning"
    if service is None or not service.notify(title=message.title, body=message.body, notify_type=kind):
        raise DeliveryError(url, "the service refused it or could not be reached")


def _service(url: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its mail plug-in looks for the old imghdr
        import apprise  # noqa: PLC0415  # 180 plug-ins: only where a URL asks for them

        return apprise.Apprise.instantiate(url, suppress_exceptions=True)
