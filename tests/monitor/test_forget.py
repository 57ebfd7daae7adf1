from __future__ import annotations

import json
from pathlib import Path

from sqlalchemy import insert, select

from exporter.database import open_database, sqlite_url
from exporter.tables import predictions
from monitor.migrate import upgrade
from monitor.tables import label_requests
from tests.exporter.rows import ledger, prediction
from tests.monitor.test_cli import trueup


def test_a_person_is_forgotten_with_what_still_waits_and_what_was_drawn_for_labels(tmp_path: Path) -> None:
    home = tmp_path / ".trueup"
    db = open_database(sqlite_url(home))
    upgrade(db)
    writer = ledger(home / "ledger")
    writer.append([prediction(1, metadata={"user": "ann"}), prediction(2, metadata={"user": "bob"})])
    drawn = {
        "strategy": "uniform",
        "probability": 0.5,
        "draw": "d",
        "first_seq": 1,
        "last_seq": 2,
        "rate": 1.0,
    }
    with db.begin() as connection:
        for id_ in ("p1", "p2"):
            row = {"prediction_id": id_, "model": "router", "version": "v1", "at": 1.0} | drawn
            connection.execute(insert(label_requests).values(row))
    done = trueup("forget", "--key", "user", "--value", "ann", "--json", folder=tmp_path)
    writer.close()
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["prediction_ids"] == ["p1"]
    assert told["remains"]
    with db.connect() as connection:
        assert list(connection.scalars(select(predictions.c.id))) == ["p2"]
        assert list(connection.scalars(select(label_requests.c.prediction_id))) == ["p2"]
    db.dispose()
