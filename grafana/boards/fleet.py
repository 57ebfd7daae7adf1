"""Fleet: is any model in trouble, and which?"""

# ruff: noqa: E501 (queries and sentences stay whole, to be found and pasted)
from __future__ import annotations

from grafana.board import MODEL, Board, Row
from grafana.panels import BAD, CALM, OK, WARN, Column, Query, alert_list, number, rows, states

ZERO_IS_FINE = ((None, OK), (1.0, BAD))
STATES = (
    ("no check yet", CALM),
    ("not enough data", WARN),
    ("ok", OK),
    ("drift", BAD),
    ("check failed", BAD),
)
RATIO = ((None, OK), (0.5, WARN), (1.0, BAD))


def evidence_ratio(selector: str) -> str:
    """Evidence over the page line, both from metrics: the pager pages at 1."""
    line = f"max by (model) (trueup_page_line_powers{{{selector}}})"
    return f"max by (model) (trueup_evidence_powers{{{selector}}}) / {line}"


def stale(selector: str) -> str:
    """Age of the newest scheduled check in units of the age at which the alert fires."""
    age = f"time() - max by (model) (trueup_check_run_timestamp_seconds{{{selector}}})"
    return f"({age}) / (3 * max by (model) (trueup_check_interval_seconds{{{selector}}}) + 60)"


BOARD = Board(
    uid="trueup-fleet",
    title="trueup / Fleet",
    meaning="Every model: its state, its evidence, its traffic, and what fires.",
    rows=(
        Row(
            "Now",
            (
                number("Models in drift", "Models with a firing alert episode.",
                       f"sum(max by (model) (trueup_alerting{{{MODEL}}}))", steps=ZERO_IS_FINE),
                number("Without data", "Models that were never checked or whose window says too little: not the same as no drift.",
                       f"sum(max by (model) (trueup_model_state{{{MODEL}}}) <= bool 1)",
                       steps=((None, OK), (1.0, WARN))),
                number("Checks stale", "Models whose last scheduled check is older than three intervals and a minute.",
                       f"sum(({stale(MODEL)}) > bool 1)", steps=ZERO_IS_FINE),
                number("Retrains in work", "Retrains queued or running.",
                       f"sum(max by (model) (trueup_jobs_active{{{MODEL}}}))"),
                number("Texts per second", "Answered texts of the chosen models.",
                       f"sum(rate(trueup_predictions_total{{{MODEL}}}[$__rate_interval]))", unit="cps"),
                number("Failed requests", "Share of HTTP requests answered 5xx, all models.",
                       '(sum(rate(trueup_requests_total{status=~"5.."}[$__rate_interval])) or vector(0))'
                       " / sum(rate(trueup_requests_total[$__rate_interval]))",
                       unit="percentunit", steps=((None, OK), (0.01, WARN), (0.05, BAD))),
            ),
        ),
        Row(
            "Models",
            (
                states("State", "What the newest check of each model said.",
                       Query(f"max by (model) (trueup_model_state{{{MODEL}}})", "{{model}}"), STATES),
                rows(
                    "Models", "One row a model. Evidence over the page line pages at 1.",
                    Column("Champion's age", f"time() - max by (model, version) (trueup_version_created_timestamp_seconds{{{MODEL}}})", "s"),
                    Column("Evidence / page line", f"{evidence_ratio(MODEL)} * on (model) group_left (version) max by (model, version) (trueup_champion)", "none", RATIO),
                    Column("Accuracy", f"max by (model, version) (trueup_accuracy{{{MODEL}}})", "percentunit"),
                    Column("Hold-out", f"max by (model, version) (trueup_holdout_accuracy{{{MODEL}}})", "percentunit"),
                    Column("Last check", f"(time() - max by (model) (trueup_check_run_timestamp_seconds{{{MODEL}}})) * on (model) group_left (version) max by (model, version) (trueup_champion)", "s"),
                    Column("Texts / s", f"sum by (model, version) (rate(trueup_predictions_total{{{MODEL}}}[$__rate_interval]))", "cps"),
                ),
            ),
        ),
        Row(
            "Alerts",
            (
                alert_list("Alerts now", "What Prometheus has firing or pending."),
                rows("Alerts in this range", "Alerts that fired in the range of the dashboard.",
                     Column("Fired", 'max by (alertname, severity, model) (max_over_time(ALERTS{alertname=~"Trueup.*", alertstate="firing"}[$__range]))'),
                     width=12),
            ),
        ),
    ),
)  # fmt: skip
