from __future__ import annotations

import math
from dataclasses import replace

import pytest

from monitor.evidence import similarity
from monitor.policy import LOSS_LINE, Limits, Situation, decide

LINE = math.log(100)
OVER = LINE - math.log(similarity.detector.weight)  # what similarity needs to page by itself
QUIET = {"accuracy": 0.0, "class_mix": -1.0, "confidence": -1.0, "similarity": -1.0}
CALM = Situation(asked="check", now=1e6, log_es=QUIET, log_page_line=LINE, labels_since_champion=250)
DRIFT = replace(CALM, log_es=QUIET | {"similarity": OVER})
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
        replace(CALM, log_es=QUIET | {"similarity": OVER - 1e-6}),
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
        "a page waits for the labels of its own change",
        replace(DRIFT, labels_since_champion=5000, labels_since_onset=83),
        LIMITS,
        "wait",
        "page",
        True,
        ("drift",),
        "83 of 200 since the change began (min_labels)",
    ),
    (
        "a loss that no retrain won back asks again",
        replace(CALM, log_e_loss=LOSS_LINE, labels_since_champion=500),
        LIMITS,
        "retrain",
        "accuracy",
        False,
        (),
        "proven lower than it was once (e = 20)",
    ),
    (
        "just under its line it does not",
        replace(CALM, log_e_loss=LOSS_LINE - 1e-6, labels_since_champion=500),
        LIMITS,
        "none",
        None,
        False,
        (),
        "Nothing",
    ),
    (
        "a page comes before it",
        replace(DRIFT, log_e_loss=50.0),
        LIMITS,
        "retrain",
        "page",
        True,
        ("drift",),
        "drift",
    ),
    (
        "a class mix whose loss is proven retrains",
        replace(CALM, log_e_loss=9.0, open_causes=("class_mix",)),
        LIMITS,
        "retrain",
        "accuracy",
        False,
        (),
        "proven lower",
    ),
    (
        "it can be switched off",
        replace(CALM, log_e_loss=50.0),
        replace(LIMITS, recover=False),
        "none",
        None,
        False,
        (),
        "Nothing",
    ),
    (
        "it waits until the labels have grown",
        replace(CALM, log_e_loss=9.0, labels_since_champion=499, labels_learnt=1000),
        LIMITS,
        "wait",
        "accuracy",
        False,
        (),
        "499 of 500 since the champion was made (label_growth)",
    ),
    (
        "and until the verdict can be proven",
        replace(CALM, log_e_loss=9.0, labels_since_champion=250),
        replace(LIMITS, proof_labels=396),
        "wait",
        "accuracy",
        False,
        (),
        "250 of 396 since the champion was made (verdict_share, margin)",
    ),
    (
        "what answers a page is proven by its gain",
        replace(DRIFT, open_causes=("drift",)),
        replace(LIMITS, proof_labels=396),
        "retrain",
        "page",
        True,
        ("drift",),
        "",
    ),
    (
        "a refused challenger is not tried again with the same labels",
        replace(DRIFT, labels_since_onset=250, labels_refused=240),
        LIMITS,
        "wait",
        "page",
        True,
        ("drift",),
        "250 of 360 since the change began (label_growth)",
    ),
    (
        "but with half as many again",
        replace(DRIFT, labels_since_onset=360, labels_refused=240),
        LIMITS,
        "retrain",
        "page",
        True,
        ("drift",),
        "",
    ),
    (
        "the circuit breaker says when it tries once more",
        replace(DRIFT, labels_since_onset=479, labels_refused=240, consecutive_rejections=3),
        LIMITS,
        "wait",
        "page",
        True,
        ("drift",),
        "It tries once more with 480 labels.",
    ),
    (
        "and does, as long as the labels double",
        replace(DRIFT, labels_since_onset=480, labels_refused=240, consecutive_rejections=7),
        LIMITS,
        "retrain",
        "page",
        True,
        ("drift",),
        "",
    ),
    (
        "N new labels",
        replace(CALM, labels_since_champion=1000),
        replace(LIMITS, new_labels=1000),
        "retrain",
        "labels",
        False,
        (),
        "1000 labels are new since the champion was made (new_labels = 1000)",
    ),
    (
        "one label fewer",
        replace(CALM, labels_since_champion=999),
        replace(LIMITS, new_labels=1000),
        "none",
        None,
        False,
        (),
        "Nothing",
    ),
    (
        "N new labels are braked too",
        replace(CALM, labels_since_champion=1000, consecutive_rejections=3),
        replace(LIMITS, new_labels=1000),
        "wait",
        "labels",
        False,
        (),
        "Circuit breaker",
    ),
    (
        "no brake and no growth holds a person",
        replace(CALM, asked="manual", labels_refused=1000, labels_learnt=9000),
        replace(LIMITS, proof_labels=396),
        "retrain",
        "manual",
        False,
        (),
        "A person asked",
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


def test_the_same_loss_is_answered_about_as_often_as_the_logarithm_of_its_labels() -> None:
    losing = replace(CALM, log_e_loss=50.0)
    learnt, since, retrains = 0, 0, 0
    for _ in range(10_000):
        since += 1
        now = replace(losing, labels_since_champion=since, labels_learnt=learnt)
        if decide(now, LIMITS).action == "retrain":
            learnt, since, retrains = learnt + since, 0, retrains + 1
    assert 8 <= retrains <= 12


@pytest.mark.parametrize(
    ("labels", "answered", "loss", "action"),
    [
        (250, False, 0.0, "retrain"),  # the first drift of a line
        (250, True, 0.0, "wait"),
        (400, True, 0.0, "retrain"),
        (250, True, LOSS_LINE, "retrain"),
        (250, True, LOSS_LINE - 1e-6, "wait"),
    ],
)
def test_a_drift_after_one_that_was_answered_waits_while_no_loss_is_proven(
    labels: int, answered: bool, loss: float, action: str
) -> None:
    drift = replace(DRIFT, labels_since_champion=labels, answers_loss=answered, log_e_loss=loss)
    found = decide(drift, LIMITS)
    assert found.action == action
    assert any("no loss of accuracy is proven" in one for one in found.reasons) == (action == "wait")


@pytest.mark.parametrize(
    ("fresh", "answers_loss", "action"),
    [(299, True, "none"), (300, True, "retrain"), (300, False, "none")],
)
def test_what_drifted_is_learnt_again_as_its_labels_grow(fresh: int, answers_loss: bool, action: str) -> None:
    """With the loss won back; a model that answered none has nothing to catch up with."""
    won_back = replace(
        CALM, answers_loss=answers_loss, gain_lower=0.01, labels_learnt=600, labels_since_champion=fresh
    )
    decision = decide(won_back, LIMITS)
    assert (decision.action, decision.trigger) == (action, "labels" if action == "retrain" else None)
    assert decide(won_back, replace(LIMITS, recover=False)).action == "none"
