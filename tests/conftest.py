"""What every test begins with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def _logs_as_nobody_has_set_them_up() -> Iterator[None]:
    """A server that ran in this process has sent the log to a stderr that is gone."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()
