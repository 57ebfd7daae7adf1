"""The exporter's databases serve here too."""

from __future__ import annotations

import monitor.tables  # noqa: F401  # `db` creates them
from tests.exporter.conftest import db, home, postgresql_url, sqlite_db

__all__ = ["db", "home", "postgresql_url", "sqlite_db"]
