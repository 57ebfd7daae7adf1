"""Who looks at the page: a local caller, the holder of a key, or somebody who has signed in with one.

The session lies in the database, its cookie is random, and the key behind it is asked each time: a key that
is revoked ends its sessions.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from sqlalchemy import Engine, delete, insert, select
from starlette.requests import Request
from starlette.responses import Response

from exporter.access import Access, Caller, caller_of
from exporter.database import NOW, clock
from exporter.errors import UnauthorizedError
from exporter.keys import Key, list_keys
from monitor.tables import sessions
from monitor.web.forms import form_token

COOKIE = "trueup_session"
LASTS_S = 12 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """A caller with his browser's cookie; "" where it has none yet."""

    caller: Caller
    cookie: str
    signed_in: bool

    @property
    def name(self) -> str:
        """For people and the audit."""
        return self.caller.name

    @property
    def may_operate(self) -> bool:
        """Whether acts are shown."""
        return "operate" in self.caller.roles

    @property
    def form(self) -> str:
        """The token of his forms."""
        return form_token(self.cookie)


class Visitors:
    """Finds out who sends a request."""

    def __init__(self, db: Engine, access: Access) -> None:
        self._db, self._access = db, access
        access.refresh()  # so that no two first visitors meet it half read

    def visitor(self, request: Request) -> Visitor:
        """Who this is. Raises UnauthorizedError, AccessUnavailableError."""
        cookie = request.cookies.get(COOKIE, "")
        try:
            caller = self._access.caller(request.headers.get("authorization"))
        except UnauthorizedError:
            key = self._key(cookie)
            if key is None:
                raise
            return Visitor(caller=caller_of(key), cookie=cookie, signed_in=True)
        return Visitor(caller=caller, cookie=cookie, signed_in=False)

    def sign_in(self, key: str) -> str:
        """Begin a session for the holder of a key; returns the cookie. Raises UnauthorizedError."""
        caller = self._access.caller(f"Bearer {key}")
        cookie = new_cookie()
        with self._db.begin() as connection:
            connection.execute(delete(sessions).where(sessions.c.expires_at < NOW))
            connection.execute(
                insert(sessions).values(digest=_digest(cookie), key=caller.key, expires_at=NOW + LASTS_S)
            )
        return cookie

    def sign_out(self, cookie: str) -> None:
        """End a session."""
        with self._db.begin() as connection:
            connection.execute(delete(sessions).where(sessions.c.digest == _digest(cookie)))

    def _key(self, cookie: str) -> Key | None:
        """The live key that a session was begun with."""
        if not cookie:
            return None
        lasting = sessions.c.digest == _digest(cookie), sessions.c.expires_at > NOW
        with self._db.connect() as connection:
            number, now = connection.scalar(select(sessions.c.key).where(*lasting)), clock(connection)
        keys = list_keys(self._db) if number is not None else []
        return next((key for key in keys if key.id == number and key.live(now)), None)


def new_cookie() -> str:
    """A value that nobody can guess."""
    return secrets.token_urlsafe(32)


def give_cookie(request: Request, response: Response, cookie: str) -> None:
    """Set it so that no script and no other site has it."""
    response.set_cookie(
        COOKIE, cookie, max_age=LASTS_S, path="/", httponly=True, samesite="strict",
        secure=request.url.scheme == "https",
    )  # fmt: skip


def _digest(cookie: str) -> str:
    return hashlib.sha256(cookie.encode()).hexdigest()
