"""Trials: a challenger answers beside the champion (shadow), or for a share of the traffic (canary).

A shadow's answers are recorded and never returned; its row has the id of the champion's row and SHADOW at its
end, so that a label of one is a label of both. A canary answers for a fixed share of the keys, always the
same ones.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import cast

from sqlalchemy import Connection, Engine, RowMapping, delete, insert, select, update

from exporter.database import NOW
from exporter.errors import TrialError
from exporter.settings import Mode
from exporter.tables import deployments, trials, versions

SHADOW = "s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    model: str
    champion: str  # whom the challenger is compared with
    challenger: str
    mode: Mode
    share: float  # of the keys that a canary answers
    started_at: float


def start_trial(
    connection: Connection, model: str, challenger: str, *, champion: str, mode: Mode, share: float
) -> None:
    """Put a version on trial beside `champion`, in place of the model's trial if it has one.

    Raises TrialError where `champion` does not serve, or the challenger is none that could follow it.
    """
    if not 0 < share <= 1:
        raise TrialError(model, challenger, f"a share of {share} is not between 0 and 1")
    if connection.scalar(select(deployments.c.champion).where(deployments.c.model == model)) != champion:
        raise TrialError(model, challenger, f"{champion} does not serve any more")
    changed = connection.execute(
        update(versions)
        .where(
            versions.c.model == model,
            versions.c.version == challenger,
            versions.c.state.in_(("candidate", "challenger")),
        )
        .values(state="challenger")
        .returning(versions.c.version)
    ).first()
    if changed is None:
        raise TrialError(model, challenger, "it is not a candidate")
    end_trial(connection, model)
    connection.execute(
        insert(trials).values(
            model=model, champion=champion, challenger=challenger, mode=mode, share=share, started_at=NOW
        )
    )


def end_trial(connection: Connection, model: str) -> None:
    """End the model's trial, if it has one; promoting or rolling back ends it, too."""
    connection.execute(delete(trials).where(trials.c.model == model))


def read_trials(db: Engine) -> list[Trial]:
    """Every trial, by model."""
    with db.connect() as connection:
        return [_trial(row) for row in connection.execute(select(trials).order_by(trials.c.model)).mappings()]


def read_trial(connection: Connection, model: str) -> Trial | None:
    """The model's trial, None without one."""
    row = connection.execute(select(trials).where(trials.c.model == model)).mappings().first()
    return None if row is None else _trial(row)


def give_up(connection: Connection, trial: Trial) -> None:
    """End a trial whose challenger has failed on a text, and reject the challenger."""
    over = delete(trials).where(trials.c.model == trial.model, trials.c.challenger == trial.challenger)
    if connection.execute(over).rowcount:
        connection.execute(
            update(versions)
            .where(versions.c.model == trial.model, versions.c.version == trial.challenger)
            .values(state="rejected")
        )


def _trial(row: RowMapping) -> Trial:
    return Trial(**{**row, "mode": cast(Mode, row["mode"])})


def on_trial(connection: Connection, model: str) -> bool:
    """Whether a challenger of the model is on trial."""
    return connection.scalar(select(trials.c.model).where(trials.c.model == model)) is not None


def in_canary(trial: Trial, key: str) -> bool:
    """Whether the canary answers this key; another challenger draws other keys.

    >>> trial = Trial(model="m", champion="v1", challenger="v2", mode="canary", share=0.1, started_at=0.0)
    >>> sum(in_canary(trial, f"user {number}") for number in range(1000))
    90
    """
    name = f"{trial.model}\0{trial.challenger}\0{key}".encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:8]) < trial.share * 2**64


def shadow_id(prediction_id: str) -> str:
    """Id of the shadow's row beside a champion's row."""
    return prediction_id + SHADOW
