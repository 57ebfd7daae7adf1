"""The channel "log": one structured line on stderr."""

from __future__ import annotations

import structlog

from monitor.channels import Message, Options

_log = structlog.get_logger("trueup.alert")


def claims(url: str) -> bool:
    """Only the word itself."""
    return url == "log"


def problem(url: str, options: Options) -> str | None:  # noqa: ARG001  # the interface of a channel
    """None: it always works."""
    return None


def send(url: str, message: Message, options: Options) -> None:  # noqa: ARG001
    """Write the message as a warning, or as information when it is good news."""
    write = _log.info if message.severity == "success" else _log.warning
    write(message.title, body=message.text, model=message.model, kind=message.kind, key=message.key)
