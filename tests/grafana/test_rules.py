"""The rules, by Prometheus' own promtool: syntax, and every alert once firing and once silent."""

from __future__ import annotations

import subprocess
from pathlib import Path

from grafana.__main__ import HERE
from grafana.alerts import GROUPS
from tests.grafana.stack import need

CASES = Path(__file__).with_name("rules_test.yml")


def tool(*arguments: str) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_and_the_shipped_configuration_are_valid() -> None:
    need("promtool", "amtool")
    tool("promtool", "check", "rules", *map(str, sorted((HERE / "rules").glob("*.yml"))))
    tool("promtool", "check", "config", str(HERE / "prometheus.yml"))
    tool("amtool", "check-config", str(HERE / "alertmanager.yml"))


def test_every_alert_fires_when_it_should_and_only_then() -> None:
    need("promtool")
    assert "SUCCESS" in tool("promtool", "test", "rules", str(CASES))


def test_no_alert_is_without_a_case() -> None:
    cases = CASES.read_text()
    assert [one.name for alerts in GROUPS.values() for one in alerts if one.name not in cases] == []
