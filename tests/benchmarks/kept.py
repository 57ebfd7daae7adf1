"""Figures that are kept beside the benchmarks, with the machine and the versions that they were taken on."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from monitor.commands.bench import machine

RESULTS = Path(__file__).parent / "results"


def keep(name: str, found: dict[str, Any], *, threads: int = 2) -> dict[str, Any]:
    """Write `results/NAME.json` and return what it holds."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    whole = {"at": at, "machine": machine(threads)} | found
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    return whole
