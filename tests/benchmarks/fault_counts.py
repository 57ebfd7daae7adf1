"""What faults left behind in the database, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import Engine, func, select

from exporter.tables import deployment_events
from monitor.tables import due_slots, jobs, leases
from tests.monitor.faulty import CHECK_S, RETRAIN_S


@dataclass(slots=True)
class Tally:
    """What the faults were and what followed."""

    faults: Counter[str] = field(default_factory=Counter)
    takeover_s: list[float] = field(default_factory=list)
    blocked: int = 0  # faults of the leader that no new reign followed
    shot: int = 0  # stopped in the middle of a write to SQLite, and ended by the others
    ended: dict[int, int] = field(default_factory=dict)  # epoch of a stopped leader -> its rows by then


def report(db: Engine, tally: Tally) -> dict[str, Any]:
    with db.connect() as connection:
        slots = connection.execute(select(due_slots).order_by(due_slots.c.due_at)).all()
        asked = connection.execute(select(jobs.c.id, jobs.c.state, jobs.c.attempt)).all()
        happened = connection.execute(select(deployment_events.c.model, deployment_events.c.version))
        events = Counter((row.model, row.version) for row in happened)
        reigns = connection.execute(select(leases.c.epoch)).scalar_one()
    stale = sum(inserted(db, epoch) - rows for epoch, rows in tally.ended.items())
    took = np.asarray(tally.takeover_s or [np.nan])
    return {
        "database": db.dialect.name,
        "faults": sum(tally.faults.values()),
        "kinds": dict(sorted(tally.faults.items())),
        "reigns": reigns,
        "slots": _slots(slots, events),
        "retrains": {
            "queued": len(asked),
            "finished": sum(row.state == "done" for row in asked),
            "lost": sum(row.state in ("failed", "cancelled") for row in asked),
            "without_effect": sum(row.state == "done" and not events["job", str(row.id)] for row in asked),
            "unfinished": sum(row.state in ("queued", "running") for row in asked),
            "doubled": sum(times > 1 for (what, _), times in events.items() if what == "job"),
            "attempts": sum(row.attempt for row in asked),
        },
        "stale_rows": stale,
        "takeover": {
            "n": len(tally.takeover_s),
            "median_s": round(float(np.median(took)), 2),
            "p99_s": round(float(np.quantile(took, 0.99)), 2),
            "max_s": round(float(took.max()), 2),
            "over_5_s": int((took > 5.0).sum()),
            "blocked": tally.blocked,
            "shot": tally.shot,
        },
    }  # fmt: skip


def _slots(rows: Sequence[Any], events: Counter[tuple[str, str]]) -> dict[str, int]:
    """The first row of each schedule is where it began; from there on, one for each period."""
    counted = Counter[str]()
    for schedule in sorted({row.schedule for row in rows}):
        due = [row for row in rows if row.schedule == schedule]
        began, *worked = due
        period = CHECK_S if schedule.startswith("check") else RETRAIN_S
        first, last = int(began.due_at // period) + 1, round(worked[-1].due_at / period)
        counted["due"] += last - first + 1
        counted["missed"] += len(set(range(first, last + 1)) - {round(row.due_at / period) for row in worked})
        counted["doubled"] += sum(events[schedule, str(row.due_at)] > 1 for row in worked)
        counted["failed"] += sum(row.state == "failed" for row in worked)
        counted["without_effect"] += sum(
            row.state == "done" and not events[schedule, str(row.due_at)] for row in worked
        )
        counted["retried"] += sum(row.attempt > 1 for row in worked)
    return dict(counted)


def inserted(db: Engine, epoch: int) -> int:
    with db.connect() as connection:
        rows = select(func.count()).where(due_slots.c.epoch == epoch)
        return int(connection.execute(rows).scalar_one())
