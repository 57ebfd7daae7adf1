"""Panels of one kind each: a title, what it means, queries, a unit, and colours that mean something."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import bargauge, heatmap, stat, statetimeline, table, text, timeseries
from grafana_foundation_sdk.builders import common as c
from grafana_foundation_sdk.builders import dashboard as d
from grafana_foundation_sdk.builders import prometheus as p
from grafana_foundation_sdk.models import common as mc
from grafana_foundation_sdk.models import dashboard as md
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.text import TextMode

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
OK, WARN, BAD, CALM = "#37872D", "#E0B400", "#C4162A", "#3274D9"
LINE = "limit"  # a series with this word in its name is drawn as a dashed red limit
MONITOR = "${monitor}"
RUNBOOK = "/d/trueup-runbook"
Step = tuple[float | None, str]
QUIET: tuple[Step, ...] = ((None, CALM),)


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL query; `name` is the legend, or the column of a table."""

    expr: str
    name: str = ""


def number(
    title: str, meaning: str, expr: str, *, unit: str = "none", steps: Sequence[Step] = QUIET, width: int = 4
) -> Any:
    """One big number of now."""
    panel = stat.Panel().title(title).description(meaning).datasource(SOURCE).unit(unit).height(4).span(width)
    panel = panel.thresholds(_thresholds(steps)).color_scheme(_colour("thresholds")).no_value("no data")
    return panel.with_target(_target(Query(expr, title), "A", instant=True)).data_links(_links())


def lines(
    title: str,
    meaning: str,
    *queries: Query,
    unit: str = "none",
    width: int = 12,
    smallest: float | None = None,
    stacked: bool = False,
    log: bool = False,
) -> Any:
    """Series over time; one named `limit …` is dashed and red."""
    panel = timeseries.Panel().title(title).description(meaning).datasource(SOURCE).unit(unit)
    panel = panel.height(8).span(width).color_scheme(_colour("palette-classic-by-name"))
    panel = panel.thresholds(_thresholds(QUIET)).line_width(2).show_points(mc.VisibilityMode.NEVER)
    panel = panel.legend(_legend()).tooltip(c.VizTooltipOptions().mode(mc.TooltipDisplayMode.MULTI))
    panel = panel.override_by_regexp(f".*{LINE}.*", _dashed()).data_links(_links())
    if smallest is not None:
        panel = panel.min(smallest)
    if stacked:
        panel = panel.stacking(c.StackingConfig().mode(mc.StackingMode.NORMAL)).fill_opacity(30)
    if log:
        panel = panel.scale_distribution(c.ScaleDistributionConfig().type(mc.ScaleDistribution.LOG).log(10))
    for ref, query in zip("ABCDEFGH", queries, strict=False):
        panel = panel.with_target(_target(query, ref))
    return panel


def bars(title: str, meaning: str, query: Query, *, unit: str = "none", width: int = 12) -> Any:
    """One bar a label, of now."""
    panel = bargauge.Panel().title(title).description(meaning).datasource(SOURCE).unit(unit)
    panel = panel.height(8).span(width).thresholds(_thresholds(QUIET)).color_scheme(_colour("thresholds"))
    panel = panel.orientation(mc.VizOrientation.HORIZONTAL).display_mode(mc.BarGaugeDisplayMode.GRADIENT)
    return panel.no_value("no data").with_target(_target(query, "A", instant=True)).data_links(_links())


def buckets(title: str, meaning: str, expr: str, *, width: int = 12) -> Any:
    """A histogram over time."""
    panel = heatmap.Panel().title(title).description(meaning).datasource(SOURCE).height(8).span(width)
    target = _target(Query(expr, "{{le}}"), "A").format(PromQueryFormat.HEATMAP)
    return panel.unit("s").thresholds(_thresholds(QUIET)).with_target(target)


def states(
    title: str, meaning: str, query: Query, names: Sequence[tuple[str, str]], *, width: int = 24
) -> Any:
    """Which state when; `names` are (name, colour) of the values 0, 1, …"""
    mapped = {
        str(value): md.ValueMappingResult(text=name, color=colour, index=value)
        for value, (name, colour) in enumerate(names)
    }
    panel = statetimeline.Panel().title(title).description(meaning).datasource(SOURCE).unit("none")
    panel = panel.height(8).span(width).color_scheme(_colour("thresholds")).thresholds(_thresholds(QUIET))
    panel = panel.mappings([md.ValueMap(options=mapped)]).data_links(_links())
    return panel.with_target(_target(query, "A"))


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its query, unit and colours."""

    name: str
    expr: str
    unit: str = "none"
    steps: Sequence[Step] = QUIET
    link: str | None = None


def rows(title: str, meaning: str, *columns: Column, width: int = 24, height: int = 8) -> Any:
    """A table of now: one row for each set of labels, one column a query."""
    panel = table.Panel().title(title).description(meaning).datasource(SOURCE).unit("none")
    panel = panel.height(height).span(width).no_value("–").thresholds(_thresholds(QUIET))
    for ref, column in zip("ABCDEFGHIJ", columns, strict=False):
        target = _target(Query(column.expr, column.name), ref, instant=True).format(PromQueryFormat.TABLE)
        panel = panel.with_target(target).override_by_name(
            f"Value #{ref}" if len(columns) > 1 else "Value", _column(column)
        )
    hidden = {"excludeByName": {"Time": True}, "indexByName": {}, "renameByName": {}}
    panel = panel.with_transformation(md.DataTransformerConfig(id_val="merge", options={}))
    return panel.with_transformation(md.DataTransformerConfig(id_val="organize", options=hidden))


def alert_list(title: str, meaning: str, *, width: int = 12) -> Any:
    """Grafana's own list of the alerts that Prometheus evaluates."""
    options = {
        "viewMode": "list", "groupMode": "default", "maxItems": 20, "sortOrder": 3, "dashboardAlerts": False,
        "alertName": "Trueup", "datasource": "${datasource}",
        "stateFilter": {"firing": True, "pending": True, "noData": True, "error": True, "normal": False},
    }  # fmt: skip
    panel = d.Panel().type("alertlist").title(title).description(meaning).datasource(SOURCE)
    return panel.height(8).span(width).options(options)


def prose(title: str, content: str, *, width: int = 12, height: int = 9) -> Any:
    """Markdown."""
    panel = text.Panel().title(title).description(title).height(height).span(width)
    return panel.mode(TextMode.MARKDOWN).content(content)


def _target(query: Query, ref: str, *, instant: bool = False) -> Any:
    built = p.Dataquery().expr(query.expr).legend_format(query.name).ref_id(ref).datasource(SOURCE)
    return built.instant() if instant else built.range()


def _thresholds(steps: Sequence[Step]) -> Any:
    found = [md.Threshold(value=value, color=colour) for value, colour in steps]
    return d.ThresholdsConfig().mode(md.ThresholdsMode.ABSOLUTE).steps(found)


def _colour(mode: str) -> Any:
    return d.FieldColor().mode(md.FieldColorModeId(mode))


def _legend() -> Any:
    built = c.VizLegendOptions().display_mode(mc.LegendDisplayMode.LIST).show_legend(True)
    return built.placement(mc.LegendPlacement.BOTTOM).calcs(["lastNotNull"])


def _dashed() -> list[Any]:
    return [
        md.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": BAD}),
        md.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [10, 10]}),
    ]


def _column(column: Column) -> list[Any]:
    steps = [{"value": value, "color": colour} for value, colour in column.steps]
    found = [
        md.DynamicConfigValue(id_val="displayName", value=column.name),
        md.DynamicConfigValue(id_val="unit", value=column.unit),
        md.DynamicConfigValue(id_val="thresholds", value={"mode": "absolute", "steps": steps}),
    ]
    if len(column.steps) > 1:
        found.append(md.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}))
    if column.link:
        link = {"title": column.name, "url": column.link, "targetBlank": True}
        found.append(md.DynamicConfigValue(id_val="links", value=[link]))
    return found


def _links() -> list[Any]:
    report = d.DashboardLink("Status page and reports").type(md.DashboardLinkType.LINK).url(f"{MONITOR}/")
    runbook = d.DashboardLink("Runbook").type(md.DashboardLinkType.LINK).url(RUNBOOK)
    return [report.target_blank(True), runbook.target_blank(True)]
