"""The monitor killed (-9) in the middle of telling people: nothing may be lost, nobody told twice.

python -m tests.benchmarks notices --restarts 50 --database sqlite|postgresql [--seed 0] [--quick]
Before each kill a model's drift fires and another one's is resolved; the kill comes while a receiver is at
work on it. There are three: our signed webhook and a mail server, which can know a repetition by `webhook-id`
and Message-ID, and a plain JSON webhook, which cannot. Prints one JSON line: for each channel how many
messages were owed; overtaken (a newer one of the model took its place before it was sent); lost; doubled (two
keys for one change: nobody could know); repeated (again with the key of an earlier one: a receiver that keeps
keys drops it, at the plain webhook somebody reads it).
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from email import message_from_string, policy
from typing import Any

from sqlalchemy import Engine, func, select

from exporter.database import clock
from monitor import causes, episodes, notices
from monitor.tables import deliveries
from monitor.tables import notices as written
from tests.benchmarks.faults import Cluster, cluster, database
from tests.grafana.stack import Mailbox
from tests.monitor.sinks import HttpSink

LONGEST_S = 60.0
ANSWER_S = 0.25  # a receiver takes up to this long


def run_restarts(db: Engine, restarts: int, *, seed: int, lease_s: float) -> dict[str, Any]:
    """Kill the monitor `restarts` times on an empty database, and count what arrived."""
    rng, plain, hook, box = random.Random(seed), HttpSink(), HttpSink(), Mailbox()
    plain.delay_s = hook.delay_s = ANSWER_S
    with plain.listening(), hook.listening(), box.listening() as smtp:
        mail = f"mailto://{smtp}?from=trueup@example.org&to=ann@example.org"
        urls = [plain.json_url, hook.webhook_url, mail]
        with cluster(db, lease_s, monitors=1, notify=urls) as monitors:
            epoch, caught = 0, 0
            for number in range(restarts):
                epoch, pid = monitors.await_reign(epoch)
                _wait(lambda: not _owed(db))  # so that no newer notice takes the place of one in doubt
                before = len(hook.received) + len(plain.received)
                _change(db, number)
                _wait(lambda: len(hook.received) + len(plain.received) > before)  # noqa: B023  # called at once
                time.sleep(rng.uniform(0.0, 1.2 * ANSWER_S))
                _kill(monitors, pid)
                caught += _in_doubt(db)
            _wait(lambda: not _owed(db))
    keys = _keys(db)
    received = {
        "webhook+http": [one.headers["webhook-id"] for one in hook.received],
        "mailto": [_message_id(one) for one in box.messages],
        "json": [_key_of(json.loads(one.body)["title"], keys) for one in plain.received],
    }
    return {
        "restarts": restarts,
        "in_doubt": caught,
        "seed": seed,
        "channels": {name: _count(db, name, found, keys) for name, found in received.items()},
    }


def _change(db: Engine, number: int) -> None:
    """One model begins to drift, the one before recovers."""
    with db.begin() as connection:
        now = clock(connection)
        model = f"m{number}"
        episodes.observe(
            connection, model=model, version="v1", cause="drift", signal="page", lasting=True,
            detail={}, now=now,
        )  # fmt: skip
        notices.note(connection, model, now=now)
        if number:
            causes.settle(connection, f"m{number - 1}", reason="v2 was promoted", now=now)


def _kill(monitors: Cluster, pid: int) -> None:
    monitors.send(pid, signal.SIGKILL)
    monitors.start()


def _count(db: Engine, name: str, found: list[str], keys: dict[str, tuple[str, str]]) -> dict[str, int]:
    """`found`: the keys that arrived; `keys`: (model, kind) by key, of every notice."""
    changes = Counter(keys[key] for key in set(found))
    query = select(written.c.key, deliveries.c.state).join(written, written.c.id == deliveries.c.notice_id)
    with db.connect() as connection:
        rows = connection.execute(query.where(deliveries.c.channel.startswith(f"{name}:"))).all()
    overtaken = {row.key for row in rows if row.state == "skipped"}
    return {
        "owed": len(rows),
        "overtaken": len(overtaken),
        "lost": len(set(keys) - set(found) - overtaken),
        "doubled": sum(changes.values()) - len(changes),
        "repeated": len(found) - len(set(found)),
    }


def _key_of(title: str, keys: dict[str, tuple[str, str]]) -> str:
    """What a plain receiver has instead: the words."""
    _, model, *words = title.split()
    kind = "resolved" if words[0] == "recovered" else "firing"
    return next(key for key, change in keys.items() if change == (model, kind))


def _keys(db: Engine) -> dict[str, tuple[str, str]]:
    with db.connect() as connection:
        rows = connection.execute(select(written.c.key, written.c.model, written.c.kind))
        return {row.key: (row.model, row.kind) for row in rows}


def _message_id(mail: str) -> str:
    return str(message_from_string(mail, policy=policy.default)["Message-ID"]).strip("<>").split("@")[0]


def _in_doubt(db: Engine) -> int:
    """Whether a delivery was in work when the monitor died."""
    with db.connect() as connection:
        query = select(func.count()).where(deliveries.c.state == "sending")
        return int(connection.execute(query).scalar_one() > 0)


def _owed(db: Engine) -> bool:
    unrouted = select(func.count()).where(written.c.routed_at.is_(None))
    open_ = select(func.count()).where(deliveries.c.state.in_(("waiting", "sending")))
    with db.connect() as connection:
        return any(connection.execute(one).scalar_one() for one in (unrouted, open_))


def _wait(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONGEST_S
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.005)


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks notices")
    parser.add_argument("--restarts", type=int, default=50)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="ten restarts")
    given = parser.parse_args()
    began = time.monotonic()
    with database(given.database) as db:
        restarts = 10 if given.quick else given.restarts
        found = run_restarts(db, restarts, seed=given.seed, lease_s=1.0)
    told = {"benchmark": "notices", "database": given.database}
    print(json.dumps(told | found | {"seconds": round(time.monotonic() - began)}))


if __name__ == "__main__":
    main()
