from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, insert, update

from monitor import jobs, notices, tables
from monitor.notice_facts import read_facts
from monitor.settings import MonitorSettings
from tests.monitor.test_notices import fire


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        ({"state": "failed", "error": "out of memory\nat line 3"}, ["Job 1 failed.", "out of memory"]),
        ({"state": "cancelled"}, ["Job 1 was cancelled."]),
        (
            {"state": "done", "candidate": "v2", "verdict": {"outcome": "refused", "reasons": ["No gain."]}},
            ["Job 1 ended, v2 refused.", "No gain."],
        ),
    ],
)
def test_a_retrain_that_is_over_is_told_with_its_end(
    ended: dict[str, Any], said: list[str], db: Engine
) -> None:
    fire(db, "drift")
    check = {
        "model": "router", "version": "v1", "state": "drift", "last_seq": 1, "last_label_seq": 0, "rows": 1,
        "labelled": 0, "paged": True, "at": 99.0, "decision": {"action": "retrain", "reasons": ["It moved."]},
    }  # fmt: skip
    with db.begin() as connection:
        connection.execute(insert(tables.checks).values(**check))
        jobs.enqueue(connection, "router", trigger="page", dedupe_key="k", base_version="v1")
        connection.execute(update(tables.jobs).values(**ended))
        notice = notices.newest(connection)["router"]
        assert read_facts(connection, notice, MonitorSettings())["next"] == said
