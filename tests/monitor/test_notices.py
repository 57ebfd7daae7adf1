from __future__ import annotations

import time
from collections.abc import Iterator
from random import Random
from threading import Event
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select, update

from monitor import causes, episodes, lease, notices, outbox, silences
from monitor.channels import channel_name
from monitor.notices import due_kind
from monitor.outbox import DeliveryLost
from monitor.sending import Sender, own_channels
from monitor.settings import MonitorSettings
from monitor.tables import deliveries
from monitor.tables import notices as notices_table
from tests.monitor.sinks import HttpSink

REPEAT_S = 3600.0
NOW = time.time()  # the sender's clock is the database's


def fire(db: Engine, *names: str, now: float = 100.0, model: str = "router") -> None:
    """One check's worth: every cause moves, then the model's notice is written."""
    with db.begin() as connection:
        for cause in names:
            episodes.observe(
                connection, model=model, version="v1", cause=cause, signal="page", lasting=True,
                detail={"reasons": ["it moved"]}, now=now,
            )  # fmt: skip
        notices.note(connection, model, now=now)


def settle(db: Engine, *, now: float, model: str = "router") -> None:
    with db.begin() as connection:
        causes.settle(connection, model, reason="v2 was proven and promoted", now=now)


def told(db: Engine) -> list[tuple[str, list[str]]]:
    with db.connect() as connection:
        rows = connection.execute(select(notices_table).order_by(notices_table.c.id)).mappings()
        return [(row["kind"], row["causes"]) for row in rows]


def states(db: Engine) -> list[tuple[int, str, str]]:
    with db.connect() as connection:
        rows = connection.execute(select(deliveries).order_by(deliveries.c.notice_id, deliveries.c.channel))
        return [(row.notice_id, row.channel, row.state) for row in rows]


@pytest.fixture
def epoch(db: Engine) -> int:
    found = lease.acquire(db, lease.LEADER, "one", lease_s=60)
    assert found is not None
    return found


def sweep(db: Engine, epoch: int, now: float) -> int:
    return notices.sweep(db, holder="one", epoch=epoch, now=now, repeat_s=REPEAT_S)


def routed(db: Engine, epoch: int, *channels: str, now: float) -> None:
    with db.connect() as connection:
        waiting = outbox.unrouted(connection)
    for notice in waiting:
        assert outbox.route(db, notice, {}, channels, holder="one", epoch=epoch, now=now)


@pytest.mark.parametrize(
    ("firing", "quiet", "kind"),
    [
        (["class_mix"], False, None),
        (["class_mix", "text_length"], False, None),  # one cause more waits for the next repeat
        (["class_mix", "drift"], False, "worse"),
        (["class_mix", "drift"], True, None),
        ([], False, "resolved"),
        ([], True, "resolved"),  # good news is never held back
    ],
)
def test_what_follows_a_page_that_costs_no_accuracy(
    firing: list[str], quiet: bool, kind: str | None, sqlite_db: Engine
) -> None:
    fire(sqlite_db, "class_mix")
    with sqlite_db.connect() as connection:
        last = notices.newest(connection)["router"]
    assert due_kind(last, firing, now=101.0, repeat_s=REPEAT_S, quiet=quiet) == kind


def test_seven_causes_of_one_check_are_one_notice_and_later_ones_are_quiet(db: Engine) -> None:
    seven = ["accuracy", "class_mix", "drift", "language", "latency", "text_length", "word_shift"]
    fire(db, *seven)
    fire(db, "unseen_cluster", now=200.0)
    settle(db, now=300.0)
    settle(db, now=400.0)
    assert told(db) == [("firing", seven), ("resolved", seven)]


def test_what_still_fires_is_repeated_with_all_its_causes(db: Engine, epoch: int) -> None:
    fire(db, "drift")
    fire(db, "class_mix", now=200.0)
    assert [sweep(db, epoch, now) for now in (100.0 + REPEAT_S - 1, 100.0 + REPEAT_S, 101.0 + REPEAT_S)] == [
        0,
        1,
        0,
    ]
    assert told(db) == [("firing", ["drift"]), ("repeat", ["class_mix", "drift"])]


def test_a_reign_that_ended_repeats_nothing(db: Engine, epoch: int) -> None:
    fire(db, "drift")
    lease.release(db, lease.LEADER, "one")
    assert lease.acquire(db, lease.LEADER, "two", lease_s=60) is not None
    assert sweep(db, epoch, 100.0 + REPEAT_S) == 0


def test_a_silence_holds_back_what_fires_until_it_ends(db: Engine, epoch: int) -> None:
    with db.begin() as connection:
        silences.silence(connection, "router", for_s=50.0, reason="migration", actor="ann", now=90.0)
    fire(db, "drift")
    fire(db, "drift", model="other")
    assert [sweep(db, epoch, now) for now in (120.0, 141.0)] == [0, 1]
    with db.connect() as connection:
        assert sorted(notices.newest(connection)) == ["other", "router"]


def test_a_silence_holds_back_what_waits_and_may_be_ended(db: Engine, epoch: int) -> None:
    fire(db, "drift")
    routed(db, epoch, "log", now=100.0)
    with db.begin() as connection:
        silences.silence(connection, "router", for_s=1000.0, reason="noise", actor="ann", now=101.0)
    assert outbox.claim(db, "log", "one", lease_s=10, now=102.0) is None
    with db.begin() as connection:
        assert silences.end_silence(connection, "router", actor="bob", now=103.0) == 1
        with pytest.raises(silences.NotSilencedError):
            silences.end_silence(connection, "router", actor="bob", now=103.0)
        (kept,) = silences.list_silences(connection)
    assert (kept.actor, kept.ended_by, kept.reason, kept.ends_at) == ("ann", "bob", "noise", 103.0)
    assert outbox.claim(db, "log", "one", lease_s=10, now=104.0) is not None


def test_a_delivery_has_one_sender_and_a_replaced_one_writes_nothing(db: Engine, epoch: int) -> None:
    fire(db, "drift")
    routed(db, epoch, "log", now=100.0)
    first = outbox.claim(db, "log", "one", lease_s=10, now=100.0)
    assert first is not None
    assert not first.doubtful
    assert outbox.claim(db, "log", "two", lease_s=10, now=109.0) is None
    second = outbox.claim(db, "log", "two", lease_s=10, now=111.0)
    assert second is not None
    assert (second.attempt, second.doubtful, second.notice.key) == (2, True, first.notice.key)
    with pytest.raises(DeliveryLost):
        outbox.finish(db, first, now=112.0)
    outbox.finish(db, second, now=112.0)
    assert outbox.claim(db, "log", "one", lease_s=10, now=1e6) is None
    assert states(db) == [(first.notice.id, "log", "sent")]


def test_a_refused_delivery_waits_longer_each_time_and_is_given_up_after_a_week(
    db: Engine, epoch: int
) -> None:
    fire(db, "drift")
    routed(db, epoch, "log", now=100.0)
    now, waits = 100.0, []
    for _ in range(10):
        delivery = outbox.claim(db, "log", "one", lease_s=10, now=now)
        assert delivery is not None
        assert outbox.retry(db, delivery, "it is down", jitter=0.0, now=now)
        with db.connect() as connection:
            due = connection.execute(select(deliveries.c.not_before)).scalar_one()
        waits.append(due - now)
        now = due
    assert waits == [10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0, 1800.0, 1800.0]
    last = outbox.claim(db, "log", "one", lease_s=10, now=now)
    assert last is not None
    assert not outbox.retry(db, last, "it is down", jitter=0.0, now=101.0 + outbox.GIVE_UP_S)
    assert states(db)[0][2] == "failed"


def test_the_newest_notice_takes_the_place_of_what_still_waits(db: Engine, epoch: int) -> None:
    fire(db, "drift")
    routed(db, epoch, "log", now=100.0)
    delivery = outbox.claim(db, "log", "one", lease_s=10, now=100.0)
    assert delivery is not None
    outbox.retry(db, delivery, "it is down", jitter=0.0, now=101.0)
    settle(db, now=105.0)
    routed(db, epoch, "log", now=105.0)
    newest = outbox.claim(db, "log", "one", lease_s=10, now=200.0)
    assert newest is not None
    assert newest.notice.kind == "resolved"
    assert [state for _, _, state in states(db)] == ["skipped", "sending"]


def test_the_end_of_one_alert_is_told_although_the_next_has_begun(db: Engine, epoch: int) -> None:
    fire(db, "drift")
    routed(db, epoch, "log", now=100.0)
    delivery = outbox.claim(db, "log", "one", lease_s=10, now=100.0)
    assert delivery is not None
    outbox.finish(db, delivery, now=101.0)
    settle(db, now=105.0)
    fire(db, "drift")
    routed(db, epoch, "log", now=110.0)
    told = []
    while (waiting := outbox.claim(db, "log", "one", lease_s=10, now=120.0)) is not None:
        told.append(waiting.notice.kind)
        outbox.finish(db, waiting, now=121.0)
    assert told == ["resolved", "firing"]


def test_what_a_wrong_url_never_took_goes_to_the_one_that_replaces_it(db: Engine, epoch: int) -> None:
    fire(db, "drift")
    routed(db, epoch, "slack:wrong", "log", now=100.0)
    for name in ("slack:wrong", "log"):
        delivery = outbox.claim(db, name, "one", lease_s=10, now=100.0)
        assert delivery is not None
        if name == "log":
            outbox.finish(db, delivery, now=101.0)
        else:
            outbox.retry(db, delivery, "no such token", jitter=0.0, now=101.0)
    assert outbox.adopt(db, ["log", "slack:right"], holder="one", epoch=epoch, now=120.0) == 1
    found = {channel: state for _, channel, state in states(db)}
    assert found == {"slack:wrong": "skipped", "log": "sent", "slack:right": "waiting"}


def test_alertmanager_or_we_but_never_both() -> None:
    urls = ("log", "json://127.0.0.1:9/")
    assert sorted(own_channels(MonitorSettings(notify=urls))) == sorted(map(channel_name, urls))
    assert own_channels(MonitorSettings(notify=urls, notify_by="alertmanager")) == {}


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    made = HttpSink()
    with made.listening():
        yield made


def sender(db: Engine, sink: HttpSink, **settings: Any) -> Sender:
    given = MonitorSettings(notify=(sink.json_url,), **settings)
    return Sender(db=db, settings=given, holder="one", stop=Event(), random=Random(0), wait_s=0.0)


def beat_until_idle(one: Sender, epoch: int) -> None:
    one.beat(epoch)
    for busy in list(one._busy.values()):
        busy.result(20)


def test_a_change_reaches_its_channel_once_and_so_does_the_recovery(
    db: Engine, epoch: int, sink: HttpSink
) -> None:
    one = sender(db, sink)
    fire(db, "drift", "class_mix", now=NOW)
    for _ in range(3):
        beat_until_idle(one, epoch)
    settle(db, now=NOW + 7200)
    for _ in range(3):
        beat_until_idle(one, epoch)
    one.close()
    first, second = (got.body.decode() for got in sink.received)
    assert "router needs attention" in first
    assert "drift that costs accuracy" in first
    assert "router recovered after 2 h" in second
    assert "V2 was proven and promoted" in second


def test_a_channel_that_was_down_is_told_when_it_is_back(db: Engine, epoch: int, sink: HttpSink) -> None:
    sink.status = 500
    one = sender(db, sink)
    fire(db, "drift", now=NOW)
    beat_until_idle(one, epoch)
    beat_until_idle(one, epoch)  # not yet tried again
    assert len(sink.received) == 1
    sink.status = 200
    with db.begin() as connection:
        connection.execute(update(deliveries).values(not_before=0.0))
    beat_until_idle(one, epoch)
    beat_until_idle(one, epoch)
    one.close()
    assert len(sink.received) == 2
    assert [state for _, _, state in states(db)] == ["sent"]
    with db.connect() as connection:
        assert connection.scalar(select(deliveries.c.attempt)) == 2


def test_with_alertmanager_nothing_is_sent_and_nothing_is_owed(
    db: Engine, epoch: int, sink: HttpSink
) -> None:
    one = sender(db, sink, notify_by="alertmanager")
    fire(db, "drift", now=NOW)
    beat_until_idle(one, epoch)
    one.close()
    assert told(db) == [("firing", ["drift"])]
    assert states(db) == []
    assert sink.received == []


def test_an_alert_is_sent_even_if_its_details_cannot_be_read(
    db: Engine, epoch: int, sink: HttpSink, capsys: pytest.CaptureFixture[str]
) -> None:
    from exporter.tables import versions

    with db.begin() as connection:
        connection.execute(
            insert(versions).values(
                model="router", version="v1", number=1, state="champion", path="p", manifest=[1],
                manifest_sha256="0", created_at=0.0,
            )
        )  # fmt: skip
    fire(db, "drift", now=NOW)
    one = sender(db, sink)
    beat_until_idle(one, epoch)
    one.close()
    assert b"router needs attention" in sink.received[0].body
    logged = capsys.readouterr().out
    assert "notice without details" in logged
    assert sink.host not in logged  # a traceback may show variables, but no URL
