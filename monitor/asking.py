"""From a decision to a queued job: the facts that policy asks for, and the job with its key."""

from __future__ import annotations

import math
import secrets

from sqlalchemy import Connection, Engine, func, select

from exporter import registry
from exporter.database import clock, lock_order
from exporter.tables import versions
from exporter.trials import on_trial
from monitor import episodes, history, lineage, policy
from monitor.jobs import JobRefused, enqueue
from monitor.proof import proof_rows
from monitor.settings import ModelSettings, MonitorSettings
from monitor.tables import jobs
from monitor.tallies import Tally
from monitor.verdict import Pairs, non_inferiority

_SLACK = 1.2  # some proof nearly repeats a training row and is left out
DECISIONS = 0x63686563  # the lock under which decisions are made, one at a time


def ask_retrain(
    db: Engine,
    model: str,
    settings: ModelSettings,
    monitor: MonitorSettings,
    *,
    asked: policy.Asked,
    now: float | None = None,
    key: str | None = None,
) -> tuple[policy.Decision, int | None]:
    """Decide without a new window: by a schedule, a person, or an open page whose labels were too few so far.

    Returns the decision and the id of the job where one was queued. `key` makes a schedule's slot ask once.
    """
    now = database_now(db) if now is None else now
    retrains = history.read_retrains(db, model, now)
    version = registry.champion(db, model)
    with db.begin() as connection:
        lock_order(connection, DECISIONS)
        if version is None:
            raise JobRefused(model, "it has no champion to start from")
        situation = situate(connection, model, version, asked, retrains, now)
        decision = policy.decide(situation, limits(settings, read_rung(connection, model, version, settings)))
        if decision.action != "retrain":
            return decision, None
        job = queue(connection, model, version, decision, monitor, now, key)
    return decision, job


def read_rung(connection: Connection, model: str, version: str, settings: ModelSettings) -> str:
    """The rung that a retrain of the version would train."""
    if settings.retrain_rung != "same":
        return settings.retrain_rung
    query = select(versions.c.manifest).where(versions.c.model == model, versions.c.version == version)
    return str(connection.execute(query).scalar_one()["rung"])


def limits(settings: ModelSettings, rung: str) -> policy.Limits:
    """The policy's view of [models.NAME]."""
    return policy.Limits(
        min_labels=settings.min_labels,
        label_growth=settings.label_growth,
        proof_labels=_proof_labels(settings, rung),
        new_labels=settings.new_labels,
        recover=settings.recover,
        margin=settings.margin,
        cooldown_s=settings.cooldown,
        retrains_per_day=settings.retrains_per_day,
        max_rejected=settings.max_rejected,
        approval=settings.approval,
    )


def _proof_labels(settings: ModelSettings, rung: str) -> int:
    """Labels from which the verdict of a refresh has the rows it needs: a head's labels are all proof."""
    nothing = Pairs(both=0, only_champion=0, only_challenger=0, neither=0)
    rows = math.ceil(_SLACK * non_inferiority(nothing, settings.margin).rows_needed)
    if rung == "head":
        return rows
    counts = range(2 * rows, 2 + math.ceil(2 * rows / settings.verdict_share))
    return next((count for count in counts if proof_rows(count, settings.verdict_share) >= rows), 0)


def database_now(db: Engine) -> float:
    """The database's clock, for callers that have no clock of their own."""
    with db.connect() as connection:
        return clock(connection)


def situate(
    connection: Connection,
    model: str,
    version: str,
    asked: policy.Asked,
    retrains: history.Retrains,
    now: float,
    *,
    window: Tally | None = None,
) -> policy.Situation:
    """What is known without a window's evidence; labels count from the onset of an open drift."""
    open_ = [episode for episode in episodes.list_open(connection, model) if episode.state == "firing"]
    answered = _answered(open_)
    since = int(answered.detail.get("onset_seq", 0)) if answered is not None else 0
    if answered is None and window is not None:
        since = history.read_onset(connection, model, version) or window.first_seq
    if asked != "check":
        since = 0
    line = lineage.read_lineage(connection, model, version)
    now_right = lineage.read_answered(connection, model, version)
    return policy.Situation(
        asked=asked,
        now=now,
        labels_learnt=line.labels_learnt,
        labels_refused=line.labels_refused,
        log_e_loss=lineage.loss(line.first, now_right),
        answers_loss=line.answers_loss,
        gain_lower=lineage.gain_lower(line.first, now_right),
        open_causes=tuple(episode.cause for episode in open_),
        labels_since_champion=history.labels_after(connection, model, version, 0),
        labels_since_onset=history.labels_after(connection, model, version, since) if since else None,
        last_retrain_at=retrains.last_at,
        retrains_in_24_h=retrains.in_24_h,
        consecutive_rejections=retrains.rejections,
        active_job=retrains.active or on_trial(connection, model),
    )


def queue(
    connection: Connection,
    model: str,
    version: str,
    decision: policy.Decision,
    monitor: MonitorSettings,
    now: float,
    key: str | None,
) -> int | None:
    """Queue the decided retrain; None where the same cause was answered or a job is active already."""
    assert decision.trigger is not None
    episode = _episode(connection, model)
    if episode is not None and decision.trigger in ("page", "threshold"):
        answered = select(func.count()).where(jobs.c.episode_id == episode)
        key = f"{model}:episode {episode}:{connection.execute(answered).scalar_one()}"
    try:
        return enqueue(
            connection,
            model,
            trigger=decision.trigger,
            dedupe_key=key or f"{model}:{decision.trigger}:{secrets.token_hex(8)}",
            base_version=version,
            max_attempts=monitor.max_attempts,
            episode_id=episode,
            now=now,
        )
    except JobRefused:
        return None


def _episode(connection: Connection, model: str) -> int | None:
    """The open episode that a retrain answers: loss before anything else."""
    firing = [found for found in episodes.list_open(connection, model) if found.state == "firing"]
    answered = _answered(firing)
    return None if answered is None else answered.id


def _answered(firing: list[episodes.Episode]) -> episodes.Episode | None:
    """The oldest of loss, or else of a threshold: other causes never retrain."""
    loss = (found for found in firing if found.cause in ("drift", "accuracy"))
    other = (found for found in firing if found.cause.startswith("threshold:"))
    return next(loss, None) or next(other, None)
