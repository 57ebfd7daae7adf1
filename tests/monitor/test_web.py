from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert
from starlette.testclient import TestClient

from exporter.database import open_database
from exporter.tables import deployments, versions
from monitor.migrate import upgrade
from monitor.tables import checks, episodes, evidence, jobs
from monitor.web import status_app

NASTY = "<script>alert(1)</script>"


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    db = open_database(f"sqlite:///{tmp_path}/t.db")
    upgrade(db)
    manifest = {"rung": "head", "metrics": {"accuracy": 0.95}}
    check: dict[str, Any] = {
        "model": "desks",
        "version": "v1",
        "state": "drift",
        "first_seq": 1,
        "last_seq": 200,
        "last_label_seq": 9,
        "rows": 200,
        "labelled": 9,
        "accuracy": 0.75,
        "log_e": 11.5,
        "log_page_line": 4.6,
        "paged": True,
        "decision": {"action": "wait", "reasons": [NASTY]},
        "report": "7.html",
        "at": 1000.0,
    }
    job: dict[str, Any] = {
        "model": "desks",
        "trigger": "page",
        "dedupe_key": "k",
        "state": "running",
        "attempt": 1,
        "max_attempts": 3,
        "not_before": 0.0,
        "cancel_requested": False,
        "progress": {"stage": "fit"},
        "created_at": 0.0,
        "updated_at": 0.0,
    }
    shown = {"detector": "similarity", "rows": 200, "enough": True, "effect": -0.4, "p_value": 1e-9}
    with db.begin() as connection:
        connection.execute(
            insert(versions).values(
                model="desks", version="v1", number=1, state="champion", path="p", manifest_sha256="0",
                manifest=manifest, created_at=0.0,
            )
        )  # fmt: skip
        connection.execute(
            insert(deployments).values(model="desks", champion="v1", revision=1, changed_at=0.0)
        )
        connection.execute(insert(checks).values(id=7, **check))
        connection.execute(insert(evidence).values(check_id=7, log_e=11.5, detail={}, **shown))
        connection.execute(insert(jobs).values(**job))
        connection.execute(
            insert(episodes).values(
                model="desks", version="v1", cause=NASTY, state="firing", opened_at=0.0, detail={}
            )
        )
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "7.html").write_text("<html>report</html>")
    return TestClient(status_app(db, tmp_path, hosts=["testserver"]))


def test_the_page_tells_the_story_and_escapes_what_others_wrote(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    for part in ("desks", "alert", "0.750", "10^5.0 / 10^2.0", "fit", "Evidently"):
        assert part in page.text
    assert NASTY not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_a_report_is_served_in_a_sandbox(client: TestClient) -> None:
    report = client.get("/reports/7")
    assert report.text == "<html>report</html>"
    assert report.headers["content-security-policy"].startswith("sandbox allow-scripts;")
    assert client.get("/reports/8").status_code == 404
    assert client.get("/reports/..%2f7").status_code == 404


def test_metrics_are_told(client: TestClient) -> None:
    lines = client.get("/metrics").text.splitlines()
    assert 'trueup_accuracy{model="desks",version="v1"} 0.75' in lines
    assert 'trueup_alerting{model="desks"} 1' in lines
    assert 'trueup_jobs_active{model="desks"} 1' in lines


def test_another_host_name_is_refused(client: TestClient) -> None:
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/healthz").text == "ok\n"
    assert client.get("/readyz").status_code == 200


def test_an_empty_database_has_a_page_too(tmp_path: Path) -> None:
    db = open_database(f"sqlite:///{tmp_path}/t.db")
    upgrade(db)
    assert (
        "trueup train SPEC.toml" in TestClient(status_app(db, tmp_path, hosts=["testserver"])).get("/").text
    )
