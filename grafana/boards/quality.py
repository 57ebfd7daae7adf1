"""Quality: are the answers right, as far as labels tell?"""

# ruff: noqa: E501 (queries and sentences stay whole, to be found and pasted)
from __future__ import annotations

from grafana.board import CHAMPION, MODEL, Board, Row
from grafana.boards.drift import OF_VERSION
from grafana.panels import BAD, OK, WARN, Query, lines, number

LOSS = (
    f"max by (model, version) (trueup_holdout_accuracy{{{CHAMPION}}})"
    f" - on (model, version) max by (model, version) (trueup_accuracy{{{CHAMPION}}})"
)
BOARD = Board(
    uid="trueup-quality",
    title="trueup / Quality",
    meaning="Accuracy by labels that arrived later, beside the sealed hold-out's.",
    rows=(
        Row(
            "Now",
            (
                number("Accuracy", "Share of right answers among the newest labels, the worst model.",
                       f"min(trueup_accuracy{{{CHAMPION}}})", unit="percentunit"),
                number("Lost since the hold-out", "Hold-out accuracy less that of the newest labels, the worst model. Few labels make it noisy.",
                       f"max({LOSS})", unit="percentunit", steps=((None, OK), (0.05, WARN), (0.1, BAD))),
                number("Labels judged", "Labels behind the newest accuracy of the chosen models.",
                       f"sum(max by (model) (trueup_check_labels{{{CHAMPION}}}))", unit="short"),
                number("Labels per second", "Labels stored, all models.",
                       'sum(rate(trueup_labels_total{status="stored"}[$__rate_interval]))', unit="cps"),
                number("Refused labels", "Share of labels that name no prediction, no class, or contradict.",
                       '(sum(rate(trueup_labels_total{status="error"}[$__rate_interval])) or vector(0))'
                       " / (sum(rate(trueup_labels_total[$__rate_interval])) > 0 or vector(1))", unit="percentunit"),
                number("Gain of the last retrain", "Challenger less champion on recent rows, in the newest verdict.",
                       f"max(trueup_verdict_gain{{{MODEL}}})", unit="percentunit"),
            ),
        ),
        Row(
            "History",
            (
                lines("Accuracy", "By newest labels; the dashed limit is the accuracy on the sealed hold-out.",
                      Query(f"max by (model, version) (trueup_accuracy{{{CHAMPION}}})", "{{model}} {{version}}"),
                      Query(f"max by (model, version) (trueup_holdout_accuracy{{{CHAMPION}}})", "limit {{model}} {{version}} hold-out"),
                      unit="percentunit"),
                lines("Lost since the hold-out", "Hold-out accuracy less that of the newest labels.",
                      Query(LOSS, "{{model}} {{version}}"), unit="percentunit"),
                lines("Evidence that accuracy fell", "E-value of the accuracy detector, in powers of ten.",
                      Query(f'max by (model, detector) (trueup_detector_powers{{{MODEL}, detector="accuracy"}}){OF_VERSION}',
                            "{{model}} {{version}}")),
                lines("Labels behind each accuracy", "Labels that the judgement had: few labels say little.",
                      Query(f"max by (model, version) (trueup_check_labels{{{CHAMPION}}})", "{{model}} {{version}}"),
                      unit="short", smallest=0),
                lines("Labels received", "Labels per second by what became of them, all models.",
                      Query("sum by (status) (rate(trueup_labels_total[$__rate_interval]))", "{{status}}"),
                      unit="cps", smallest=0, stacked=True),
                lines("Gain of retrains", "Of the newest verdict, with its one-sided 95 % lower bound.",
                      Query(f"max by (model) (trueup_verdict_gain{{{MODEL}}})", "{{model}} gain"),
                      Query(f"max by (model) (trueup_verdict_gain_lower{{{MODEL}}})", "{{model}} lower bound"),
                      unit="percentunit"),
            ),
        ),
    ),
)  # fmt: skip
