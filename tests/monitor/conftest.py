"""The exporter's databases serve here too."""

from __future__ import annotations

import pytest

import monitor.tables  # noqa: F401  # `db` creates them
from monitor import lease
from tests.exporter.conftest import db, home, postgresql_url, sqlite_db

__all__ = ["db", "home", "postgresql_url", "sqlite_db"]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test machine that stands still for seconds is not a monitor that was stopped."""
    monkeypatch.setattr(lease, "_FROZEN_S", 30.0)
