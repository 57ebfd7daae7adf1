"""Rollout: a challenger that the verdict let through is tried in the shadow or as a canary before it serves.

Each look judges all rows of the trial so far by `canary.judge_canary`, whose promise holds however often it
is asked. A proven loss ends the trial and rejects the challenger; what is not proven in time is not promoted.
Speed was judged by the verdict, side by side in one process: micro-batches of a trial differ in size. A
challenger that fails on a text is taken back by the exporter at once (exporter/deployed.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

import structlog
from sqlalchemy import Connection, Engine, select

from exporter import registry
from exporter.database import lock_order
from exporter.errors import ChampionError
from exporter.generation import said, told
from exporter.settings import Mode
from exporter.tables import labels, predictions, versions
from exporter.trials import SHADOW, Trial, end_trial, read_trial, start_trial
from monitor import records
from monitor.asking import DECISIONS
from monitor.canary import Arm, CanaryDecision, Row, differences, judge_canary
from monitor.causes import settle
from monitor.settings import ModelSettings
from monitor.tables import jobs
from monitor.verdict import RULES
from trainer.decoder import TASK as GENERATION

Ending = Literal["promoted", "rolled back", "not proven in time"]
ALPHA = 0.05
ROWS = 20_000  # from the trial's beginning; a test that has not decided by then will not

_log = structlog.get_logger("trueup.rollout")


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look at a trial found, and what became of it; `ending` is None while it goes on."""

    trial: Trial
    decision: CanaryDecision
    ending: Ending | None
    next_mode: Mode | None = None


class _OverError(Exception):
    """The trial has ended while it was judged."""


def find_trial(db: Engine, model: str) -> Trial | None:
    """The model's trial, None without one."""
    with db.connect() as connection:
        return read_trial(connection, model)


def advance(db: Engine, model: str, settings: ModelSettings, *, now: float) -> Look | None:
    """Judge the model's trial and act; None where there is none."""
    trial = find_trial(db, model)
    if trial is None:
        return None
    gains = read_gains(db, trial)
    decision = judge_canary(gains, (), margin=settings.margin, alpha=ALPHA)
    try:
        with db.begin() as connection:
            lock_order(connection, DECISIONS)
            look = _act(db, connection, trial, decision, settings, now)
            if look.ending is not None:
                records.append(connection, _record(connection, look, settings, gains, now))
    except (_OverError, ChampionError):
        return None
    _log.info("trial", model=model, version=trial.challenger, mode=trial.mode, action=decision.action)
    return look


def begin(
    connection: Connection, model: str, challenger: str, champion: str, settings: ModelSettings
) -> None:
    """Put a challenger that the verdict let through on the first stage of the model's rollout."""
    mode = _stages(connection, model, challenger, settings)[0]
    start_trial(connection, model, challenger, champion=champion, mode=mode, share=_share(mode, settings))


def read_gains(db: Engine, trial: Trial) -> list[float]:
    """How much more often the challenger was right, since the trial began, by order of labels: in [-1, 1]."""
    with db.connect() as connection:
        return (_shadow_gains if trial.mode == "shadow" else _canary_gains)(connection, trial)


def _act(
    db: Engine,
    connection: Connection,
    trial: Trial,
    decision: CanaryDecision,
    settings: ModelSettings,
    now: float,
) -> Look:
    if read_trial(connection, trial.model) != trial:  # somebody promoted, rolled back or looked meanwhile
        raise _OverError
    stages = _stages(connection, trial.model, trial.challenger, settings)
    following = _following(trial.mode, stages)
    if decision.action == "promote" and following is not None:
        start_trial(
            connection,
            trial.model,
            trial.challenger,
            champion=trial.champion,
            mode=following,
            share=_share(following, settings),
        )
        return Look(trial=trial, decision=decision, ending=None, next_mode=following)
    ending = _ending(decision, expired=now - trial.started_at > settings.trial)
    if ending == "promoted":
        promoted = registry.promote(
            db,
            trial.model,
            trial.challenger,
            expected=trial.champion,
            reason=f"{trial.mode}: {decision.reason}",
            actor="monitor",
            connection=connection,
        )
        if not promoted:
            raise _OverError
        settle(
            connection, trial.model, reason=f"{trial.challenger} was proven on trial and promoted", now=now
        )
    elif ending is not None:
        end_trial(connection, trial.model)
        registry.reject(db, trial.model, trial.challenger, connection=connection)
    return Look(trial=trial, decision=decision, ending=ending)


def _ending(decision: CanaryDecision, *, expired: bool) -> Ending | None:
    if decision.action == "go on":
        return "not proven in time" if expired else None
    return "promoted" if decision.action == "promote" else "rolled back"


def _stages(connection: Connection, model: str, version: str, settings: ModelSettings) -> Sequence[Mode]:
    """Stages of the rollout. Nobody answers in a language model's shadow: a canary takes its place."""
    query = select(versions.c.manifest).where(versions.c.model == model, versions.c.version == version)
    manifest = connection.scalar(query) or {}
    return ("canary",) if settings.rollout and manifest.get("task") == GENERATION else settings.rollout


def _following(mode: Mode, rollout: Sequence[Mode]) -> Mode | None:
    """The stage after `mode`.

    >>> _following("shadow", ("shadow", "canary")), _following("canary", ("shadow", "canary"))
    ('canary', None)
    """
    after = rollout[rollout.index(mode) + 1 :] if mode in rollout else ()
    return after[0] if after else None


def _share(mode: Mode, settings: ModelSettings) -> float:
    return settings.canary_share if mode == "canary" else 1.0


def _shadow_gains(connection: Connection, trial: Trial) -> list[float]:
    """Both have answered every text: pairs."""
    own, shade = predictions.alias("own"), predictions.alias("shade")
    labelled = (
        select(own.c.label, shade.c.label.label("shade"), labels.c.label.label("truth"))
        .join(shade, shade.c.id == own.c.id + SHADOW)
        .join(labels, labels.c.prediction_id == own.c.id)
        .where(
            own.c.model == trial.model,
            own.c.version == trial.champion,
            shade.c.version == trial.challenger,
            own.c.at >= trial.started_at,
        )
        .order_by(labels.c.seq)
        .limit(ROWS)
    )
    return [
        float(row.shade == row.truth) - float(row.label == row.truth) for row in connection.execute(labelled)
    ]


def _canary_gains(connection: Connection, trial: Trial) -> list[float]:
    """Each text was answered by one of them: blocks of both."""
    arms: dict[str, Arm] = {trial.champion: "champion", trial.challenger: "canary"}
    labelled = (
        select(predictions.c.version, said().label("label"), told().label("truth"))
        .join(labels, labels.c.prediction_id == predictions.c.id)
        .where(
            predictions.c.model == trial.model,
            predictions.c.version.in_(arms),
            predictions.c.role.in_(("champion", "canary")),
            predictions.c.at >= trial.started_at,
            told().is_not(None),
        )
        .order_by(labels.c.seq)
        .limit(ROWS)
    )
    rows = connection.execute(labelled)
    return differences(Row(arms[row.version], float(row.label == row.truth)) for row in rows)


def _record(
    connection: Connection,
    look: Look,
    settings: ModelSettings,
    gains: Sequence[float],
    now: float,
) -> dict[str, Any]:
    """What `models verify` judges again."""
    trial = look.trial
    query = select(jobs.c.id).where(jobs.c.model == trial.model, jobs.c.candidate == trial.challenger)
    return {
        "rules": RULES,
        "kind": "trial",
        "model": trial.model,
        "version": trial.challenger,
        "parent": trial.champion,
        "job": connection.scalar(query.order_by(jobs.c.id.desc()).limit(1)),
        "at": now,
        "trial": asdict(trial),
        "margin": settings.margin,
        "alpha": ALPHA,
        "gains": list(gains),
        "action": look.decision.action,
        "outcome": cast(str, look.ending),
    }
