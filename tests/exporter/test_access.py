from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from exporter.access import HOLD_S, LOCAL, Access, is_loopback, refuse_open_bind
from exporter.database import open_database, sqlite_url
from exporter.errors import (
    AccessUnavailableError,
    ForbiddenError,
    KeyExistsError,
    KeyNameError,
    KeyRoleError,
    OpenBindError,
    UnauthorizedError,
    UnknownKeyError,
)
from exporter.keys import create_key, list_keys, revoke_key, rotate_key
from exporter.tables import metadata

NOW = 1.7e9


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def access(db: Engine, clock: Clock, *, local: bool = False) -> Access:
    return Access(db, local=local, now=clock, clock=clock)


def bearer(secret: str) -> str:
    return f"Bearer {secret}"


def test_a_key_opens_and_neither_a_part_nor_another_does(db: Engine) -> None:
    issued = create_key(db, "web", ["ingest"], now=NOW)
    guard = access(db, Clock())
    assert guard.caller(bearer(issued.secret)).name == "web"
    wrong = [None, "", "Bearer", "Bearer ", f"Basic {issued.secret}", issued.secret, bearer("tu_é\udfff")]
    for given in [*wrong, bearer(issued.secret[:-1]), bearer(issued.secret + "x"), bearer(issued.key.prefix)]:
        with pytest.raises(UnauthorizedError):
            guard.caller(given)


def test_the_database_has_256_random_bits_by_their_hash_only(db: Engine) -> None:
    secrets = {create_key(db, f"k{number}", ["read"], now=NOW).secret for number in range(20)}
    assert len(secrets) == 20
    assert all(re.fullmatch(r"tu_[\w-]{43}", secret) for secret in secrets)
    with db.connect() as connection:
        stored = " ".join(map(str, connection.execute(text("select * from api_keys")).all()))
    assert not any(secret in stored or secret[7:] in stored for secret in secrets)
    assert all(secret[:7] in stored for secret in secrets)


@pytest.mark.parametrize(
    ("given", "may"),
    [
        ("ingest", {"ingest"}),
        ("read", {"read"}),
        ("operate", {"operate", "read"}),
        ("admin", {"admin", "operate", "read", "ingest"}),
    ],
)
def test_a_role_includes_what_it_says(sqlite_db: Engine, given: str, may: set[str]) -> None:
    secret = create_key(sqlite_db, "one", [given], now=NOW).secret
    caller = access(sqlite_db, Clock()).caller(bearer(secret))
    for role in LOCAL.roles:
        if role in may:
            caller.require(role)
        else:
            with pytest.raises(ForbiddenError, match=role):
                caller.require(role)


def test_a_revoked_key_dies_within_the_hold_and_a_new_one_lives_as_soon(db: Engine) -> None:
    clock = Clock()
    old, guard = create_key(db, "old", ["read"], now=NOW).secret, access(db, clock)
    guard.caller(bearer(old))
    revoke_key(db, "old", now=NOW)
    new = create_key(db, "new", ["read"], now=NOW).secret
    assert guard.caller(bearer(old)).name == "old"
    clock.now += HOLD_S
    assert guard.caller(bearer(new)).name == "new"
    with pytest.raises(UnauthorizedError):
        guard.caller(bearer(old))


def test_a_key_expires_by_the_second(sqlite_db: Engine) -> None:
    clock = Clock()
    secret = create_key(sqlite_db, "short", ["read"], now=NOW, expires_at=NOW + 1).secret
    guard = access(sqlite_db, clock)
    guard.caller(bearer(secret))
    clock.now += 1
    with pytest.raises(UnauthorizedError):
        guard.caller(bearer(secret))


def test_a_rotated_key_overlaps_with_the_new_one_which_keeps_its_roles(db: Engine) -> None:
    clock = Clock()
    old = create_key(db, "web", ["ingest", "read"], now=NOW, requests_per_minute=9)
    new = rotate_key(db, "web", now=NOW, overlap_s=60)
    guard = access(db, clock)
    assert guard.caller(bearer(old.secret)).roles == guard.caller(bearer(new.secret)).roles
    assert guard.caller(bearer(new.secret)).requests_per_minute == 9
    clock.now += 60
    assert guard.caller(bearer(new.secret)).name == "web"
    with pytest.raises(UnauthorizedError):
        guard.caller(bearer(old.secret))


def test_a_rotation_does_not_lengthen_a_key_that_ends_sooner(sqlite_db: Engine) -> None:
    create_key(sqlite_db, "web", ["read"], now=NOW, expires_at=NOW + 5)
    rotate_key(sqlite_db, "web", now=NOW, overlap_s=60)
    assert [key.expires_at for key in list_keys(sqlite_db)] == [NOW + 5, NOW + 5]


def test_a_prefix_revokes_one_key_and_a_name_all_of_it(sqlite_db: Engine) -> None:
    first = create_key(sqlite_db, "web", ["read"], now=NOW)
    rotate_key(sqlite_db, "web", now=NOW, overlap_s=60)
    assert revoke_key(sqlite_db, first.key.prefix, now=NOW) == 1
    assert revoke_key(sqlite_db, "web", now=NOW) == 1
    with pytest.raises(UnknownKeyError):
        revoke_key(sqlite_db, "web", now=NOW)


def test_names_and_roles_that_cannot_be_are_refused(sqlite_db: Engine) -> None:
    create_key(sqlite_db, "web", ["read"], now=NOW)
    with pytest.raises(KeyExistsError, match="rotate web"):
        create_key(sqlite_db, "web", ["read"], now=NOW)
    for name in ("", "A", "a b", "(local)", "x" * 64, "a\n"):
        with pytest.raises(KeyNameError):
            create_key(sqlite_db, name, ["read"], now=NOW)
    for roles in ([], ["root"], ["read", "root"]):
        with pytest.raises(KeyRoleError, match="ingest"):
            create_key(sqlite_db, "other", roles, now=NOW)


def test_without_any_key_only_loopback_lets_everybody_in_and_never_again_after_the_first(
    sqlite_db: Engine,
) -> None:
    clock = Clock()
    guard = access(sqlite_db, clock, local=True)
    assert guard.caller(None) == LOCAL
    with pytest.raises(UnauthorizedError):
        access(sqlite_db, clock).caller(None)
    create_key(sqlite_db, "web", ["read"], now=NOW)
    revoke_key(sqlite_db, "web", now=NOW)
    clock.now += HOLD_S
    with pytest.raises(UnauthorizedError):
        guard.caller(None)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1.evil.example", "http://[x"]
)
def test_a_web_page_from_elsewhere_is_no_local_caller(sqlite_db: Engine, origin: str) -> None:
    guard = access(sqlite_db, Clock(), local=True)
    assert guard.caller(None, origin="http://localhost:8000") == LOCAL
    with pytest.raises(ForbiddenError, match="web page"):
        guard.caller(None, origin=origin)


def test_while_the_database_is_away_known_keys_work_and_unknown_ones_are_503(tmp_path: Path) -> None:
    db, clock = open_database(sqlite_url(tmp_path / "home")), Clock()
    metadata.create_all(db)
    secret = create_key(db, "web", ["read"], now=NOW).secret
    guard = access(db, clock)
    guard.caller(bearer(secret))
    db.dispose()
    shutil.rmtree(tmp_path / "home")
    clock.now += 2 * HOLD_S
    assert guard.caller(bearer(secret)).name == "web"
    with pytest.raises(AccessUnavailableError):
        guard.caller(bearer("tu_unknown"))
    with pytest.raises(AccessUnavailableError):
        access(db, clock, local=True).caller(None)


def test_the_last_use_is_noted_once_an_hour(sqlite_db: Engine) -> None:
    clock = Clock()
    secret = create_key(sqlite_db, "web", ["read"], now=NOW).secret
    guard, used = access(sqlite_db, clock), []
    for _ in range(5):
        guard.caller(bearer(secret))
        clock.now += 1800
        used.append(list_keys(sqlite_db)[0].used_at)
    assert used == [None, NOW + 1800, NOW + 1800, NOW + 1800, NOW + 7200]


def test_a_bind_outside_loopback_needs_a_live_key(sqlite_db: Engine) -> None:
    refuse_open_bind(sqlite_db, "127.0.0.1", NOW)
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.org"):
        assert not is_loopback(host)
        with pytest.raises(OpenBindError, match="trueup keys create"):
            refuse_open_bind(sqlite_db, host, NOW)
    create_key(sqlite_db, "web", ["read"], now=NOW)
    refuse_open_bind(sqlite_db, "0.0.0.0", NOW)
    revoke_key(sqlite_db, "web", now=NOW)
    with pytest.raises(OpenBindError):
        refuse_open_bind(sqlite_db, "0.0.0.0", NOW)
