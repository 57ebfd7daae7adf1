"""The metrics of a check's report as rows, so that anything that reads the database can plot them."""

from __future__ import annotations

from sqlalchemy import Connection, insert

from monitor.report_request import ReportResult
from monitor.tables import report_metrics


def write_metrics(connection: Connection, check_id: int, result: ReportResult) -> None:
    """Insert one row a metric; one that failed has its reason and no value."""
    found = {
        one["name"]: {
            "metric": one["name"],
            "column": one["column"],
            "method": one["method"],
            "value": one["value"],
            "threshold": one["threshold"],
            "drifted": one["drifted"],
            "failed": None if one["value"] is not None else "Evidently gave no number.",
        }
        for one in result.metrics
    }
    empty = {"column": None, "method": None, "value": None, "threshold": None, "drifted": False}
    for one in result.failed:
        found.setdefault(one["name"], {**empty, "metric": one["name"], "failed": one["reason"]})
    if found:
        connection.execute(insert(report_metrics), [row | {"check_id": check_id} for row in found.values()])
