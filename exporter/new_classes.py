"""Labels that no version of a model knows yet: which names are taken in, and how often each has come.

A label outside the label set may be a new class or a slip of the pen. Both are kept, as the truth of a
prediction that was wrong; a retrain learns a class once it has enough rows, so a slip teaches nothing. What a
client may invent is bounded: sane names, and at most MOST that wait at the same time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from sqlalchemy import Connection, select

from exporter.database import upsert
from exporter.tables import deployments, new_classes, versions

LONGEST = 100  # characters of a name
MOST = 100  # names of one model that wait to be learnt
FORGOTTEN_S = 30 * 86_400.0  # a name that has not come for so long no longer counts among them
_ALIKE = 0.8  # share of common letters from which a known label is offered instead


@dataclass(slots=True)
class Waiting:
    """Names of one model that are not learnt yet; `fresh` are the rows of this call."""

    names: set[str]
    fresh: Counter[str] = field(default_factory=Counter)

    def problem(self, label: str) -> str | None:
        """Why `label` cannot be a new class, None where it can."""
        if not is_sane(label):
            return f"A label is 1 to {LONGEST} printable characters without spaces around them, and no list."
        if label not in self.names and len(self.names) >= MOST:
            return f"{MOST} new labels wait to be learnt already: is this field really a class?"
        return None

    def add(self, label: str) -> None:
        """Count one stored row."""
        self.names.add(label)
        self.fresh[label] += 1


def is_sane(label: str) -> bool:
    """Whether a name can be a class.

    >>> is_sane("lost card"), is_sane(" lost card"), is_sane("lost\\ncard"), is_sane("")
    (True, False, False, False)
    """
    plain = label == label.strip() and label.isprintable() and not label.startswith(("[", "{"))
    return plain and 0 < len(label) <= LONGEST


def told(label: str, known: Iterable[str]) -> str:
    """What a client is told of a stored row with a new label.

    >>> told("bankng", ["banking", "travel"])
    "'bankng' is a new label: it is learnt once enough rows have it. Did you mean 'banking'?"
    """
    alike = get_close_matches(label, known, n=1, cutoff=_ALIKE)
    meant = f" Did you mean {alike[0]!r}?" if alike else ""
    return f"{label!r} is a new label: it is learnt once enough rows have it.{meant}"


def read_waiting(connection: Connection, model: str, now: float) -> Waiting:
    """The names of `model` that came lately and that its champion does not know."""
    lately = select(new_classes.c.label).where(
        new_classes.c.model == model, new_classes.c.last_at > now - FORGOTTEN_S
    )
    return Waiting(set(connection.scalars(lately)) - champion_labels(connection, model))


def champion_labels(connection: Connection, model: str) -> frozenset[str]:
    """The label set of the version that serves, empty where none does."""
    query = select(versions.c.manifest).join(
        deployments,
        (deployments.c.model == versions.c.model) & (deployments.c.champion == versions.c.version),
    )
    manifest = connection.scalar(query.where(versions.c.model == model))
    return frozenset((manifest or {}).get("labels", ()))


def write_waiting(connection: Connection, model: str, waiting: Waiting, now: float) -> None:
    """Add the rows of this call to what is known of their names."""
    statement = upsert(new_classes, connection.dialect.name)
    counted = statement.on_conflict_do_update(
        index_elements=["model", "label"],
        set_={"rows": new_classes.c.rows + statement.excluded.rows, "last_at": statement.excluded.last_at},
    )
    rows = [
        {"model": model, "label": label, "rows": count, "first_at": now, "last_at": now}
        for label, count in sorted(waiting.fresh.items())
    ]
    if rows:
        connection.execute(counted, rows)


def read_names(connection: Connection, model: str) -> Sequence[tuple[str, int]]:
    """(name, rows) of every name that the champion of `model` does not know, the most frequent first."""
    query = select(new_classes.c.label, new_classes.c.rows).where(new_classes.c.model == model)
    known = champion_labels(connection, model)
    found = [(label, rows) for label, rows in connection.execute(query) if label not in known]
    return sorted(found, key=lambda row: (-row[1], row[0]))
