from __future__ import annotations

from sqlalchemy import Engine, insert, literal, select, update

from exporter.database import NOW
from exporter.tables import deployment_events
from monitor.lease import acquire, leads, new_holder, release
from monitor.tables import leases


def expire(db: Engine) -> None:
    with db.begin() as connection:
        connection.execute(update(leases).values(expires_at=NOW - 1.0))


def test_first_holder_leads_in_the_first_epoch_and_keeps_it_by_renewing(db: Engine) -> None:
    assert acquire(db, "s", "a", lease_s=60) == 1
    assert acquire(db, "s", "a", lease_s=60) == 1


def test_nobody_else_leads_while_the_lease_lasts(db: Engine) -> None:
    acquire(db, "s", "a", lease_s=60)
    assert acquire(db, "s", "b", lease_s=60) is None


def test_an_expired_lease_is_taken_over_in_a_new_epoch(db: Engine) -> None:
    acquire(db, "s", "a", lease_s=60)
    expire(db)
    assert acquire(db, "s", "b", lease_s=60) == 2
    assert acquire(db, "s", "a", lease_s=60) is None


def test_a_released_lease_is_free_at_once(db: Engine) -> None:
    acquire(db, "s", "a", lease_s=60)
    release(db, "s", "b")
    assert acquire(db, "s", "b", lease_s=60) is None
    release(db, "s", "a")
    assert acquire(db, "s", "b", lease_s=60) == 2


def test_a_fenced_write_of_an_ended_reign_changes_nothing(db: Engine) -> None:
    epoch = acquire(db, "s", "a", lease_s=60)
    assert epoch is not None
    with db.connect() as connection:
        assert connection.execute(select(leads("s", "a", epoch))).scalar()
    expire(db)
    acquire(db, "s", "b", lease_s=60)
    values = [literal(text) for text in ("m", "v1", "r", "a")]
    row = select(*values, literal(1.0)).where(leads("s", "a", epoch))
    with db.begin() as connection:
        columns = ["model", "version", "reason", "actor", "at"]
        statement = insert(deployment_events).from_select(columns, row).returning(deployment_events.c.id)
        assert connection.execute(statement).all() == []


def test_each_start_of_a_process_has_a_name_of_its_own() -> None:
    assert new_holder() != new_holder()
