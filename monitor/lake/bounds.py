"""Which rows may leave the database."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Engine, and_, func, or_, select

from exporter.tables import deployments, labels, predictions, trials
from monitor.tables import checks, label_requests

_WINDOWS = 20  # of a version that serves: onset, severity and accuracy look back on so many


def sealable_until(db: Engine, model: str, version: str) -> int:
    """Last `predictions.seq` of the version that no check, verdict or report will read; 0 for none."""
    windows = (
        select(checks.c.first_seq)
        .where(checks.c.model == model, checks.c.version == version, checks.c.first_seq.is_not(None))
        .order_by(checks.c.id.desc())
        .offset(_WINDOWS - 1)
        .limit(1)
    )
    with db.connect() as connection:
        if connection.execute(select(1).where(_in_use(model, version))).first() is None:
            return int(connection.scalar(select(func.max(predictions.c.seq))) or 0)
        return int(connection.scalar(windows) or 1) - 1


def oldest_unsealed(db: Engine, model: str, version: str, until_seq: int) -> float:
    """When the version's oldest row was answered that may leave; infinity without one."""
    oldest = select(func.min(predictions.c.at)).where(
        predictions.c.model == model,
        predictions.c.version == version,
        predictions.c.seq <= until_seq,
        unwanted(),
    )
    with db.connect() as connection:
        found = connection.scalar(oldest)
    return float("inf") if found is None else float(found)


def unwanted() -> ColumnElement[bool]:
    """Rows that teach and prove nothing: without a label and not drawn for one."""
    labelled = select(labels.c.seq).where(labels.c.prediction_id == predictions.c.id)
    drawn = select(label_requests.c.at).where(label_requests.c.prediction_id == predictions.c.id)
    return and_(~labelled.exists(), ~drawn.exists())


def _in_use(model: str, version: str) -> ColumnElement[bool]:
    """The version serves, may be rolled back to, or is on trial."""
    deployed, tried = deployments.c, trials.c
    serves = select(deployed.model).where(
        deployed.model == model, or_(deployed.champion == version, deployed.previous == version)
    )
    on_trial = select(tried.model).where(
        tried.model == model, or_(tried.champion == version, tried.challenger == version)
    )
    return or_(serves.exists(), on_trial.exists())
