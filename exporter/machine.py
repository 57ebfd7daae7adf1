"""How many processors this process may really use: in a container fewer than the machine has."""

from __future__ import annotations

import os
from pathlib import Path

V2, V1 = Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/cpu")
UNLIMITED = {"max", "-1"}


def cores(v2: Path = V2, v1: Path = V1) -> int:
    """Processors that this process may run on, or the control group's quota if that is less; at least 1.

    Quotas of both kinds of control groups are read (kernel.org: cgroup-v2 cpu.max, sched-bwc); of half a
    processor the rest is left: a session that is throttled in mid-run keeps everybody waiting.
    """
    free = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = _quota(v2, v1)
    return free if share is None else max(1, min(free, int(share)))


def _quota(v2: Path, v1: Path) -> float | None:
    """Processors' worth of time, None without a limit."""
    try:
        quota, period = v2.read_text(encoding="ascii").split()[:2]
    except (OSError, ValueError):
        try:
            quota, period = ((v1 / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        except OSError:
            return None
    try:
        return None if quota in UNLIMITED else int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
