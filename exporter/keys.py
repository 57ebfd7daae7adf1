"""API keys: made, listed, rotated and revoked. A key is told once; the database has its sha256 only."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import Connection, Engine, Row, insert, or_, select, update

from exporter.database import lock_order
from exporter.errors import KeyExistsError, KeyNameError, KeyRoleError, UnknownKeyError
from exporter.tables import api_keys

AccessRole = Literal["ingest", "read", "operate", "admin"]
ROLES: tuple[AccessRole, ...] = get_args(AccessRole)
MARK = "tu_"  # secret scanners know keys by such a mark
PREFIX_LENGTH = len(MARK) + 4
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_ORDER = 7_301_009


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key without its secret; times are seconds since 1970 UTC."""

    id: int
    name: str
    prefix: str
    sha256: str
    roles: tuple[AccessRole, ...]
    requests_per_minute: int | None  # None: as [exporter] requests_per_minute says
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    used_at: float | None  # within an hour

    def live(self, now: float) -> bool:
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


@dataclass(frozen=True, slots=True)
class Issued:
    """A new key. `secret` is kept nowhere: whoever loses it needs another."""

    secret: str
    key: Key


def key_hash(secret: str) -> str:
    """Hex sha256. Slow, salted hashes are for passwords, which can be guessed; 256 random bits cannot."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def create_key(
    db: Engine,
    name: str,
    roles: Iterable[str],
    *,
    now: float,
    expires_at: float | None = None,
    requests_per_minute: int | None = None,
) -> Issued:
    """Raises KeyNameError, KeyRoleError, KeyExistsError (a live key has this name)."""
    if not _NAME.fullmatch(name):
        raise KeyNameError(name)
    wanted = _roles(roles)
    with db.begin() as connection:
        lock_order(connection, _ORDER)
        if _live(connection, name, now):
            raise KeyExistsError(name)
        return _issue(
            connection, name, wanted, now=now, expires_at=expires_at, requests_per_minute=requests_per_minute
        )


def rotate_key(db: Engine, name: str, *, now: float, overlap_s: float) -> Issued:
    """A new key with the name, roles and limit of the old one, which stays valid for `overlap_s` more.

    Raises UnknownKeyError.
    """
    with db.begin() as connection:
        lock_order(connection, _ORDER)
        old = _live(connection, name, now)
        if not old:
            raise UnknownKeyError(name)
        ends = now + overlap_s
        later = or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > ends)
        connection.execute(
            update(api_keys).where(api_keys.c.id.in_([key.id for key in old]), later).values(expires_at=ends)
        )
        newest = old[-1]
        return _issue(
            connection, name, newest.roles, now=now, expires_at=newest.expires_at,
            requests_per_minute=newest.requests_per_minute,
        )  # fmt: skip


def revoke_key(db: Engine, name: str, *, now: float) -> int:
    """End every live key of this name, or the one with this prefix; how many. Raises UnknownKeyError."""
    with db.begin() as connection:
        lock_order(connection, _ORDER)
        live = _live(connection, name, now)
        if not live:
            raise UnknownKeyError(name)
        ids = [key.id for key in live]
        connection.execute(update(api_keys).where(api_keys.c.id.in_(ids)).values(revoked_at=now))
        return len(ids)


def list_keys(db: Engine) -> list[Key]:
    """Oldest first, dead ones too."""
    with db.connect() as connection:
        return [_key(row) for row in connection.execute(select(api_keys).order_by(api_keys.c.id))]


def any_live_key(db: Engine, now: float) -> bool:
    return any(key.live(now) for key in list_keys(db))


def touch_keys(db: Engine, ids: Sequence[int], *, now: float, coarse_s: float) -> None:
    """Note that these keys were used, at most once in `coarse_s` each."""
    stale = or_(api_keys.c.used_at.is_(None), api_keys.c.used_at < now - coarse_s)
    with db.begin() as connection:
        connection.execute(update(api_keys).where(api_keys.c.id.in_(ids), stale).values(used_at=now))


def _issue(
    connection: Connection,
    name: str,
    roles: Sequence[AccessRole],
    *,
    now: float,
    expires_at: float | None,
    requests_per_minute: int | None,
) -> Issued:
    secret = MARK + secrets.token_urlsafe(32)
    row = connection.execute(
        insert(api_keys)
        .values(
            name=name,
            prefix=secret[:PREFIX_LENGTH],
            sha256=key_hash(secret),
            roles=list(roles),
            requests_per_minute=requests_per_minute,
            created_at=now,
            expires_at=expires_at,
        )
        .returning(*api_keys.c)
    ).one()
    return Issued(secret, _key(row))


def _live(connection: Connection, name: str, now: float) -> list[Key]:
    query = select(api_keys).where(or_(api_keys.c.name == name, api_keys.c.prefix == name))
    found = connection.execute(query.order_by(api_keys.c.id))
    return [key for key in map(_key, found) if key.live(now)]


def _roles(given: Iterable[str]) -> tuple[AccessRole, ...]:
    wanted = set(given)
    if not wanted or wanted - set(ROLES):
        raise KeyRoleError(sorted(wanted - set(ROLES)), ROLES)
    return tuple(role for role in ROLES if role in wanted)


def _key(row: Row[Any]) -> Key:
    values = dict(row._mapping)
    return Key(**values | {"roles": tuple(values["roles"])})
