"""The sender: routes notices to channels and delivers them, each channel in its own thread while it has work.

Only the leader sends. A channel that hangs holds up itself alone, a monitor that dies leaves its deliveries
to the next leader (outbox.py says what that promises).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random
from threading import Event
from typing import Any

import structlog
from pydantic import SecretStr
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from monitor import lease, notices, outbox
from monitor.asking import database_now
from monitor.channels import Options, channel, channel_name, keyed
from monitor.errors import MonitorError
from monitor.message import compose
from monitor.notice_facts import Facts, explained, plain_facts, read_facts
from monitor.notices import Notice
from monitor.outbox import Delivery, DeliveryLost
from monitor.settings import MonitorSettings

WAIT_S = 8.0  # for the explanation of what moved; a page goes without it after that
_THREADS = 8
_log = structlog.get_logger("trueup.notices")


def options(settings: MonitorSettings) -> Options:
    """What the channels are told of [monitor]."""
    return Options(webhook_secret=settings.webhook_secret, allow_private=settings.allow_private)


def own_channels(settings: MonitorSettings) -> dict[str, SecretStr]:
    """URLs by their names; none where Alertmanager does the telling. A traceback does not show them."""
    if settings.notify_by == "alertmanager":
        return {}
    return {channel_name(url): SecretStr(url) for url in settings.notify}


@dataclass(slots=True, kw_only=True)
class Sender:
    """One process's share; `beat` while it leads."""

    db: Engine
    settings: MonitorSettings
    holder: str
    stop: Event
    random: Random = field(default_factory=Random)
    wait_s: float = WAIT_S
    _adopted: int | None = None  # the reign that took over what was owed
    _pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_THREADS, thread_name_prefix="notices")
    )
    _busy: dict[str, Future[None]] = field(default_factory=dict)

    def beat(self, epoch: int) -> None:
        """Write what is due, route it, and wake the channels that have something to send."""
        now = database_now(self.db)
        urls = own_channels(self.settings)
        reign: dict[str, Any] = {"holder": self.holder, "epoch": epoch, "now": now}
        if self._adopted != epoch:
            outbox.adopt(self.db, sorted(urls), **reign)
            self._adopted = epoch
        notices.sweep(self.db, repeat_s=self.settings.repeat_every, **reign)
        with self.db.connect() as connection:
            unrouted = outbox.unrouted(connection)
        for notice in unrouted:
            facts = self._facts(notice, now) if urls else {}
            if facts is not None:
                outbox.route(self.db, notice, facts, sorted(urls), **reign)
        with self.db.connect() as connection:
            due = outbox.due_channels(connection, now=now)
        for name in due:
            if name in urls and (name not in self._busy or self._busy[name].done()):
                self._busy[name] = self._pool.submit(self._drain, name, urls[name], epoch)

    def close(self) -> None:
        """Let what is being sent end; what waits is left to the next leader."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _facts(self, notice: Notice, now: float) -> Facts | None:
        """What it says; None while it is worth waiting for more."""
        try:
            with self.db.connect() as connection:
                fresh = notice.kind in ("firing", "worse") and now < notice.created_at + self.wait_s
                if fresh and not explained(connection, notice):
                    return None
                return read_facts(connection, notice, self.settings)
        except SQLAlchemyError:
            raise
        except Exception:  # an alert must reach people even if one of its details cannot be read
            _log.exception("notice without details", notice=notice.id)
            return plain_facts(notice, self.settings)

    def _drain(self, name: str, url: SecretStr, epoch: int) -> None:
        """Send what is due on one channel, oldest first."""
        try:
            while not self.stop.is_set() and self._leads(epoch):
                lease_s, now = self.settings.job_lease_s, database_now(self.db)
                delivery = outbox.claim(self.db, name, self.holder, lease_s=lease_s, now=now)
                if delivery is None:
                    return
                self._deliver(delivery, url, lease_s)
        except DeliveryLost as lost:
            _log.info("lost", problem=str(lost))
        except Exception:  # the thread's last words; the lease ends and the next beat tries again
            _log.exception("failed", what="channel", id=name)

    def _deliver(self, delivery: Delivery, url: SecretStr, lease_s: float) -> None:
        error = None
        with lease.kept(self._keeping(delivery, lease_s), every_s=lease_s / 4):
            error = attempt(
                delivery.notice, url.get_secret_value(), options(self.settings), doubtful=delivery.doubtful
            )
        now, jitter = database_now(self.db), self.random.random()
        if error is None:
            outbox.finish(self.db, delivery, now=now)
            return
        goes_on = outbox.retry(self.db, delivery, error, jitter=jitter, now=now)
        _log.warning(
            "not delivered" if goes_on else "given up",
            notice=delivery.notice.id,
            channel=delivery.channel,
            attempt=delivery.attempt,
            problem=error,
        )

    def _keeping(self, delivery: Delivery, lease_s: float) -> Callable[[], None]:
        return lambda: outbox.keep(self.db, delivery, lease_s=lease_s, now=database_now(self.db))

    def _leads(self, epoch: int) -> bool:
        with self.db.connect() as connection:
            return lease.holds(connection, lease.LEADER, self.holder, epoch)


def attempt(notice: Notice, url: str, given: Options, *, doubtful: bool) -> str | None:
    """Send one notice once; why it failed, in words without secrets."""
    try:
        message = compose(notice, notice.content or {}, doubtful=doubtful and not keyed(url))
        channel(url).send(url, message, given)
    except MonitorError as problem:
        return str(problem)
    except Exception as problem:  # a plug-in's bug must not end the channel; its words may hold the URL
        _log.error("channel broke", channel=channel_name(url), kind=type(problem).__name__)
        return f"{type(problem).__name__} in the channel"
    return None
