"""Champion and challenger of a language model on the same prompts: whose answer is the reference answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select

from exporter import registry
from exporter.tables import generations, predictions
from monitor.compose import Pairing
from monitor.verdict import Comparison, Cost, PairedRow, Said, frequent, names
from trainer.decoder.sealed import ANSWERS, DecoderVersion, open_decoder
from trainer.duplicates import repeated
from trainer.generation.answers import read_answers
from trainer.generation.metrics import exact_match
from trainer.rows import read_holdout, read_snapshot

_CHUNK = 500  # ids of one query
_WHOLE = ("stop", "length")  # of the others the client or the engine went away in the middle
_SURE = 1.0  # the probability of an answer's tokens does not say how often it is right: nothing is claimed


@dataclass(frozen=True, slots=True)
class _Answered:
    """The champion's answer to one row of the challenger's hold-out."""

    key: str  # prediction id, or row number
    answer: str
    metadata: dict[str, Any] = field(default_factory=dict)


def compare_answers(db: Engine, home: Path, model: str, version: str, pairing: Pairing) -> Comparison:
    """Pair the answers to every prompt with a reference that does not nearly repeat a training row.

    Both answered their own hold-outs before they were sealed, and the champion's answers to recent prompts
    are those that clients got: nothing is generated here. Raises VersionRefusedError, DataError.
    """
    champion, challenger = (
        open_decoder(registry.version_path(db, model, name)) for name in (pairing.parent, version)
    )
    holdout = read_holdout(challenger.path / "holdout.parquet")
    trained = read_snapshot(home / "data" / f"{challenger.manifest.data.sha256}.parquet")
    learnt = repeated([row.text for row in holdout], [row.text for row in trained])
    old = _sealed_answers(champion)
    known = {row: _Answered(str(row), old[row]) for row in range(pairing.base_rows) if row in old}
    known |= _recorded(db, pairing)
    common = set(frequent(one.metadata for one in known.values()))
    paired: dict[int, PairedRow] = {}
    left_out: list[str] = []
    for row, answer in sorted(_sealed_answers(challenger).items()):
        truth = holdout[row].label
        if row not in known or truth is None:
            continue
        if row in learnt:
            left_out.append(known[row].key)
            continue
        paired[row] = PairedRow(
            key=known[row].key,
            truth=truth,
            champion=_said(known[row].answer, truth),
            challenger=_said(answer, truth),
            slices=tuple(name for name in names(known[row].metadata) if name in common),
        )
    return Comparison(
        recent=tuple(pair for row, pair in paired.items() if row >= pairing.base_rows),
        base=tuple(pair for row, pair in paired.items() if row < pairing.base_rows),
        cost=Cost(champion_bytes=champion.size, challenger_bytes=challenger.size),
        left_out=tuple(left_out),
    )


def _said(answer: str, truth: str) -> Said:
    right = bool(exact_match(answer, truth))
    return Said(right=right, score=_SURE, truth_score=_SURE if right else 0.0, label=answer)


def _sealed_answers(version: DecoderVersion) -> Mapping[int, str]:
    if ANSWERS not in version.files:
        return {}
    return {row: said.text for row, said in read_answers(version.files[ANSWERS]).items()}


def _recorded(db: Engine, pairing: Pairing) -> dict[int, _Answered]:
    """What clients got whole and was kept, by row of the challenger's hold-out."""
    places = {id_: row for row, id_ in enumerate(pairing.recent_ids, pairing.base_rows)}
    query = (
        select(predictions.c.id, predictions.c.metadata, generations.c.answer)
        .join(generations, generations.c.prediction_id == predictions.c.id)
        .where(generations.c.finish_reason.in_(_WHOLE))
    )
    found: dict[int, _Answered] = {}
    with db.connect() as connection:
        for ids in _chunks(pairing.recent_ids):
            for id_, metadata, answer in connection.execute(query.where(predictions.c.id.in_(ids))):
                if answer is not None:
                    found[places[id_]] = _Answered(id_, answer, metadata)
    return found


def _chunks(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK)]
