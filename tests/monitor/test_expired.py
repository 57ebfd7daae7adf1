from __future__ import annotations

from sqlalchemy import Engine, Table, func, insert, select

from exporter.tables import new_classes
from monitor.expired import clean_expired
from monitor.settings import MonitorSettings
from monitor.tables import audit, deliveries, monitors, notices, sessions, silences

DAY = 86_400.0
NOW = 1.8e9


def count(db: Engine, table: Table) -> int:
    with db.connect() as connection:
        return int(connection.scalar(select(func.count()).select_from(table)) or 0)


def test_what_is_over_goes_when_it_is_old_enough(db: Engine) -> None:
    old = {
        silences: {"model": "m", "reason": "r", "actor": "a", "created_at": 0.0, "ends_at": NOW - 91 * DAY},
        new_classes: {"model": "m", "label": "l", "rows": 1, "first_at": 0.0, "last_at": NOW - 91 * DAY},
        audit: {
            "at": NOW - 731 * DAY, "actor": "a", "address": "", "action": "x", "model": "m", "detail": {},
            "once": "1",
        },
        sessions: {"digest": "d", "key": 1, "expires_at": NOW - 1},
        monitors: {"process": "p", "holder": "h", "started_at": NOW - 2 * DAY},
    }  # fmt: skip
    with db.begin() as connection:
        for table, row in old.items():
            connection.execute(insert(table).values(**row))
    assert clean_expired(db, MonitorSettings(), now=NOW - 3 * DAY) == 0
    assert clean_expired(db, MonitorSettings(), now=NOW) == 5
    assert [count(db, table) for table in old] == [0] * 5


def test_old_notices_go_but_what_is_owed_and_the_newest_group_stay(db: Engine) -> None:
    with db.begin() as connection:
        for number, group in enumerate((1, 2, 3, 3), start=1):
            notice = {
                "model": "m", "version": "v1", "kind": "firing", "group_id": group, "causes": [],
                "dedupe_key": str(number), "key": str(number), "created_at": number, "routed_at": 9.0,
            }  # fmt: skip
            connection.execute(insert(notices).values(**notice))
            state = "waiting" if number == 2 else "sent"
            sent = {"notice_id": number, "channel": "c", "state": state, "attempt": 1, "not_before": 0.0}
            connection.execute(insert(deliveries).values(**sent))
    assert clean_expired(db, MonitorSettings(), now=NOW) == 1
    with db.connect() as connection:
        assert set(connection.scalars(select(notices.c.id))) == {2, 3, 4}
        assert set(connection.scalars(select(deliveries.c.notice_id))) == {2, 3, 4}
