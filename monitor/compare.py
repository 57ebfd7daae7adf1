"""Champion and challenger on the same rows, as the exporter's engine answered them."""

from __future__ import annotations

from sqlalchemy import Engine, select

from exporter.tables import predictions, reference
from monitor.compose import Pairing
from monitor.verdict import Pairs, pair

_NO_PAIRS = Pairs(both=0, only_champion=0, only_challenger=0, neither=0)


def read_pairs(db: Engine, model: str, version: str, pairing: Pairing) -> tuple[Pairs, Pairs]:
    """Recent and base rows with a truth, answered by both: (recent, base)."""
    challenger = _answers(db, model, version)
    champion = _answers(db, model, pairing.parent)
    recorded = _recorded(db, pairing.recent_ids)
    base = [
        (champion[row][0] == truth, label == truth)
        for row, (label, truth) in challenger.items()
        if row < pairing.base_rows and truth is not None and row in champion
    ]
    recent = [
        (recorded[id_] == truth, label == truth)
        for row, id_ in enumerate(pairing.recent_ids, pairing.base_rows)
        for label, truth in (challenger[row],)
        if id_ in recorded and truth is not None
    ]
    return _pair(recent), _pair(base)


def _pair(rights: list[tuple[bool, bool]]) -> Pairs:
    return pair([one for one, _ in rights], [two for _, two in rights]) if rights else _NO_PAIRS


def _answers(db: Engine, model: str, version: str) -> dict[int, tuple[str, str | None]]:
    """(label, truth) of each hold-out row, as the exporter's engine answered it."""
    statement = select(reference.c.row, reference.c.label, reference.c.truth).where(
        reference.c.model == model, reference.c.version == version
    )
    with db.connect() as connection:
        return {row: (label, truth) for row, label, truth in connection.execute(statement)}


def _recorded(db: Engine, ids: tuple[str, ...]) -> dict[str, str]:
    """What was answered to a client, by prediction id."""
    found: dict[str, str] = {}
    with db.connect() as connection:
        for start in range(0, len(ids), 500):
            chunk = ids[start : start + 500]
            statement = select(predictions.c.id, predictions.c.label).where(predictions.c.id.in_(chunk))
            found |= {id_: label for id_, label in connection.execute(statement)}
    return found
