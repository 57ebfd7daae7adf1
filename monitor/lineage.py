"""What a champion grew from: the accuracy that its line began with, the labels that each step has seen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, case, func, select

from exporter.tables import reference, versions
from monitor.label_counts import count_labels, labels_of_job
from monitor.tables import jobs, verdicts
from monitor.verdict.paired import Z

MIN_ROWS = 20  # labelled rows: with fewer, an accuracy says nothing
_STEPS = 20  # champions that are followed back
_WORSE = (0.02, 0.05, 0.1, 0.2, 0.4)  # rises of the error that a bettor believes in, each with a fifth


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Right answers of labelled ones."""

    right: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    first: Score  # of the version that the line began with, on its own hold-out
    labels_learnt: int  # that the retrains from it to the champion were asked for with
    answers_loss: bool  # a retrain on the way answered a drift or a loss of accuracy
    labels_refused: int | None  # that the newest retrain had, where its challenger was not promoted


def read_lineage(connection: Connection, model: str, version: str) -> Lineage:
    """The line that ends with `version`."""
    line = _line(connection, model, version)
    done = select(jobs).where(
        jobs.c.model == model, jobs.c.finished_at.is_not(None), jobs.c.state != "cancelled"
    )
    newest = connection.execute(done.order_by(jobs.c.id.desc()).limit(1)).mappings().first()
    grown = connection.execute(done.where(jobs.c.candidate.in_(line))).mappings().all()
    refused = (
        newest is not None
        and newest["base_version"] == version
        and newest["candidate"] is not None  # one whose child died was never judged
        and newest["candidate"] not in line
    )
    return Lineage(
        first=_held_out(connection, model, line[-1]),
        labels_learnt=sum(_labels_of(connection, job) for job in grown),
        answers_loss=any(job["trigger"] in ("page", "accuracy") for job in grown),
        labels_refused=_labels_of(connection, newest) if newest is not None and refused else None,
    )


def holdout_uses(connection: Connection, model: str, version: str) -> int:
    """How often the hold-out that `version` hands on has decided about a challenger: each time spends some of
    it, for what passed the same rows many times may owe it to luck (Dwork et al. 2015).
    """
    line = _line(connection, model, version)
    counted = select(func.count()).where(verdicts.c.model == model, verdicts.c.parent.in_(line))
    return int(connection.execute(counted).scalar_one())


def read_answered(connection: Connection, model: str, version: str) -> Score:
    """Labelled answers that the version gave to traffic."""
    count = count_labels(connection, model, version)
    return Score(right=count.right, rows=count.rows)


def loss(first: Score, now: Score) -> float:
    """Log e-value against "wrong no more often than the first of the line on its hold-out".

    Bets on the rise of the error, row by row, so that it may be asked after every label (Waudby-Smith and
    Ramdas 2024); the hold-out's error is taken at its upper 95 % bound (Wilson 1927). 0 without enough rows.

    >>> loss(Score(right=285, rows=300), Score(right=190, rows=200)) < 0
    True
    >>> loss(Score(right=285, rows=300), Score(right=170, rows=200)) > math.log(20)
    True
    """
    if min(first.rows, now.rows) < MIN_ROWS:
        return 0.0
    null = _upper(1 - first.right / first.rows, first.rows)
    wrong = now.rows - now.right
    believed = np.array([null + rise for rise in _WORSE if null + rise < 1])
    if not believed.size:
        return 0.0
    won = wrong * np.log(believed / null) + now.right * np.log((1 - believed) / (1 - null))
    return float(np.logaddexp.reduce(won) - math.log(len(believed)))


def gain_lower(first: Score, now: Score) -> float:
    """One-sided 95 % lower bound of `now`'s accuracy less `first`'s; -1 without enough rows.

    Newcombe (1998), method 10: the hold-out and the answers are different rows.

    >>> first = Score(right=285, rows=300)
    >>> [round(gain_lower(first, Score(right=right, rows=1000)), 3) for right in (900, 955)]
    [-0.074, -0.016]
    """
    if min(first.rows, now.rows) < MIN_ROWS:
        return -1.0
    p, q = now.right / now.rows, first.right / first.rows
    below = p - (1 - _upper(1 - p, now.rows))
    above = _upper(q, first.rows) - q
    return p - q - math.hypot(below, above)


def _upper(share: float, rows: int) -> float:
    centre = share + Z**2 / (2 * rows)
    spread = Z * math.sqrt(share * (1 - share) / rows + Z**2 / (4 * rows**2))
    return (centre + spread) / (1 + Z**2 / rows)


def _line(connection: Connection, model: str, version: str) -> list[str]:
    """The version, its parent, and so on, at most _STEPS of them."""
    known = select(versions.c.version, versions.c.parent).where(versions.c.model == model)
    parents: dict[str, str | None] = {row.version: row.parent for row in connection.execute(known)}
    line = [version]
    while len(line) < _STEPS and (parent := parents.get(line[-1])) in parents and parent is not None:
        line.append(parent)
    return line


def _held_out(connection: Connection, model: str, version: str) -> Score:
    query = _score(reference.c.truth == reference.c.label).where(
        reference.c.model == model, reference.c.version == version, reference.c.truth.is_not(None)
    )
    return Score(**connection.execute(query).mappings().one())


def _score(right: Any) -> Any:
    return select(func.count().label("rows"), func.count(case((right, 1))).label("right"))


def _labels_of(connection: Connection, job: Any) -> int:
    """Labels that a job was asked for with."""
    if job["labels"] is not None:
        return int(job["labels"])
    asked = job["model"], job["base_version"], job["episode_id"]
    return labels_of_job(connection, *asked, at=job["created_at"])
