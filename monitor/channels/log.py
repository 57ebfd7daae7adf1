"""The channel "log": one structured line on stderr."""

from __future__ import annotations

import structlog

from monitor.channels import Message

_log = structlog.get_logger("trueup.alert")


def claims(url: str) -> bool:
    """Only the word itself."""
    return url == "log"


def send(url: str, message: Message) -> None:  # noqa: ARG001  # the interface of a channel
    """Write the message as a warning, or as information when it is good news."""
    write = _log.info if message.severity == "success" else _log.warning
    write(
        message.title,
        body=message.body,
        model=message.model,
        episode=message.episode,
        state=message.state,
    )
