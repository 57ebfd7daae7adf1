from __future__ import annotations

from sqlalchemy import Engine

from tests.benchmarks.notices import run_restarts

RESTARTS = 4  # on each database; `python -m tests.benchmarks notices` does 50


def test_a_monitor_killed_while_it_tells_people_loses_nothing_and_tells_nobody_twice(db: Engine) -> None:
    found = run_restarts(db, RESTARTS, seed=0, lease_s=1.0)
    assert found["in_doubt"] > 0
    for channel in found["channels"].values():
        assert channel["owed"] == 2 * RESTARTS - 1
        assert (channel["lost"], channel["doubled"]) == (0, 0)
