"""Every service that Apprise knows (Slack, Teams, PagerDuty, JSON webhooks, …), by its URL."""

from __future__ import annotations

from typing import Any

from monitor.channels import DeliveryError, Message, Options
from monitor.services import last_problem, service

PRIORITY = 1  # asked after the channels of our own


def claims(url: str) -> bool:
    """Whether Apprise can build a service from the URL."""
    return service(url) is not None


def problem(url: str, options: Options) -> str | None:  # noqa: ARG001  # the interface of a channel
    """None: Apprise finds out when it sends."""
    return None


def send(url: str, message: Message, options: Options) -> None:  # noqa: ARG001  # Apprise has its own limits
    """Send once; Apprise has no retries, the outbox has."""
    found = service(url)
    if found is None:
        raise DeliveryError(url, "Apprise does not know it")
    _pair(found, message)
    picture = _attachment(message) if found.attachment_support else None
    kind = "success" if message.severity == "success" else "warning"
    last_problem(url)
    if not found.notify(
        title=message.title, body=message.text, notify_type=kind, body_format="text", attach=picture
    ):
        raise DeliveryError(url, last_problem(url) or "the service refused it or could not be reached")


def _pair(found: Any, message: Message) -> None:
    """Services for incidents (PagerDuty, Squadcast, …): one incident from firing to resolved."""
    if hasattr(found, "dedup") and not found.dedup:
        found.dedup = message.thread
        found.action = "map"  # a success resolves; Apprise's default opens another incident


def _attachment(message: Message) -> Any:
    picture = message.picture()
    if picture is None:
        return None
    from apprise import AppriseAttachment  # noqa: PLC0415
    from apprise.attachment.memory import AttachMemory  # noqa: PLC0415

    held = AppriseAttachment()
    held.add(AttachMemory(content=picture, name="accuracy-and-evidence.png", mimetype="image/png"))
    return held
