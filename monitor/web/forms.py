"""Forms: read within bounds, and taken only from a page that this monitor gave to this very browser.

Three things must agree: the browser says that the form comes from the same origin (Origin, Sec-Fetch-Site),
the cookie is there (SameSite=Strict), and the hidden token is the one that belongs to the cookie.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from monitor.errors import FormError

BYTES = 10_000
_FIELDS = 20


async def with_form(request: Request, then: Callable[[Request, dict[str, str]], Response]) -> Response:
    """Read a form and answer in a thread, where the database may be waited for. Raises FormError."""
    form = await _read_form(request)
    return await run_in_threadpool(then, request, form)


def form_token(cookie: str) -> str:
    """The token of every form that is given to the holder of a cookie.

    >>> form_token("a") == form_token("a") != form_token("b")
    True
    """
    return hmac.new(cookie.encode(), b"trueup form", hashlib.sha256).hexdigest()


def require_own_form(request: Request, form: dict[str, str], cookie: str | None) -> None:
    """Raise FormError unless the form was made for the browser that sends it."""
    require_own_origin(request)
    if not cookie or not hmac.compare_digest(form.get("form", "").encode(), form_token(cookie).encode()):
        raise FormError("This form was not made for you, or your session has ended.")


def require_own_origin(request: Request) -> None:
    """Raise FormError unless the browser says that one of our own pages sends this."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    if site not in (None, "same-origin"):
        raise FormError("Another web site has sent this form.")
    if origin is None or urlsplit(origin).netloc != request.headers.get("host"):
        raise FormError("Another web site has sent this form.")


async def _read_form(request: Request) -> dict[str, str]:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BYTES:
            raise FormError("The form is too long.", 413)
    try:
        fields = parse_qsl(
            body.decode(),
            keep_blank_values=True,
            strict_parsing=bool(body),
            max_num_fields=_FIELDS,
            errors="strict",
        )
    except ValueError as error:
        raise FormError("The form cannot be read.", 400) from error
    return dict(fields)
