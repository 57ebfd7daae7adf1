from __future__ import annotations

import math
from dataclasses import replace

import pytest

from monitor.policy import Limits, Situation, decide

LINE = math.log(100)
QUIET = {"accuracy": 0.0, "class_mix": -1.0, "confidence": -1.0, "similarity": -1.0}
CALM = Situation(asked="check", now=1e6, log_es=QUIET, log_page_line=LINE, labels_since_champion=250)
DRIFT = replace(CALM, log_es=QUIET | {"similarity": LINE + math.log(4)})
LIMITS = Limits()

ROWS = [
    ("nothing happened", CALM, LIMITS, "none", None, False, (), "Nothing has changed"),
    (
        "before the first window",
        replace(CALM, log_es={}),
        LIMITS,
        "none",
        None,
        False,
        (),
        "Nothing has changed",
    ),
    ("a page retrains", DRIFT, LIMITS, "retrain", "page", True, ("drift",), "drift"),
    (
        "just under the line",
        replace(CALM, log_es=QUIET | {"similarity": LINE + math.log(4) - 1e-6}),
        LIMITS,
        "none",
        None,
        False,
        (),
        "Nothing",
    ),
    (
        "accuracy has its own cause",
        replace(CALM, log_es=QUIET | {"accuracy": 9.0}),
        LIMITS,
        "retrain",
        "page",
        True,
        ("accuracy",),
        "accuracy",
    ),
    (
        "class mix alone never retrains",
        replace(CALM, log_es=QUIET | {"class_mix": 50.0}),
        LIMITS,
        "none",
        None,
        True,
        ("class_mix",),
        "mix of classes",
    ),
    (
        "class mix beside similarity does",
        replace(DRIFT, log_es=dict(DRIFT.log_es) | {"class_mix": 50.0}),
        LIMITS,
        "retrain",
        "page",
        True,
        ("class_mix", "drift"),
        "drift",
    ),
    (
        "an open episode goes on asking",
        replace(CALM, open_causes=("drift",)),
        LIMITS,
        "retrain",
        "page",
        False,
        (),
        "drift",
    ),
    (
        "an open class mix does not",
        replace(CALM, open_causes=("class_mix",)),
        LIMITS,
        "none",
        None,
        False,
        (),
        "mix",
    ),
    (
        "a threshold retrains",
        replace(CALM, exceeded=("accuracy",)),
        LIMITS,
        "retrain",
        "threshold",
        False,
        ("threshold:accuracy",),
        "Over the configured threshold: accuracy",
    ),
    (
        "labels are missing",
        replace(DRIFT, labels_since_champion=83),
        LIMITS,
        "wait",
        "page",
        True,
        ("drift",),
        "83 of 200",
    ),
    ("a job is active", replace(DRIFT, active_job=True), LIMITS, "wait", "page", True, ("drift",), "already"),
    (
        "cool-down",
        replace(DRIFT, last_retrain_at=1e6 - 3000),
        LIMITS,
        "wait",
        "page",
        True,
        ("drift",),
        "600 s left of 3600 s",
    ),
    (
        "cooled down",
        replace(DRIFT, last_retrain_at=1e6 - 3600),
        LIMITS,
        "retrain",
        "page",
        True,
        ("drift",),
        "",
    ),
    (
        "daily budget",
        replace(DRIFT, retrains_in_24_h=4),
        LIMITS,
        "wait",
        "page",
        True,
        ("drift",),
        "4 retrains in 24 h",
    ),
    (
        "circuit breaker",
        replace(DRIFT, consecutive_rejections=3),
        LIMITS,
        "wait",
        "page",
        True,
        ("drift",),
        "Circuit breaker: the last 3",
    ),
    ("approval", DRIFT, replace(LIMITS, approval=True), "wait", "page", True, ("drift",), "approval = true"),
    (
        "schedule",
        replace(CALM, asked="schedule"),
        LIMITS,
        "retrain",
        "schedule",
        False,
        (),
        "250 labels are new",
    ),
    (
        "schedule without new labels",
        replace(CALM, asked="schedule", labels_since_champion=0),
        LIMITS,
        "none",
        None,
        False,
        (),
        "no label has come",
    ),
    (
        "schedule with few labels",
        replace(CALM, asked="schedule", labels_since_champion=3),
        LIMITS,
        "wait",
        "schedule",
        False,
        (),
        "3 of 200",
    ),
    (
        "a person is not braked",
        replace(CALM, asked="manual", last_retrain_at=1e6, retrains_in_24_h=9, consecutive_rejections=9),
        replace(LIMITS, approval=True),
        "retrain",
        "manual",
        False,
        (),
        "A person asked",
    ),
    (
        "a person needs labels too",
        replace(CALM, asked="manual", labels_since_champion=3),
        LIMITS,
        "wait",
        "manual",
        False,
        (),
        "3 of 200",
    ),
    (
        "a person waits for a running job",
        replace(CALM, asked="manual", active_job=True),
        LIMITS,
        "wait",
        "manual",
        False,
        (),
        "already",
    ),
]


@pytest.mark.parametrize(
    ("situation", "limits", "action", "trigger", "page", "causes", "reason"),
    [row[1:] for row in ROWS],
    ids=[row[0] for row in ROWS],
)
def test_each_rule_decides_as_written(
    situation: Situation,
    limits: Limits,
    action: str,
    trigger: str | None,
    page: bool,
    causes: tuple[str, ...],
    reason: str,
) -> None:
    decision = decide(situation, limits)
    assert (decision.action, decision.trigger, decision.page, decision.causes) == (
        action,
        trigger,
        page,
        causes,
    )
    assert reason in " ".join(decision.reasons)


def test_every_obstacle_is_named_at_once() -> None:
    stuck = replace(
        DRIFT,
        labels_since_champion=1,
        active_job=True,
        retrains_in_24_h=4,
        consecutive_rejections=3,
        last_retrain_at=1e6,
    )
    assert len(decide(stuck, replace(LIMITS, approval=True)).reasons) == 7
