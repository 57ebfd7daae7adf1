"""The monitor's HTTP side: the status page, the stored reports, health and metrics. It only reads."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from monitor.explain.page import SUFFIX
from monitor.explain.store import newest_explanations
from monitor.instruments import StatusMetrics
from monitor.story import stories
from monitor.tables import checks

# A report is Evidently's HTML with its own scripts and with users' text in it: it may not act as our page.
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' blob: data:; "
    "style-src 'unsafe-inline' data:; img-src data: blob:; font-src data:; worker-src blob:"
)
PARTS = {"quality": ".quality.html", "explanation": SUFFIX}
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}


def status_app(db: Engine, home: Path, *, hosts: list[str]) -> Starlette:
    """Build the app; `hosts` are the Host headers that it answers (against DNS rebinding)."""
    templates = Environment(loader=PackageLoader("monitor"), autoescape=True, undefined=StrictUndefined)
    templates.filters["moment"] = _moment
    templates.filters["number"] = _number
    metrics = StatusMetrics(db, home)

    def page(_: Request) -> Response:
        html = templates.get_template("status.html").render(
            stories=stories(db), explanations=newest_explanations(db), now=time.time()
        )
        return HTMLResponse(html, headers=HEADERS | {"Content-Security-Policy": PAGE_POLICY})

    def report(request: Request) -> Response:
        name = _report_name(db, request.path_params["check"])
        path = home / "reports" / name if name else None
        part = request.path_params.get("part")
        if path is not None and part is not None:
            path = path.with_suffix(PARTS.get(part, ".none"))
        if path is None or not path.is_file():
            return _problem(
                404, "There is no report of this check; old ones are removed to keep the size budget."
            )
        return FileResponse(path, headers=HEADERS | {"Content-Security-Policy": REPORT_POLICY})

    def ready(_: Request) -> Response:
        try:
            with db.connect() as connection:
                connection.execute(text("select 1"))
        except SQLAlchemyError:
            return _problem(503, "The database does not answer.")
        return PlainTextResponse("ready\n")

    return Starlette(
        routes=[
            Route("/", page),
            Route("/reports/{check:int}", report),
            Route("/reports/{check:int}/{part}", report),
            Route("/healthz", lambda _: PlainTextResponse("ok\n")),
            Route("/readyz", ready),
            Route(
                "/metrics",
                lambda _: Response(metrics.text(), media_type="text/plain; version=0.0.4"),
            ),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
    )


def _report_name(db: Engine, check: int) -> str | None:
    if check >= 2**63:  # no database numbers rows so far
        return None
    with db.connect() as connection:
        name = connection.scalar(select(checks.c.report).where(checks.c.id == check))
    return Path(name).name if name else None


def _problem(status: int, message: str) -> Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return JSONResponse({"error": error}, status, headers=HEADERS)


def _moment(at: float | None) -> str:
    return "–" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
