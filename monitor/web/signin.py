"""Signing in with a key, and out again."""

from __future__ import annotations

from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from exporter.errors import UnauthorizedError
from monitor.web.forms import require_own_form, require_own_origin, with_form
from monitor.web.rendering import HEADERS, Pages
from monitor.web.visitors import COOKIE, Visitors, give_cookie


class SignIn:
    """Endpoints of the session."""

    def __init__(self, pages: Pages, visitors: Visitors) -> None:
        self._pages, self._visitors = pages, visitors

    def ask_key(self, request: Request) -> Response:
        """The form for a key."""
        wanted = _own_path(request.query_params.get("next", "/"))
        return self._pages.page("signin.html", request, next=wanted, problem=None, visitor=None)

    async def sign_in(self, request: Request) -> Response:
        """Take a key, begin a session."""
        return await with_form(request, self._sign_in)

    async def sign_out(self, request: Request) -> Response:
        """End the session."""
        return await with_form(request, self._sign_out)

    def _sign_in(self, request: Request, form: dict[str, str]) -> Response:
        require_own_origin(request)
        wanted = _own_path(form.get("next", "/"))
        try:
            cookie = self._visitors.sign_in(form.get("key", "").strip())
        except UnauthorizedError as refused:
            return self._pages.page(
                "signin.html", request, 401, next=wanted, problem=str(refused), visitor=None
            )
        answer = RedirectResponse(wanted, 303, headers=HEADERS)
        give_cookie(request, answer, cookie)
        return answer

    def _sign_out(self, request: Request, form: dict[str, str]) -> Response:
        cookie = request.cookies.get(COOKIE, "")
        require_own_form(request, form, cookie)
        self._visitors.sign_out(cookie)
        answer = RedirectResponse("/signin", 303, headers=HEADERS)
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return answer


def signin_address(request: Request) -> str:
    """Where to sign in, and come back from."""
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return "/signin?" + urlencode({"next": wanted})


def _own_path(wanted: str) -> str:
    """A path of this very page: no other site may be named.

    >>> _own_path("/models/a?days=7"), _own_path("//evil.example"), _own_path("/\\\\evil.example")
    ('/models/a?days=7', '/', '/')
    """
    fine = (
        wanted.startswith("/") and not wanted.startswith("//") and "\\" not in wanted and wanted.isprintable()
    )
    return wanted if fine else "/"
