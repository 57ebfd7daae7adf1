"""The status page of 50 models and 90 days of checks every five minutes, in Chromium.

python -m tests.benchmarks.page [--models 50] [--days 90] [--loads 20] [--database FILE]      a JSON line

`first_paint_ms` is `first-contentful-paint` of the browser, from the start of the navigation, with an empty
cache for each load; `answer_ms` is the whole answer to one request without a browser.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from exporter.database import clock, open_database
from monitor.migrate import upgrade
from monitor.web import status_app
from tests.monitor.browser import chromium, served
from tests.monitor.page_rows import fill, serve

EVERY_S = 300
BUDGET_MS = 500
_PAINT = "performance.getEntriesByName('first-contentful-paint').map(one => one.startTime)"
_QUALITY = """'{"state": "ok", "accuracy": ' || (0.9 + 0.02 * (n % 7) / 7) || ', "lower": 0.87, "upper": 0.94,
"labels": 180, "rows": 1000, "alpha": 0.05, "effective_labels": 240.0, "slices": []}'"""
_DECISION = """'{"action": "none", "trigger": null, "reasons": ["No change is proven.", "' || n || '"]}'"""
_CHECKS = f"""
with recursive tick(n) as (select 0 union all select n + 1 from tick where n + 1 < :ticks)
insert into checks (model, version, state, first_seq, last_seq, last_label_seq, rows, labelled, accuracy,
  log_e, log_page_line, paged, decision, evidently, at, quality)
select d.model, d.champion, 'ok', n, n + 500, n, 500, 9, 0.9, 0.4 * (n % 9), 10.8, 0, {_DECISION},
  '{{"metrics": "{"x" * 400}"}}', :start + n * {EVERY_S}, case when n % 3 = 0 then {_QUALITY} end
from tick, deployments d order by n, d.model
"""


def build(db: Engine, *, models: int, days: int) -> int:
    """Fill an empty SQLite database; returns the number of checks."""
    upgrade(db)
    fill(db, quiet=0)
    with db.begin() as connection:
        now = clock(connection)
        for number in range(models - 2):
            serve(connection, f"model-{number:02d}", ["v1", "v2", "v3"], now - days * 86400)
        ticks = days * 86400 // EVERY_S
        connection.execute(text(_CHECKS), {"ticks": ticks, "start": now - days * 86400})
    return int(ticks) * models


def measure(address: str, loads: int) -> dict[str, Any]:
    """First paints and answers of one page, in milliseconds."""
    answers = []
    for _ in range(loads):
        began = time.perf_counter()
        with urllib.request.urlopen(address, timeout=30) as answer:
            size = len(answer.read())
        answers.append(1000 * (time.perf_counter() - began))
    paints = []
    with chromium() as browser:
        for _ in range(loads):
            context = browser.new_context()
            page = context.new_page()
            page.goto(address)
            while not (paint := page.evaluate(_PAINT)):
                page.wait_for_timeout(10)
            paints.append(paint[0])
            context.close()
    return {
        "loads": loads,
        "bytes": size,
        "first_paint_ms": {"median": round(statistics.median(paints)), "worst": round(max(paints))},
        "answer_ms": {"median": round(statistics.median(answers)), "worst": round(max(answers))},
        "met": max(paints) <= BUDGET_MS,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=50)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--loads", type=int, default=20)
    parser.add_argument("--database", type=Path, help="kept, and used again where it exists")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = given.database or Path(folder) / "page.db"
        fresh = not file.exists()
        db = open_database(f"sqlite:///{file}")
        if fresh:
            build(db, models=given.models, days=given.days)
        with db.connect() as connection:
            rows = connection.scalar(text("select count(*) from checks"))
        told: dict[str, Any] = {"checks": rows, "megabytes": round(file.stat().st_size / 1e6)}
        with served(status_app(db, Path(folder), hosts=["127.0.0.1"])) as root:
            for name, path in (
                ("fleet", "/"),
                ("story", "/models/model-07"),
                ("story of 90 days", "/models/model-07?days=90"),
            ):
                told[name] = measure(root + path, given.loads)
        db.dispose()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
