"""Champion and challenger of a language model on the same prompts: whose answer is the reference answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select

from exporter import registry
from exporter.tables import predictions
from monitor.compose import Pairing
from monitor.verdict import Comparison, Cost, PairedRow, Said, frequent, names
from trainer.decoder.sealed import ANSWERS, PARENTS_ANSWERS, DecoderVersion, open_decoder
from trainer.duplicates import repeated
from trainer.generation.answers import read_answers
from trainer.generation.metrics import exact_match
from trainer.rows import read_holdout, read_snapshot

_CHUNK = 500  # ids of one query
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
    are sealed with the challenger: nothing is generated here. Raises VersionRefusedError, DataError.
    """
    champion, challenger = (
        open_decoder(registry.version_path(db, model, name)) for name in (pairing.parent, version)
    )
    holdout = read_holdout(challenger.path / "holdout.parquet")
    trained = read_snapshot(home / "data" / f"{challenger.manifest.data.sha256}.parquet")
    learnt = repeated([row.text for row in holdout], [row.text for row in trained])
    old = _sealed_answers(champion)
    known = {row: _Answered(str(row), old[row]) for row in range(pairing.base_rows) if row in old}
    known |= _recent(db, challenger, pairing)
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


def _sealed_answers(version: DecoderVersion, file: str = ANSWERS) -> Mapping[int, str]:
    if file not in version.files:
        return {}
    return {row: said.text for row, said in read_answers(version.files[file]).items()}


def _recent(db: Engine, version: DecoderVersion, pairing: Pairing) -> dict[int, _Answered]:
    """The champion's answers to what is new, asked by the trainer as the challenger was."""
    said = _sealed_answers(version, PARENTS_ANSWERS)
    rows = {row: id_ for row, id_ in enumerate(pairing.recent_ids, pairing.base_rows) if row in said}
    known = _metadata(db, list(rows.values()))
    return {row: _Answered(id_, said[row], known.get(id_, {})) for row, id_ in rows.items()}


def _metadata(db: Engine, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    query = select(predictions.c.id, predictions.c.metadata)
    found: dict[str, dict[str, Any]] = {}
    with db.connect() as connection:
        for start in range(0, len(ids), _CHUNK):
            part = connection.execute(query.where(predictions.c.id.in_(ids[start : start + _CHUNK])))
            found.update((id_, metadata) for id_, metadata in part)
    return found
