"""Who may do what: a caller is known by an API key, or is local where there are no keys and no way in."""

from __future__ import annotations

import hmac
import ipaddress
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from exporter.errors import AccessUnavailableError, ForbiddenError, OpenBindError, UnauthorizedError
from exporter.keys import (
    PREFIX_LENGTH,
    ROLES,
    AccessRole,
    Key,
    any_live_key,
    key_hash,
    list_keys,
    touch_keys,
)

HOLD_S = 3.0  # so long a revoked key may live on, and so rarely the database is asked
AWAY_AFTER = 2  # holds without an answer, after which an unknown key may be one that was not seen yet
COARSE_S = 3600.0  # a key's last use is known to the hour
_INCLUDED: dict[AccessRole, frozenset[AccessRole]] = {
    "ingest": frozenset({"ingest"}),
    "read": frozenset({"read"}),
    "operate": frozenset({"operate", "read"}),
    "admin": frozenset(ROLES),
}

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Caller:
    """`key` numbers the key (0: local); `roles` hold what each role includes."""

    name: str
    roles: frozenset[AccessRole]
    key: int = 0
    requests_per_minute: int | None = None

    def require(self, *roles: AccessRole) -> None:
        """Raises ForbiddenError unless the caller has one of `roles`."""
        if self.roles.isdisjoint(roles):
            raise ForbiddenError(self.name, roles)


LOCAL = Caller("(local)", frozenset(ROLES))  # no key can have this name


def caller_of(key: Key) -> Caller:
    """Who holds a key."""
    roles = frozenset[AccessRole]().union(*(_INCLUDED[role] for role in key.roles))
    return Caller(key.name, roles, key.id, key.requests_per_minute)


class Access:
    """Keys as the database had them a moment ago.

    While the database is away, known keys go on working and unknown ones are refused with 503.
    `local` lets callers in without a key as long as the database never had one: for loopback only.
    """

    def __init__(
        self,
        db: Engine,
        *,
        local: bool,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db, self._local, self._now, self._clock = db, local, now, clock
        self._keys: dict[str, list[tuple[Key, Caller]]] | None = None  # by prefix
        self._read_at = self._tried_at = -HOLD_S * AWAY_AFTER
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="keys", daemon=True)
        self._used: set[int] = set()
        self._lock = threading.Lock()

    @property
    def stale(self) -> bool:
        """Whether `refresh` is due."""
        return self._clock() - self._tried_at >= HOLD_S

    def start(self) -> None:
        """Read the keys now, and again every HOLD_S in a thread: `known` is then enough."""
        self.refresh()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def caller(self, authorization: str | None, *, origin: str | None = None) -> Caller:
        """Who sends this `Authorization` header; `origin` is the header that browsers add.

        Asks the database at most once in HOLD_S; an event loop calls `start` once and `known` then.
        Raises UnauthorizedError, ForbiddenError, AccessUnavailableError.
        """
        if self.stale:
            self.refresh()
        return self.known(authorization, origin=origin)

    def known(self, authorization: str | None, *, origin: str | None = None) -> Caller:
        """`caller` by what is known already."""
        if self._keys is None:
            raise AccessUnavailableError
        if not self._keys and self._local:
            _refuse_foreign(origin)
            return LOCAL
        found = self._find(_bearer(authorization))
        self._used.add(found.key)
        return found

    def refresh(self) -> None:
        """Read the keys and note which were used. A database that is away changes nothing."""
        with self._lock:
            if not self.stale:
                return
            self._tried_at = self._clock()
            try:
                self._read()
            except SQLAlchemyError as error:
                _log.warning("keys_not_read", error=type(error).__name__)

    def _watch(self) -> None:
        while not self._stopping.wait(HOLD_S):
            try:
                self.refresh()
            except Exception:  # the loop must outlive what nobody foresaw; known keys keep working
                _log.exception("keys_failed")

    def _read(self) -> None:
        found: dict[str, list[tuple[Key, Caller]]] = defaultdict(list)
        keys = list_keys(self._db)
        for key in keys:
            found[key.prefix].append((key, caller_of(key)))
        self._keys, self._read_at = dict(found), self._clock()
        used, self._used = self._used, set()
        late = self._now() - COARSE_S
        due = [key.id for key in keys if key.id in used and (key.used_at is None or key.used_at < late)]
        if due:
            touch_keys(self._db, due, now=self._now(), coarse_s=COARSE_S)

    def _find(self, secret: str) -> Caller:
        given, now = key_hash(secret), self._now()
        assert self._keys is not None
        for key, caller in self._keys.get(secret[:PREFIX_LENGTH], ()):
            if hmac.compare_digest(key.sha256, given) and key.live(now):
                return caller
        if self._clock() - self._read_at >= HOLD_S * AWAY_AFTER:
            raise AccessUnavailableError
        raise UnauthorizedError("This API key is unknown, expired or revoked.")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_open_bind(db: Engine, host: str, now: float) -> None:
    """Raise OpenBindError where others can reach `host` and no key guards it."""
    if not is_loopback(host) and not any_live_key(db, now):
        raise OpenBindError(host)


def _bearer(authorization: str | None) -> str:
    kind, _, secret = (authorization or "").strip().partition(" ")
    if kind.lower() != "bearer" or not secret.strip():
        raise UnauthorizedError("Send an API key as `Authorization: Bearer tu_…`.")
    return secret.strip()


def _refuse_foreign(origin: str | None) -> None:
    """A web page from elsewhere must not use its reader's browser as a local caller."""
    if origin is None:
        return
    try:
        host = urlsplit(origin).hostname
    except ValueError:
        host = None
    if not is_loopback(host or ""):
        raise ForbiddenError("this web page", ())
