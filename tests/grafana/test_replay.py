"""Drift and recovery replayed with a real exporter, monitor, Prometheus and Alertmanager.

Every variable and every query of every dashboard is then sent to that Prometheus and must find something; the
alert of the page must have reached people, firing and resolved. No Grafana server takes part.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, func, select, update

from exporter import registry
from exporter.database import open_database, sqlite_url
from exporter.tables import predictions
from grafana.__main__ import HERE
from grafana.alerts import RECORDED
from monitor.demo.processes import Children, free_port
from monitor.migrate import upgrade
from monitor.tables import checks
from tests.grafana.asked import answered, expanded, targets, variables
from tests.grafana.stack import Mailbox, Webhook, alertmanager, need, prometheus, until
from tests.monitor import tiny

CONFIG = """\
home = "home"
[trainer]
cache = "cache"
[exporter]
port = {port}
threads = 1
[monitor]
port = {monitor_port}
check = "every 1s"
retrain = ""
evidently = false
[models.desks]
window = 100
min_window = 30
min_labels = 200
cooldown = "0s"
margin = 0.15
"""
SCRAPE = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}/*.yml"]
alerting: {{alertmanagers: [{{static_configs: [{{targets: ["{alertmanager}"]}}]}}]}}
scrape_configs:
  - {{job_name: trueup-exporter, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}
  - {{job_name: trueup-monitor, static_configs: [{{targets: ["127.0.0.1:{monitor_port}"]}}]}}
"""
ROUTE = """\
route: {{receiver: people, group_by: [alertname, model], group_wait: 0s, group_interval: 1s}}
receivers:
  - name: people
    webhook_configs: [{{url: "{hook}", send_resolved: true}}]
    email_configs:
      - {{to: oncall@example.org, from: trueup@example.org, smarthost: "{smtp}", require_tls: false,
          send_resolved: true, headers: {{Subject: "{{{{ .Status }}}} {{{{ .GroupLabels.alertname }}}}"}}}}
"""
BOARDS = [path for path in sorted((HERE / "dashboards").glob("*.json")) if path.stem != "trueup-runbook"]


@dataclass(slots=True)
class Replay:
    """The stack after the replay."""

    db: Engine
    exporter: str
    prometheus: str = ""
    webhook: Webhook = field(default_factory=Webhook)
    mailbox: Mailbox = field(default_factory=Mailbox)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))

    def send(self, rows: int, *, new: bool) -> list[dict[str, str]]:
        """Mail to the exporter; returns the labels that somebody will give it."""
        mail = tiny.mail(self.rng, rows, new=new)
        ids = []
        for start in range(0, rows, 25):
            texts = [text for text, _ in mail[start : start + 25]]
            answer = _post(f"{self.exporter}/v1/predict", {"model": "desks", "inputs": texts})
            ids += [one["id"] for one in answer["predictions"]]
        return [{"id": id_, "label": desk} for id_, (_, desk) in zip(ids, mail, strict=True)]

    def tell_truth(self, labels: list[dict[str, str]]) -> None:
        assert _post(f"{self.exporter}/v1/labels", {"labels": labels})["stored"] == len(labels)

    def judged(self) -> bool:
        """Whether the monitor has judged every prediction."""
        with self.db.connect() as connection:
            seq = connection.scalar(select(func.max(predictions.c.seq))) or 0
            return bool((connection.scalar(select(func.max(checks.c.last_seq))) or 0) >= seq)

    def name_a_report(self) -> None:
        """As the Evidently child would, which alone takes ten seconds and has tests of its own."""
        with self.db.begin() as connection:
            newest = select(func.max(checks.c.id)).scalar_subquery()
            connection.execute(update(checks).where(checks.c.id == newest).values(report="r.html"))


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replay]:
    need()
    folder = tmp_path_factory.mktemp("replay")
    home = folder / "home"
    home.mkdir()
    port, monitor_port = free_port(), free_port()
    (folder / "trueup.toml").write_text(CONFIG.format(port=port, monitor_port=monitor_port))
    db = open_database(sqlite_url(home))
    upgrade(db)
    tiny.train_first(db, home, tiny.build_base(folder / "base"))
    one = Replay(db, f"http://127.0.0.1:{port}")
    children = Children(folder / "trueup.toml", folder)
    with ExitStack() as stack:
        stack.callback(db.dispose)
        stack.callback(children.stop)
        hook, smtp = (
            stack.enter_context(one.webhook.listening()),
            stack.enter_context(one.mailbox.listening()),
        )
        manager = stack.enter_context(alertmanager(folder, ROUTE.format(hook=hook, smtp=smtp)))
        children.start(
            {"serve": f"{one.exporter}/readyz", "monitor": f"http://127.0.0.1:{monitor_port}/healthz"}
        )
        ports = {"port": port, "monitor_port": monitor_port}
        scrape = SCRAPE.format(rules=HERE / "rules", alertmanager=manager.removeprefix("http://"), **ports)
        one.prometheus = stack.enter_context(prometheus(folder, scrape))
        _play(one)
        yield one


def _play(one: Replay) -> None:
    one.tell_truth(one.send(100, new=False))
    until("a first check", one.judged)
    drifted = one.send(300, new=True)
    until("the word of the drift", lambda: "firing" in one.webhook.statuses("TrueupPage"))
    one.send(150, new=True)  # drifted mail alone is then the reference of the next version
    one.tell_truth(drifted)  # the retrain has waited for them
    until("a promotion", lambda: registry.champion(one.db, "desks") == "v2", timeout_s=60)
    until("the swap", lambda: _post(f"{one.exporter}/v1/predict", _ASK)["version"] == "v2")
    until("the word of the recovery", lambda: "resolved" in one.webhook.statuses("TrueupPage"))
    one.tell_truth(one.send(199, new=True))
    until("a check of the new version", one.judged)
    one.name_a_report()
    time.sleep(3)  # two scrapes of that


_ASK = {"model": "desks", "inputs": ["my invoice"]}


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_every_variable_and_query_of_a_dashboard_finds_something(replay: Replay, path: Path) -> None:
    board = json.loads(path.read_text())
    found = variables(replay.prometheus, board)
    assert found["model"] == ["desks"]
    assert "v2" in found["version"]
    now = time.time()
    values = dict.fromkeys(found, ".+") | {"datasource": "prometheus"}
    empty = [
        f"{title}: {expr}"
        for title, expr, instant in targets(board)
        if not answered(replay.prometheus, expanded(expr, values), instant=instant, now=now)
    ]
    assert empty == []


def test_a_model_that_does_not_exist_finds_nothing(replay: Replay) -> None:
    """Else the test above could not fail."""
    board = json.loads((HERE / "dashboards" / "trueup-drift.json").read_text())
    values = {"model": "nobody", "version": ".+", "datasource": "prometheus"}
    now = time.time()
    assert not any(
        answered(replay.prometheus, expanded(expr, values), instant=instant, now=now)
        for _, expr, instant in targets(board)
    )


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_every_recording_rule_records(replay: Replay, name: str) -> None:
    assert answered(replay.prometheus, name, instant=False, now=time.time())


def test_the_page_reached_a_webhook_and_a_mailbox_firing_and_resolved(replay: Replay) -> None:
    statuses = replay.webhook.statuses("TrueupPage")
    assert statuses[0] == "firing"
    assert "resolved" in statuses
    subjects = [line for mail in replay.mailbox.messages for line in mail.splitlines() if "Subject: " in line]
    assert {"Subject: firing TrueupPage", "Subject: resolved TrueupPage"} <= set(subjects)
    post = replay.webhook.received[0]
    assert post["version"] == "4"


def test_nothing_else_paged_while_all_was_well(replay: Replay) -> None:
    paged = {
        one["labels"]["alertname"]
        for post in replay.webhook.received
        for one in post["alerts"]
        if one["labels"]["severity"] == "page"
    }
    assert paged == {"TrueupPage"}


def test_the_replay_told_drift_and_recovery(replay: Replay) -> None:
    """The state of the model went through drift and ended ok."""
    (series,) = answered(
        replay.prometheus, "max by (model) (trueup_model_state)", instant=False, now=time.time()
    )
    told = [float(value) for _, value in series["values"]]
    assert 3.0 in told
    assert told[-1] == 2.0


def _post(url: str, body: Any) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)
