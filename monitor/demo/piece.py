"""What one demo plays: a model, the mail it gets, and how it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from monitor.demo.client import Client
from monitor.demo.mail import Mail, Streams


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One demo, as far as it differs from another."""

    model: str
    spec: str  # TOML of the training
    limits: str  # TOML lines of [models.NAME]
    window: int  # mails that one check judges
    label_share: float  # of the answers, that somebody corrects or confirms
    drifted_windows: int  # at most, until a retrain has begun
    streams: Streams
    row: Callable[[Mail], dict[str, Any]]  # a mail as the training reads it
    client: Callable[[int, str], Client]  # by port and model
