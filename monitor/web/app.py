"""The routes, and what each error looks like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from exporter.access import Access
from exporter.errors import AccessUnavailableError, ForbiddenError, UnauthorizedError
from monitor.errors import ActionError, FormError
from monitor.instruments import StatusMetrics
from monitor.settings import ModelSettings, MonitorSettings
from monitor.web.actions import Tools
from monitor.web.rendering import HEADERS, Assets, Pages
from monitor.web.signin import SignIn, signin_address
from monitor.web.views import Views
from monitor.web.visitors import COOKIE, Visitors

_DEFAULTS = MonitorSettings()


def status_app(
    db: Engine,
    home: Path,
    *,
    hosts: list[str],
    local: bool = True,
    monitor: MonitorSettings = _DEFAULTS,
    models: Callable[[str], ModelSettings] = lambda _: ModelSettings(),
) -> Starlette:
    """Build the app; `hosts` are the Host headers that it answers (against DNS rebinding).

    `local`: as long as the database has no key, everybody who can reach the page may do everything.
    """
    assets = Assets()
    visitors = Visitors(db, Access(db, local=local))
    pages = Pages(assets)
    signing = SignIn(pages, visitors)
    views = Views(pages, visitors, Tools(db=db, monitor=monitor, models=models), home)
    metrics = StatusMetrics(db, home)
    return Starlette(
        routes=[
            Route("/", views.fleet),
            Route("/models/{model}", views.model),
            Route("/models/{model}/{action}", views.confirm),
            Route("/models/{model}/{action}", views.perform, methods=["POST"]),
            Route("/signin", signing.ask_key),
            Route("/signin", signing.sign_in, methods=["POST"]),
            Route("/signout", signing.sign_out, methods=["POST"]),
            Route("/reports/{check:int}", views.report),
            Route("/reports/{check:int}/{part}", views.report),
            Route("/static/{tag}/{name}", assets.answer),
            Route("/healthz", lambda _: PlainTextResponse("ok\n", headers=HEADERS)),
            Route("/readyz", lambda _: _ready(db)),
            Route("/metrics", lambda _: Response(metrics.text(), media_type="text/plain; version=0.0.4")),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
        exception_handlers={
            UnauthorizedError: _unauthorized,
            ForbiddenError: _told(views, 403, "Not allowed"),
            FormError: _told(views, 403, "The form was refused"),
            ActionError: _told(views, 409, "Not possible"),
            AccessUnavailableError: _told(views, 503, "Try again"),
            SQLAlchemyError: _away(views),
            HTTPException: _http(views),
        },
    )


def _ready(db: Engine) -> Response:
    try:
        with db.connect() as connection:
            connection.execute(text("select 1"))
    except SQLAlchemyError:
        return PlainTextResponse("The database does not answer.\n", 503)
    return PlainTextResponse("ready\n")


def _unauthorized(request: Request, _: Exception) -> Response:
    # SameSite=Strict: who follows a link from elsewhere sends no cookie until our own page asks again.
    if request.headers.get("sec-fetch-site") == "cross-site" and request.method == "GET":
        address = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return PlainTextResponse(
            "", headers=HEADERS | {"Refresh": f"0; url={address}", "Cache-Control": "no-store"}
        )
    answer = RedirectResponse(
        signin_address(request) if request.method == "GET" else "/signin", 303, headers=HEADERS
    )
    if COOKIE in request.cookies:
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return answer


def _told(views: Views, status: int, title: str) -> Any:
    def tell(request: Request, error: Exception) -> Response:
        return views.problem(request, getattr(error, "status", status), title, str(error))

    return tell


def _away(views: Views) -> Any:
    def tell(request: Request, _: Exception) -> Response:
        return views.problem(request, 503, "The database does not answer", "`trueup doctor` says why.")

    return tell


def _http(views: Views) -> Any:
    def tell(request: Request, error: HTTPException) -> Response:
        text = "There is nothing at this address." if error.status_code == 404 else str(error.detail)
        return views.problem(
            request, error.status_code, "Not found" if error.status_code == 404 else "Refused", text
        )

    return tell
