"""Alerts by hand: episodes, deliveries, silences, and a message that tests the channels."""

from __future__ import annotations

import getpass
import math
import os
import secrets
import socket
import time
from dataclasses import asdict
from typing import Any

from pydantic import SecretStr
from rich.table import Table
from sqlalchemy import select

from exporter.database import clock
from monitor import outbox
from monitor import silences as silencing
from monitor.channels import channel_name, check_urls
from monitor.commands import Context, Outcome, known
from monitor.commands.models import age
from monitor.episodes import list_open
from monitor.errors import MonitorError
from monitor.message import lasted
from monitor.notice_facts import Facts, plain_facts
from monitor.notices import Notice
from monitor.sending import attempt, options, own_channels
from monitor.settings import MonitorSettings, seconds
from monitor.tables import episodes


class BadDurationError(MonitorError):
    """A silence needs an end."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"--for: {problem}.")


def alerts(context: Context, *, name: str | None) -> Outcome:
    """List episodes, newest first; status 1 while one is firing."""
    query = select(episodes).order_by(episodes.c.id.desc()).limit(100)
    if known(context, name) is not None:
        query = query.where(episodes.c.model == name)
    with context.db.connect() as connection:
        data = [dict(row) for row in connection.execute(query).mappings()]
        firing = any(one.state == "firing" for one in list_open(connection, name))
        quiet = sorted(connection.scalars(silencing.silenced(clock(connection)).distinct()))
    table = Table("id", "model", "version", "cause", "state", "opened", "resolved")
    for row in data:
        ended = "–" if row["resolved_at"] is None else f"{age(row['resolved_at'])} ago"
        shown = (str(row[key]) for key in ("id", "model", "version", "cause", "state"))
        table.add_row(*shown, f"{age(row['opened_at'])} ago", ended)
    view = (table if data else "No alerts.", *([f"Silenced: {', '.join(quiet)}"] if quiet else []))
    return Outcome(
        data={"episodes": data, "firing": firing, "silenced": quiet}, view=view, status=int(firing)
    )


def deliveries(context: Context, *, name: str | None) -> Outcome:
    """List deliveries, newest first; status 1 while one is refused or was given up."""
    known(context, name)
    with context.db.connect() as connection:
        data = outbox.list_deliveries(connection, name)
    table = Table("notice", "model", "kind", "channel", "state", "attempts", "written", "problem")
    for row in data:
        shown = (str(row[key]) for key in ("notice_id", "model", "kind", "channel", "state", "attempt"))
        table.add_row(*shown, f"{age(row['created_at'])} ago", row["error"] or "–")
    refused = any(row["error"] and row["state"] in ("waiting", "sending", "failed") for row in data)
    by = context.settings.monitor.notify_by
    note = [] if by == "apprise" else ["notify_by = alertmanager: nothing is sent from here."]
    view = (table if data else "Nothing was sent.", *note)
    return Outcome(data={"deliveries": data, "notify_by": by}, view=view, status=int(refused))


def silence(context: Context, *, name: str, duration: str, reason: str) -> Outcome:
    """Hold back a model's alerts."""
    known(context, name)
    with context.db.begin() as connection:
        made = silencing.silence(
            connection,
            name,
            for_s=_duration(duration),
            reason=reason,
            actor=_who(),
            now=clock(connection),
        )
    view = f"{name} is silenced for {lasted(made.ends_at - made.created_at)} by {made.actor}: {reason}"
    return Outcome(data=asdict(made), view=(view,))


def unsilence(context: Context, *, name: str) -> Outcome:
    """End the silences of a model."""
    known(context, name)
    with context.db.begin() as connection:
        ended = silencing.end_silence(connection, name, actor=_who(), now=clock(connection))
    return Outcome(data={"model": name, "ended": ended}, view=(f"{name} is heard again.",))


def silences(context: Context, *, name: str | None) -> Outcome:
    """List silences, newest first."""
    known(context, name)
    with context.db.connect() as connection:
        now = clock(connection)
        found = silencing.list_silences(connection, name)
    table = Table("model", "by", "since", "state", "reason")
    for one in found:
        left = f"{lasted(one.ends_at - now)} left"
        ended = "ran out" if one.ended_by is None else f"ended by {one.ended_by}"
        state = left if one.ends_at > now else ended
        table.add_row(one.model, one.actor, f"{age(one.created_at)} ago", state, one.reason)
    data = [asdict(one) | {"active": one.ends_at > now} for one in found]
    return Outcome(data={"silences": data}, view=(table if found else "No silences.",))


def test(context: Context, *, url: str | None) -> Outcome:
    """Send an example through each channel; status 1 when one fails."""
    settings = context.settings.monitor
    urls = own_channels(settings) if url is None else {channel_name(url): SecretStr(url)}
    given = options(settings)
    check_urls([one.get_secret_value() for one in urls.values()], given)
    notice = _example(settings, now=time.time())
    data: list[dict[str, Any]] = []
    for name, one in urls.items():
        began = time.monotonic()
        problem = attempt(notice, one.get_secret_value(), given, doubtful=False)
        took = round(time.monotonic() - began, 3)
        data.append({"channel": name, "delivered": problem is None, "seconds": took, "problem": problem})
    table = Table("channel", "delivered", "seconds", "problem")
    for row in data:
        table.add_row(
            row["channel"], "yes" if row["delivered"] else "no", str(row["seconds"]), row["problem"] or "–"
        )
    nothing = "Nothing is sent from here: notify_by = alertmanager, or [monitor] notify is empty."
    failed = not all(row["delivered"] for row in data)
    return Outcome(
        data={"key": notice.key, "channels": data}, view=(table if data else nothing,), status=int(failed)
    )


def _duration(text: str) -> float:
    try:
        found = seconds(text)
    except ValueError as error:
        raise BadDurationError(str(error)) from error
    if not 0 < found <= 366 * 86400:
        raise BadDurationError(f"{text!r} is not between a second and a year")
    return found


def _who() -> str:
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container may know no name
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"


def _example(settings: MonitorSettings, *, now: float) -> Notice:
    """A notice of a model that does not exist, with everything that a real one may have."""
    notice = Notice(
        id=0,
        model="example",
        version="v1",
        kind="firing",
        group_id=0,
        causes=["drift"],
        dedupe_key="",
        key=secrets.token_hex(16),
        created_at=now,
        content=None,
        routed_at=now,
    )
    content: Facts = plain_facts(notice, settings) | {
        "reasons": ["This is a test, sent by `trueup alerts test`: nothing has happened"],
        "next": ["Nothing: if you can read this, alerts of trueup arrive here"],
        "series": [_window(number, now) for number in range(24)],
    }
    return Notice(**asdict(notice) | {"content": content})


def _window(number: int, now: float) -> dict[str, Any]:
    """A made-up past in which accuracy falls from the 18th check on."""
    late = max(0, number - 17)
    accuracy = 0.93 + 0.01 * math.sin(number) - 0.025 * late
    return {
        "at": now - 300.0 * (23 - number),
        "accuracy": accuracy,
        "lower": accuracy - 0.03,
        "upper": min(1.0, accuracy + 0.025),
        "share": min(1.25, 0.1 + 0.05 * math.sin(2 * number) + 0.22 * late),
        "paged": late >= 5,
    }
