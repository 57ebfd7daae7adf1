"""A leader and worker in one process, to be killed; each slot's effect is one row."""

from __future__ import annotations

import sys
import time

from sqlalchemy import insert
from sqlalchemy.exc import SQLAlchemyError

from exporter.database import NOW, open_database
from exporter.tables import deployment_events
from monitor import lease, schedule
from monitor.cron import parse
from monitor.errors import MonitorError

LEASE_S = 1.5
RULES = {"check:m": parse("every 500ms")}


def main(url: str) -> None:
    db = open_database(url)
    me = lease.new_holder()
    while True:
        try:
            epoch = lease.acquire(db, lease.LEADER, me, lease_s=LEASE_S)
            if epoch is not None:
                schedule.tick(db, RULES, holder=me, epoch=epoch)
            slot = schedule.claim_slot(db, me, lease_s=LEASE_S)
            if slot is None:
                time.sleep(0.05)
                continue
            time.sleep(0.1)
            with db.begin() as connection:
                effect = insert(deployment_events).values(
                    model="m", version=str(slot.due_at), reason=me, actor="faulty", at=NOW
                )
                connection.execute(effect)
                schedule.finish_slot(connection, slot)
        except (MonitorError, SQLAlchemyError):
            time.sleep(0.1)


if __name__ == "__main__":
    main(sys.argv[1])
