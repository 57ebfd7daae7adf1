"""The committed files are the generator's, and the dashboards keep Grafana's own linting rules.

The rules are those of grafana/dashboard-linter (docs/index.md), restated for our templates. No Grafana server
takes part here: what it would make of the JSON is not tested.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from exporter.instruments import Instruments
from grafana.__main__ import HERE, differing
from grafana.alerts import GROUPS, RECORDED
from grafana.rules import readme
from monitor.instruments import METRICS

BOARDS = sorted((HERE / "dashboards").glob("*.json"))
BOARD_NAMES = ["drift", "fleet", "health", "quality", "retraining", "runbook", "serving"]
UIDS = [f"trueup-{name}" for name in BOARD_NAMES]
UNITS = {"none", "short", "s", "percentunit", "cps", "reqps", "bytes"}
QUERYLESS = {"row", "text", "alertlist"}
DEFAULT_COLOURS = {"green", "red", "palette-classic"}
ALERTS = [alert for alerts in GROUPS.values() for alert in alerts]


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels") or []


def expressions() -> Iterator[str]:
    for path in BOARDS:
        board = json.loads(path.read_text())
        for panel in panels(board):
            yield from (target["expr"] for target in panel.get("targets") or [])
        yield from (event["expr"] for event in board["annotations"].get("list", []))
    yield from (alert.expr for alert in ALERTS)
    yield from RECORDED.values()


@pytest.fixture(params=BOARDS, ids=lambda path: path.stem)
def board(request: pytest.FixtureRequest) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(request.param.read_text())
    assert loaded["uid"] == request.param.stem
    return loaded


def test_the_committed_files_are_what_the_generator_makes() -> None:
    assert differing() == []
    assert [path.stem for path in BOARDS] == UIDS


def test_a_dashboard_is_uneditable_and_shares_its_crosshair(board: dict[str, Any]) -> None:
    assert board["editable"] is False
    assert board["graphTooltip"] == 1
    assert board["schemaVersion"] >= 41
    assert board["tags"] == ["trueup"]
    assert {link["title"] for link in board["links"]} == {"trueup", "Status page and reports", "Runbook"}


def test_panels_have_ids_of_their_own_and_do_not_overlap(board: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in panels(board)]
    assert len(set(ids)) == len(ids)
    assert all(isinstance(number, int) and number > 0 for number in ids)
    taken: dict[tuple[int, int], str] = {}
    for panel in panels(board):
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24, panel["title"]
        for cell in (
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        ):
            assert cell not in taken, f"{panel['title']} lies on {taken.get(cell)}"
            taken[cell] = panel["title"]


def test_each_panel_says_what_it_means_in_which_unit_and_colour(board: dict[str, Any]) -> None:
    for panel in panels(board):
        assert panel["title"]
        if panel["type"] == "row":
            continue
        assert panel["description"], panel["title"]
        if panel["type"] in QUERYLESS:
            continue
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"] in UNITS, panel["title"]
        colours = {step["color"] for step in defaults["thresholds"]["steps"]}
        colours.add(defaults.get("color", {}).get("mode", ""))
        assert not colours & DEFAULT_COLOURS, panel["title"]


def test_each_panel_asks_the_chosen_data_source_and_known_variables(board: dict[str, Any]) -> None:
    known = {variable["name"] for variable in board["templating"]["list"]} | {
        "__rate_interval",
        "__range",
        "__value",
    }
    for panel in panels(board):
        if panel["type"] in QUERYLESS:
            continue
        assert panel["targets"], panel["title"]
        for target in panel["targets"]:
            assert (
                target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            )
            assert set(re.findall(r"\$\{?(\w+)", target["expr"])) <= known, panel["title"]
    for url in re.findall(r'"url": "([^"]+)"', json.dumps(board)):
        assert set(re.findall(r"\$\{?(\w+)", url)) <= known


def test_variables_follow_the_time_range(board: dict[str, Any]) -> None:
    variables = {one["name"]: one for one in board["templating"]["list"]}
    if board["uid"] == "trueup-runbook":
        return
    assert list(variables) == ["datasource", "model", "version", "monitor"]
    for name in ("model", "version"):
        assert variables[name]["refresh"] == 2
        assert variables[name]["includeAll"]
        assert variables[name]["allValue"] == ".+"
    assert [event["name"] for event in board["annotations"]["list"]] == [
        "Deployments",
        "Retrains",
        "Drift episodes",
    ]


def test_rates_take_the_range_from_grafana_and_counters_are_never_shown_raw(board: dict[str, Any]) -> None:
    for panel in panels(board):
        for target in panel.get("targets") or []:
            expr = target["expr"]
            assert not re.search(r"\b(rate|increase)\([^\[]*\[(?!\$__(rate_interval|range)\])", expr), expr
            if re.search(r"_total\b", expr):
                assert re.search(r"\b(rate|increase|changes)\(", expr), expr


def test_every_metric_that_is_asked_for_exists() -> None:
    told = {one.name for one in (*Instruments().described, *METRICS)}
    told |= {f"{name}{end}" for name in told for end in ("_bucket", "_sum", "_count")}
    asked = {name for expr in expressions() for name in re.findall(r"\btrueup_\w+", expr)}
    assert asked - told == set()


def test_every_metric_is_on_a_dashboard_or_in_a_rule() -> None:
    told = {one.name for one in (*Instruments().described, *METRICS)}
    asked = {name for expr in expressions() for name in re.findall(r"\btrueup_\w+", expr)}
    asked |= {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    assert told - asked == set()


def test_every_alert_has_a_runbook_section_and_a_dashboard() -> None:
    text = readme()
    for alert in ALERTS:
        assert f"### {alert.name}\n" in text
        assert alert.steps
        assert alert.board in UIDS
    loaded = yaml.safe_load((HERE / "rules" / "alerts.yml").read_text())
    rules = [rule for group in loaded["groups"] for rule in group["rules"]]
    assert [rule["alert"] for rule in rules] == [alert.name for alert in ALERTS]
    assert all(rule["annotations"]["runbook_url"].endswith(f"#{rule['alert']}") for rule in rules)


def test_alerts_are_about_every_cause_that_the_operator_must_hear_of() -> None:
    needed = (
        "Page NotEnoughData NoTraffic ExporterDown CheckStale RetrainFailed LedgerLag NotificationFailing"
    )
    assert {f"Trueup{name}" for name in [*needed.split(), "DiskLow"]} <= {alert.name for alert in ALERTS}


@pytest.mark.parametrize("path", ["prometheus.yml", "alertmanager.yml", "compose.yml"])
def test_the_shipped_configuration_is_yaml(path: str) -> None:
    assert isinstance(yaml.safe_load((HERE / path).read_text()), dict)


def test_the_compose_file_listens_on_loopback_only_and_mounts_what_exists() -> None:
    compose = yaml.safe_load((HERE / "compose.yml").read_text())
    services = compose["services"]
    assert set(services) == {"exporter", "monitor", "postgresql", "prometheus", "alertmanager", "grafana"}
    for name, service in services.items():
        assert service["network_mode"] == "host", name
        assert "0.0.0.0" not in json.dumps(service), name
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (HERE / source).exists(), volume
    provider = yaml.safe_load((HERE / "provisioning/dashboards/trueup.yml").read_text())["providers"][0]
    assert f"./dashboards:{provider['options']['path']}:ro" in services["grafana"]["volumes"]


def test_the_metric_list_is_complete() -> None:
    page = Path(HERE / "METRICS.md").read_text()
    assert page.count("\n| `trueup_") == len(Instruments().described) + len(METRICS)
