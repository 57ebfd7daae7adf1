"""Fills a lake and is killed at the n-th call of a step.

`python -m tests.monitor.dying_sealer URL LAKE BEFORE MODULE.FUNCTION N`
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

from exporter.database import open_database
from monitor.lake import rows, seal


def main(url: str, lake: str, before: str, step: str, number: str) -> None:
    name = step.partition(".")
    module = importlib.import_module(f"monitor.lake.{name[0]}")
    real, calls = getattr(module, name[2]), []

    def dying(*arguments: Any, **named: Any) -> Any:
        calls.append(name)
        if len(calls) == int(number):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)

    setattr(module, name[2], dying)
    rows._BATCH = 4
    seal(open_database(url), Path(lake), before=float(before))


if __name__ == "__main__":
    main(*sys.argv[1:])
