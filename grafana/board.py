"""One dashboard: variables, annotations and links that all of them share, rows of panels, numbered panels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from grafana_foundation_sdk.builders import dashboard as d
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as md

from grafana.panels import BAD, CALM, MONITOR, OK, RUNBOOK, SOURCE

MONITOR_URL = "http://127.0.0.1:8001"
GRAFANA_URL = "http://127.0.0.1:3000"
MODEL = 'model=~"$model"'
CHAMPION = 'model=~"$model", version=~"$version"'
TAG = "trueup"
# (name, query, colour): the two minutes see a change whatever the step of the query.
EVENTS = (
    ("Deployments", f"max by (model) (changes(trueup_deployments_total{{{MODEL}}}[2m])) > 0", CALM),
    ("Retrains", f"max by (model, outcome) (changes(trueup_retrains_total{{{MODEL}}}[2m])) > 0", OK),
    ("Drift episodes", f"max by (model) (trueup_alerting{{{MODEL}}}) == 1", BAD),
)


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: Sequence[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A dashboard; its JSON lies in dashboards/<uid>.json."""

    uid: str
    title: str
    meaning: str
    rows: Sequence[Row]
    variables: bool = True
    range: str = "now-24h"
    tags: Sequence[str] = field(default=(TAG,))

    def json(self) -> str:
        """As Grafana imports it."""
        return str(JSONEncoder(sort_keys=True, indent=1).encode(self._built())) + "\n"

    def _built(self) -> Any:
        board = d.Dashboard(self.title).uid(self.uid).description(self.meaning).tags(list(self.tags))
        board = board.timezone("browser").refresh("30s").time(self.range, "now").readonly()
        board = board.tooltip(md.DashboardCursorSync.CROSSHAIR)
        board = self._linked(self._annotated(self._varied(board)))
        number = 0
        for row in self.rows:
            number += 1
            board = board.with_row(d.Row(row.title).id(number))
            for panel in row.panels:
                number += 1
                board = board.with_panel(panel.id(number))
        return board.build()

    def _varied(self, board: Any) -> Any:
        if not self.variables:
            return board.with_variable(_constant())
        board = board.with_variable(
            d.DatasourceVariable("datasource").type("prometheus").label("Data source")
        )
        board = board.with_variable(_values("model", "Model", "label_values(trueup_champion, model)"))
        version = f"label_values(trueup_champion{{{MODEL}}}, version)"
        return board.with_variable(_values("version", "Version", version)).with_variable(_constant())

    def _annotated(self, board: Any) -> Any:
        for name, expr, colour in EVENTS if self.variables else ():
            event = d.AnnotationQuery().name(name).datasource(SOURCE).enable(True).icon_color(colour)
            board = board.annotation(
                event.expr(expr).step("60s").title_format(name).text_format("{{model}} {{outcome}}")
            )
        return board

    def _linked(self, board: Any) -> Any:
        others = d.DashboardLink("trueup").type(md.DashboardLinkType.DASHBOARDS).tags([TAG]).as_dropdown(True)
        status = d.DashboardLink("Status page and reports").type(md.DashboardLinkType.LINK).url(f"{MONITOR}/")
        runbook = d.DashboardLink("Runbook").type(md.DashboardLinkType.LINK).url(RUNBOOK)
        board = board.link(others.keep_time(True).include_vars(True))
        return board.link(status.target_blank(True)).link(runbook)


def _values(name: str, label: str, query: str) -> Any:
    variable = d.QueryVariable(name).label(label).datasource(SOURCE).query(query)
    variable = variable.refresh(md.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(md.VariableSort.NATURAL_ASC)
    return variable.multi(True).include_all(True).all_value(".+")


def _constant() -> Any:
    return d.ConstantVariable("monitor").label("Monitor").value(MONITOR_URL)
