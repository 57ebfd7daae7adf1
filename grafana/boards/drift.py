"""Drift: what changed, since when, and how sure is that?"""

# ruff: noqa: E501 (queries and sentences stay whole, to be found and pasted)
from __future__ import annotations

from grafana.board import CHAMPION, MODEL, Board, Row
from grafana.boards.fleet import RATIO, evidence_ratio, stale
from grafana.panels import MONITOR, Column, Query, bars, lines, number, rows

OF_VERSION = (
    ' * on (model) group_left (version) max by (model, version) (trueup_champion{version=~"$version"})'
)


def detector(metric: str) -> str:
    """A detector's metric for the chosen versions."""
    return f"max by (model, detector) (trueup_detector_{metric}{{{MODEL}}}){OF_VERSION}"


BOARD = Board(
    uid="trueup-drift",
    title="trueup / Drift",
    meaning="The pager's evidence against its page line, detector by detector.",
    rows=(
        Row(
            "Now",
            (
                number("Evidence / page line", "Powers of ten that the pager has won, over those that page. It pages at 1.",
                       f"max({evidence_ratio(CHAMPION)})", steps=RATIO),
                number("Smallest p-value", "Of any detector in the newest window alone: severity, it never pages.",
                       f"min({detector('p_value')})"),
                number("Strongest detector", "Largest e-value of one detector, in powers of ten.", f"max({detector('powers')})"),
                number("Predictions judged", "Predictions in the newest windows.",
                       f"sum(max by (model) (trueup_check_rows{{{CHAMPION}}}))", unit="short"),
                number("From data to check", "From the window's last prediction to its check, the worst model.",
                       f"max(trueup_check_delay_seconds{{{CHAMPION}}})", unit="s"),
                number("Oldest check / limit", "Age of the newest scheduled check, over three intervals and a minute: stale at 1.",
                       f"max({stale(MODEL)})", steps=RATIO),
            ),
        ),
        Row(
            "Evidence",
            (
                lines("Evidence of the pager", "E-value in powers of ten; the dashed limit is the page line of each version.",
                      Query(f"max by (model, version) (trueup_evidence_powers{{{CHAMPION}}})", "{{model}} {{version}}"),
                      Query(f"max by (model, version) (trueup_page_line_powers{{{CHAMPION}}})", "limit {{model}} {{version}}")),
                lines("Evidence of each detector", "E-value in powers of ten: which detector sees a change.",
                      Query(detector("powers"), "{{model}} {{detector}}")),
                bars("Effect of each detector", "Effect size in the newest window; its sign is the direction.",
                     Query(detector("effect"), "{{model}} {{detector}}")),
                lines("P-value of each window", "Calibrated for the sizes of window and reference; of one window alone.",
                      Query(detector("p_value"), "{{model}} {{detector}}"), log=True),
            ),
        ),
        Row(
            "Windows and episodes",
            (
                lines("Predictions judged", "Rows in the newest window of each version: nothing here is no data.",
                      Query(f"max by (model, version) (trueup_check_rows{{{CHAMPION}}})", "{{model}} {{version}}"),
                      unit="short", smallest=0),
                rows("Episodes in this range", "Alert episodes that were open, by cause; the value is their age.",
                     Column("Age", f"time() - max by (model, cause, state) (max_over_time(trueup_episode_opened_timestamp_seconds{{{MODEL}}}[$__range]))", "s"),
                     width=6),
                rows("Newest reports", "Evidently's report of the newest reported window: open it with a click.",
                     Column("Report", f"max by (model, version) (trueup_report_id{{{CHAMPION}}})",
                            link=f"{MONITOR}/reports/${{__value.raw}}"), width=6),
            ),
        ),
    ),
)  # fmt: skip
