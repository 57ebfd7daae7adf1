from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from monitor import episodes
from monitor.episodes import Episode, Signal


def observe(
    db: Engine, signal: Signal, *, cause: str = "drift", lasting: bool = True, now: float = 100.0
) -> Episode | None:
    with db.begin() as connection:
        return episodes.observe(
            connection, model="router", version="v1", cause=cause, signal=signal, lasting=lasting,
            detail={"reasons": ["similarity fell"]}, now=now,
        )  # fmt: skip


def newest(db: Engine) -> Episode:
    with db.connect() as connection:
        return episodes.list_episodes(connection)[0]


def test_an_episode_rises_fires_and_is_resolved(db: Engine) -> None:
    assert observe(db, "quiet") is None
    pending = observe(db, "rising", now=1.0)
    firing = observe(db, "page", now=2.0)
    assert pending is not None
    assert firing is not None
    assert (pending.state, firing.state, firing.id) == ("pending", "firing", pending.id)
    with db.begin() as connection:
        assert episodes.resolve(connection, "router", reason="v2 was promoted", now=3.0) == [firing.id]
    done = newest(db)
    assert (done.state, done.opened_at, done.fired_at, done.resolved_at) == ("resolved", 1.0, 2.0, 3.0)


def test_a_cause_has_one_open_episode(db: Engine) -> None:
    first, second, other = observe(db, "page"), observe(db, "page"), observe(db, "page", cause="class_mix")
    assert first is not None
    assert second is not None
    assert other is not None
    assert first.id == second.id != other.id


def test_a_proven_drift_lasts_and_a_threshold_ends_by_itself(db: Engine) -> None:
    observe(db, "page")
    observe(db, "page", cause="threshold:accuracy", lasting=False)
    drift = observe(db, "quiet")
    threshold = observe(db, "quiet", cause="threshold:accuracy", lasting=False)
    assert drift is not None
    assert threshold is not None
    assert (drift.state, threshold.state) == ("firing", "resolved")


class Sink:
    """A webhook that counts what it gets and refuses while `down`."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.down = False
        sink = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if not sink.down:
                    sink.bodies.append(body)
                self.send_response(500 if sink.down else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://127.0.0.1:{self.server.server_port}/"


@pytest.fixture
def sink() -> Iterator[Sink]:
    made = Sink()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_people_hear_of_changes_only_and_of_each_once(db: Engine, sink: Sink) -> None:
    observe(db, "rising")
    assert episodes.tell(db, [sink.url], now=101.0) == 0
    observe(db, "page")
    assert episodes.tell(db, [sink.url], now=102.0) == 1
    observe(db, "page")
    assert episodes.tell(db, [sink.url], now=103.0) == 0
    with db.begin() as connection:
        episodes.resolve(connection, "router", reason="v2 was promoted", now=104.0)
    assert episodes.tell(db, [sink.url], now=105.0) == 1
    fired, resolved = sink.bodies
    assert b"needs attention" in fired
    assert b"similarity fell" in fired
    assert b"v2 was promoted" in resolved


def test_a_message_that_was_not_taken_is_sent_once_when_the_channel_is_back(db: Engine, sink: Sink) -> None:
    sink.down = True
    observe(db, "page")
    assert episodes.tell(db, ["log", sink.url], now=100.0) == 0
    assert episodes.tell(db, ["log", sink.url], now=105.0) == 0  # not yet tried again
    sink.down = False
    assert episodes.tell(db, ["log", sink.url], now=111.0) == 1
    assert episodes.tell(db, ["log", sink.url], now=222.0) == 0
    assert len(sink.bodies) == 1


def test_an_episode_that_never_fired_is_never_told(db: Engine) -> None:
    observe(db, "rising")
    observe(db, "quiet")
    assert newest(db).state == "resolved"
    assert episodes.tell(db, ["log"], now=101.0) == 0
