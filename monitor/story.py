"""What the status page and the metrics say of a model, read from the database in a few small queries."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, Select, select

from exporter import registry
from exporter.tables import deployment_events, versions
from monitor.tables import checks, episodes, evidence, jobs

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStory:
    """The newest rows of each kind, newest first; `line` is the page line in powers of ten."""

    name: str
    champion: str | None
    versions: list[Row]
    checks: list[Row]
    evidence: list[Row]
    episodes: list[Row]
    jobs: list[Row]
    deployments: list[Row]

    @property
    def state(self) -> str:
        """One word for the fleet table: "alert", "ok", "no check yet"."""
        if any(episode["state"] == "firing" for episode in self.episodes):
            return "alert"
        return str(self.checks[0]["state"]) if self.checks else "no check yet"

    @property
    def accuracy(self) -> float | None:
        """Accuracy of the champion by its newest check that had labels."""
        of_champion = (check for check in self.checks if check["version"] == self.champion)
        return next((check["accuracy"] for check in of_champion if check["accuracy"] is not None), None)


def stories(db: Engine, *, last: int = 40) -> list[ModelStory]:
    """Every registered model's story, `last` rows of each kind at most."""
    return [story(db, name, last=last) for name in registry.models(db)]


def story(db: Engine, name: str, *, last: int = 40) -> ModelStory:
    """One model's story; empty lists for a model that was never checked."""

    def newest(query: Select[Any], order: Any) -> list[Row]:
        with db.connect() as connection:
            return [
                dict(row) for row in connection.execute(query.order_by(order.desc()).limit(last)).mappings()
            ]

    checked = newest(select(checks).where(checks.c.model == name), checks.c.id)
    for check in checked:
        check["powers"] = powers(check["log_e"])
        check["line"] = powers(check["log_page_line"])
    judged = next((check["id"] for check in checked if check["first_seq"] is not None), -1)
    return ModelStory(
        name=name,
        champion=registry.champion(db, name),
        versions=newest(select(versions).where(versions.c.model == name), versions.c.number),
        checks=checked,
        evidence=newest(select(evidence).where(evidence.c.check_id == judged), evidence.c.detector),
        episodes=newest(select(episodes).where(episodes.c.model == name), episodes.c.id),
        jobs=newest(select(jobs).where(jobs.c.model == name), jobs.c.id),
        deployments=newest(
            select(deployment_events).where(deployment_events.c.model == name), deployment_events.c.id
        ),
    )


def powers(log: float | None) -> float | None:
    """A natural logarithm in powers of ten.

    >>> round(powers(4.60517), 3)
    2.0
    """
    return None if log is None else log / math.log(10)
