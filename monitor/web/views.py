"""The pages: the fleet, a model's story, an act to confirm, a report, a problem."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from sqlalchemy import Engine
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response

from exporter.errors import ExporterError
from monitor.errors import ActionError, MonitorError
from monitor.fleet import read_fleet
from monitor.story import ModelStory, read_story
from monitor.web import audit
from monitor.web.actions import ACTIONS, Action, Order, Tools, act, propose
from monitor.web.charts import draw_accuracy, draw_evidence, span_of
from monitor.web.forms import require_own_form, with_form
from monitor.web.rendering import HEADERS, Pages
from monitor.web.reports import REPORT_POLICY, report_file
from monitor.web.visitors import Visitor, Visitors, give_cookie, new_cookie
from monitor.web.words import counts, say_accuracy, say_evidence, say_labels

SPANS = ((1, "24 h"), (7, "7 days"), (30, "30 days"), (90, "90 days"))
_DEFAULT_DAYS = 7
_REASON = 300  # letters
_SEEN: tuple[str, ...] = ("version", "champion", "lasts")  # what the form may say
_MAX_ID = 2**63


class Views:
    """Endpoints of the page; the database is read in threads, in one transaction a page."""

    def __init__(self, pages: Pages, visitors: Visitors, tools: Tools, home: Path) -> None:
        self._pages, self._visitors, self._tools, self._home = pages, visitors, tools, home

    @property
    def _db(self) -> Engine:
        return self._tools.db

    def fleet(self, request: Request) -> Response:
        """Every model in a line."""
        visitor = self._reader(request)
        with self._db.connect() as connection:
            found = read_fleet(connection)
        return self._pages.page("fleet.html", request, fleet=found, counts=counts(found), visitor=visitor)

    def model(self, request: Request) -> Response:
        """One model's story."""
        visitor, name = self._reader(request), request.path_params["model"]
        days, said = _days(request), request.query_params.get("done", "")
        with self._db.connect() as connection:
            story = read_story(connection, name, days=days)
            done = (
                audit.read(connection, name, int(said)) if said.isdecimal() and int(said) < _MAX_ID else None
            )
        if story is None:
            return self._unknown(request, visitor, name)
        span, marks = span_of(story.course), _marks(story)
        decision = story.check["decision"] if story.check else None
        return self._pages.page(
            "model.html",
            request,
            s=story,
            here=_here(name),
            visitor=visitor,
            said=done,
            approval=self._tools.models(name).approval,
            waits=decision is not None and decision["action"] == "wait",
            wanted=say_labels(story.quality),
            accuracy=draw_accuracy(story.course, span, marks),
            evidence=draw_evidence(story.course, span, marks),
            said_accuracy=say_accuracy(story.course),
            said_evidence=say_evidence(story.course),
            spans=SPANS,
            shown=days,
        )

    def confirm(self, request: Request) -> Response:
        """Say in words what an act would do, with the form that does it."""
        visitor, name = self._operator(request), request.path_params["model"]
        action = _action(request)
        with self._db.connect() as connection:
            story = read_story(connection, name, days=1)
        if story is None:
            return self._unknown(request, visitor, name)
        proposal = propose(action, story, request.query_params.get("version"))
        fresh = None if visitor.cookie else new_cookie()
        if fresh is not None:
            visitor = Visitor(caller=visitor.caller, cookie=fresh, signed_in=False)
        answer = self._pages.page(
            "confirm.html", request, p=proposal, here=_here(name), visitor=visitor, once=secrets.token_hex(16)
        )
        if fresh is not None:
            give_cookie(request, answer, fresh)
        return answer

    async def perform(self, request: Request) -> Response:
        """Do what was confirmed, once, and go back to the story."""
        return await with_form(request, self._perform)

    def report(self, request: Request) -> Response:
        """One stored report, or a part of it."""
        visitor = self._reader(request)
        found = report_file(
            self._db, self._home, request.path_params["check"], request.path_params.get("part")
        )
        if found is None:
            text = "There is no report of this check; old ones are removed to keep the size budget."
            return self.problem(request, 404, "No such report", text, visitor)
        kept = HEADERS | {"Content-Security-Policy": REPORT_POLICY, "Cache-Control": "no-store"}
        return FileResponse(found, headers=kept)

    def problem(
        self, request: Request, status: int, title: str, text: str, visitor: Visitor | None = None
    ) -> Response:
        """A page that says what is wrong."""
        return self._pages.page("problem.html", request, status, title=title, text=text, visitor=visitor)

    def _perform(self, request: Request, form: dict[str, str]) -> Response:
        visitor, name = self._operator(request), request.path_params["model"]
        action = _action(request)
        require_own_form(request, form, visitor.cookie)
        once = form.get("once", "")
        seen: dict[str, str] = {field: form[field] for field in _SEEN if field in form}
        reason = form.get("reason", "").strip()[:_REASON] or "asked for on the status page"
        number = audit.begin(
            self._db,
            once=once,
            actor=visitor.name,
            address=request.client.host if request.client else "unknown",
            action=action,
            model=name,
            detail=seen | {"reason": reason},
        )
        if number is None:  # the form was sent twice
            number = audit.number_of(self._db, once)
        else:
            order = Order(model=name, seen=seen, reason=reason, actor=visitor.name, once=once)
            self._act(action, order, number)
        return RedirectResponse(f"{_here(name)}?done={number}", 303, headers=HEADERS)

    def _act(self, action: Action, order: Order, number: int) -> None:
        try:
            said = act(action, self._tools, order)
        except (MonitorError, ExporterError) as refused:
            audit.end(self._db, number, "refused", str(refused))
        else:
            audit.end(self._db, number, "done", said)

    def _reader(self, request: Request) -> Visitor:
        visitor = self._visitors.visitor(request)
        visitor.caller.require("read")
        return visitor

    def _operator(self, request: Request) -> Visitor:
        visitor = self._visitors.visitor(request)
        visitor.caller.require("operate")
        return visitor

    def _unknown(self, request: Request, visitor: Visitor, name: str) -> Response:
        return self.problem(request, 404, "No such model", f"There is no model {name!r}.", visitor)


def _action(request: Request) -> Action:
    action = request.path_params["action"]
    if action not in ACTIONS:
        raise ActionError(f"There is no act {action!r}; there are {', '.join(ACTIONS)}.")
    return cast(Action, action)


def _days(request: Request) -> int:
    asked = request.query_params.get("days", "")
    return next((days for days, _ in SPANS if str(days) == asked), _DEFAULT_DAYS)


def _here(name: str) -> str:
    return "/models/" + quote(name, safe="")


def _marks(story: ModelStory) -> list[tuple[float, str]]:
    fired: list[tuple[float, str]] = [
        (row["fired_at"], f"alert: {row['cause']}") for row in story.episodes if row["fired_at"] is not None
    ]
    served: list[tuple[float, Any]] = [(row["at"], f"{row['version']} serves") for row in story.deployments]
    return sorted(fired + served)
