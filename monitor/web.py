"""The monitor's HTTP side: the status page, the stored reports, health and metrics. It only reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from monitor.story import ModelStory, stories
from monitor.tables import checks

# A report is Evidently's HTML with its own scripts and with users' text in it: it may not act as our page.
REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' blob: data:; "
    "style-src 'unsafe-inline' data:; img-src data: blob:; font-src data:; worker-src blob:"
)
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}


def status_app(db: Engine, home: Path, *, hosts: list[str]) -> Starlette:
    """Build the app; `hosts` are the Host headers that it answers (against DNS rebinding)."""
    templates = Environment(loader=PackageLoader("monitor"), autoescape=True, undefined=StrictUndefined)
    templates.filters["moment"] = _moment
    templates.filters["number"] = _number
    metrics = CollectorRegistry()
    metrics.register(StatusCollector(db))

    def page(_: Request) -> Response:
        html = templates.get_template("status.html").render(stories=stories(db), now=time.time())
        return HTMLResponse(html, headers=HEADERS | {"Content-Security-Policy": PAGE_POLICY})

    def report(request: Request) -> Response:
        name = _report_name(db, request.path_params["check"])
        path = home / "reports" / name if name else None
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
            Route("/healthz", lambda _: PlainTextResponse("ok\n")),
            Route("/readyz", ready),
            Route(
                "/metrics",
                lambda _: Response(generate_latest(metrics), media_type="text/plain; version=0.0.4"),
            ),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
    )


Reading = Callable[[ModelStory], float | None]
GAUGES: tuple[tuple[str, str, Reading], ...] = (
    ("trueup_evidence_powers", "Pager's e-value in powers of ten.", lambda one: _first(one, "powers")),
    ("trueup_page_line_powers", "The page line in powers of ten.", lambda one: _first(one, "line")),
    ("trueup_accuracy", "Share of right answers, newest labels.", lambda one: one.accuracy),
    ("trueup_alerting", "1 while an episode fires.", lambda one: float(one.state == "alert")),
    ("trueup_last_check_seconds", "When the newest check ran, UTC.", lambda one: _first(one, "at")),
    ("trueup_jobs_active", "Retrains queued or running.", lambda one: float(one.active_jobs)),
)


class StatusCollector:
    """Prometheus gauges read from the newest checks at each scrape."""

    def __init__(self, db: Engine) -> None:
        self._db = db

    def collect(self) -> Iterator[Metric]:
        told = stories(self._db)
        for name, help_text, reading in GAUGES:
            family = GaugeMetricFamily(name, help_text, labels=["model", "version"])
            for one in told:
                value = reading(one)
                if value is not None:
                    family.add_metric([one.name, one.champion or ""], value)
            yield family


def _first(one: ModelStory, column: str) -> float | None:
    return next((check[column] for check in one.checks if check[column] is not None), None)


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
