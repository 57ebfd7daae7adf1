"""Retraining: what was learnt, what was proven, and how long recovery takes."""

# ruff: noqa: E501 (queries and sentences stay whole, to be found and pasted)
from __future__ import annotations

from grafana.board import CHAMPION, MODEL, Board, Row
from grafana.panels import BAD, OK, WARN, Column, Query, lines, number, rows


def ended(outcome: str) -> str:
    """Retrains of the range that ended so. Several monitors tell the same numbers: `max` before `sum`."""
    return f'sum(max by (model) (increase(trueup_retrains_total{{{MODEL}, outcome="{outcome}"}}[$__range])))'


BOARD = Board(
    uid="trueup-retraining",
    title="trueup / Retraining",
    meaning="Retrains by outcome, their verdicts and durations, and the versions that serve.",
    range="now-7d",
    rows=(
        Row(
            "In this range",
            (
                number("Promoted", "Challengers that were proven and serve.", ended("promoted"), steps=((None, OK),)),
                number("Rejected", "Challengers that were not proven better.", ended("rejected"), steps=((None, OK), (1.0, WARN))),
                number("Failed", "Retrains that ended without a verdict.", ended("failed"), steps=((None, OK), (1.0, BAD))),
                number("In work now", "Queued or running.", f"sum(max by (model) (trueup_jobs_active{{{MODEL}}}))"),
                number("Drift to promotion", "From the episode's begin to the promotion that ended it, newest of each model, worst.",
                       f"max(trueup_drift_to_promotion_seconds{{{MODEL}}})", unit="s"),
                number("Deployments", "Promotions and rollbacks, by whom ever.",
                       f"sum(max by (model) (increase(trueup_deployments_total{{{MODEL}}}[$__range])))"),
            ),
        ),
        Row(
            "History",
            (
                lines("Retrains by outcome", "Ended so far; a step is one retrain.",
                      Query(f"sum by (outcome) (max by (model, outcome) (increase(trueup_retrains_total{{{MODEL}}}[$__rate_interval])))", "{{outcome}}"),
                      unit="short", smallest=0, stacked=True),
                lines("Retrains by state", "Rows of the queue, ended ones included.",
                      Query('max by (state) (trueup_jobs{state=~"queued|running"})', "{{state}}"), unit="short", smallest=0),
                lines("Gain of the newest verdict", "Challenger less champion on recent rows, and its one-sided 95 % lower bound.",
                      Query(f"max by (model) (trueup_verdict_gain{{{MODEL}}})", "{{model}} gain"),
                      Query(f"max by (model) (trueup_verdict_gain_lower{{{MODEL}}})", "{{model}} lower bound"), unit="percentunit"),
                lines("Duration of the newest retrain", "From the queue to its end.",
                      Query(f"max by (model) (trueup_retrain_seconds{{{MODEL}}})", "{{model}}"), unit="s", smallest=0),
                lines("Labels used", "By the newest retrain and its verdict.",
                      Query(f"max by (model) (trueup_verdict_labels{{{MODEL}}})", "{{model}}"), unit="short", smallest=0),
                lines("Age of the champion", "Since its version was sealed.",
                      Query(f"time() - max by (model, version) (trueup_version_created_timestamp_seconds{{{CHAMPION}}})", "{{model}} {{version}}"), unit="s"),
                rows("Champions", "The version that serves and when it last changed.",
                     Column("Deployed", f"(time() - max by (model) (trueup_deployment_timestamp_seconds{{{MODEL}}})) * on (model) group_left (version) max by (model, version) (trueup_champion)", "s"),
                     Column("Sealed", f"time() - max by (model, version) (trueup_version_created_timestamp_seconds{{{CHAMPION}}})", "s"),
                     Column("Hold-out", f"max by (model, version) (trueup_holdout_accuracy{{{CHAMPION}}})", "percentunit")),
            ),
        ),
    ),
)  # fmt: skip
