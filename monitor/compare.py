"""Champion and challenger on the same rows, as the exporter's engine answered them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select

from exporter import registry
from exporter.settings import Device, Precision
from exporter.tables import predictions, reference
from monitor.compare_answers import compare_answers
from monitor.compose import Pairing
from monitor.verdict import (
    SCORE_DIGITS,
    Comparison,
    CrossfitRows,
    PairedRow,
    Said,
    frequent,
    measure,
    names,
)
from trainer.artifact import Version, open_version
from trainer.crossfit import FOLDS, read_unseen
from trainer.decoder.sealed import generates
from trainer.duplicates import repeated
from trainer.rows import read_snapshot
from trainer.tagging import TASK as TAGGING
from trainer.tasks import load

_CHUNK = 500  # ids of one query


@dataclass(frozen=True, slots=True)
class Answered:
    """One model's answer as it was kept. `scores` in its manifest's order of labels."""

    label: str
    scores: Sequence[float]
    truth: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    score: float = 0.0  # of the label


def compare(
    db: Engine,
    home: Path,
    model: str,
    version: str,
    pairing: Pairing,
    *,
    threads: int,
    device: Device = "cpu",
    precision: Precision = "auto",
) -> Comparison:
    """Pair the answers to every labelled row that does not nearly repeat a training row.

    The champion's answers to recent and to cross-fitted rows are those that clients got. Also measures
    what an answer costs: some seconds. Raises VersionRefusedError, DataError.
    """
    if generates(registry.version_path(db, model, version)):
        return compare_answers(db, home, model, version, pairing)
    champion, challenger = (
        open_version(registry.version_path(db, model, name)) for name in (pairing.parent, version)
    )
    texts = [row.text for row in challenger.holdout]
    snapshot = home / "data" / f"{challenger.manifest.data.sha256}.parquet"
    trained = [row.text for row in read_snapshot(snapshot)]
    learnt = repeated(texts, trained)
    known = _champions(db, model, pairing)
    served = _recorded(db, pairing.judged_ids)
    common = set(frequent(one.metadata for one in (*(one for _, one in known.values()), *served.values())))
    crossed = _crossfitted(pairing, served, trained, champion, common)
    answered = {
        row: (*known[row], one)
        for row, one in _replayed(db, model, version).items()
        if row in known and one.truth is not None
    }
    pairs = {
        row: _pair(key, one, other, (champion, challenger), common)
        for row, (key, one, other) in answered.items()
        if row not in learnt
    }
    recent = [one for row, one in pairs.items() if row >= pairing.base_rows]
    base = [one for row, one in pairs.items() if row < pairing.base_rows]
    left_out = [key for row, (key, _, _) in answered.items() if row in learnt]
    return Comparison(
        recent=(*recent, *crossed.recent),
        base=(*base, *crossed.old),
        cost=measure(champion, challenger, texts, threads=threads, device=device, precision=precision),
        left_out=(*left_out, *crossed.left_out),
        crossfit=CrossfitRows(folds=FOLDS, recent=len(crossed.recent), base=len(crossed.old))
        if pairing.unseen is not None
        else None,
    )


@dataclass(frozen=True, slots=True)
class _Crossed:
    """The cross-fitted rows, by part, and the keys of those that repeat a row that is always learnt."""

    old: Sequence[PairedRow] = ()
    recent: Sequence[PairedRow] = ()
    left_out: Sequence[str] = ()


def _crossfitted(
    pairing: Pairing, served: dict[str, Answered], trained: Sequence[str], champion: Version, common: set[str]
) -> _Crossed:
    if pairing.unseen is None:
        return _Crossed()
    answers = [one for one in read_unseen(Path(pairing.unseen)) if pairing.judged_ids[one.row] in served]
    texts = [served[pairing.judged_ids[one.row]].text for one in answers]
    among = set(texts)
    echoes = repeated(texts, (text for text in trained if text not in among))
    old: list[PairedRow] = []
    recent: list[PairedRow] = []
    left_out: list[str] = []
    for place, one in enumerate(answers):
        key = pairing.judged_ids[one.row]
        if place in echoes:
            left_out.append(key)
            continue
        first = served[key]
        row = PairedRow(
            key=key,
            truth=one.truth,
            champion=_said(first, one.truth, champion),
            challenger=Said(
                right=one.label == one.truth,
                score=round(one.score, SCORE_DIGITS),
                truth_score=round(one.truth_score, SCORE_DIGITS),
                label=one.label,
            ),
            slices=_slices(first, common),
        )
        (old if one.row < pairing.judged_old else recent).append(row)
    return _Crossed(old, recent, left_out)


def _champions(db: Engine, model: str, pairing: Pairing) -> dict[int, tuple[str, Answered]]:
    """Key and answer of the champion, by row of the challenger's hold-out."""
    old, recorded = _replayed(db, model, pairing.parent), _recorded(db, pairing.recent_ids)
    base = {row: (str(row), old[row]) for row in range(pairing.base_rows) if row in old}
    recent = enumerate(pairing.recent_ids, pairing.base_rows)
    return base | {row: (id_, recorded[id_]) for row, id_ in recent if id_ in recorded}


def _pair(
    key: str, champion: Answered, challenger: Answered, versions: tuple[Version, Version], common: set[str]
) -> PairedRow:
    truth = str(challenger.truth)
    return PairedRow(
        key=key,
        truth=truth,
        champion=_said(champion, truth, versions[0]),
        challenger=_said(challenger, truth, versions[1]),
        slices=_slices(champion, common),
    )


def _slices(answer: Answered, common: set[str]) -> tuple[str, ...]:
    return tuple(name for name in names(answer.metadata) if name in common)


def _said(answer: Answered, truth: str, version: Version) -> Said:
    labels, probability = version.manifest.labels, load(version.manifest.task).probability
    if version.manifest.task == TAGGING:  # whose scores are of kinds of entities, not of a label
        right, score = answer.label == truth, round(answer.score, SCORE_DIGITS)
        return Said(right=right, score=score, truth_score=score if right else 1 - score, label=answer.label)
    return Said(
        right=answer.label == truth,
        score=round(probability(answer.label, answer.scores, labels), SCORE_DIGITS),
        truth_score=round(probability(truth, answer.scores, labels), SCORE_DIGITS),
        label=answer.label,
    )


def _replayed(db: Engine, model: str, version: str) -> dict[int, Answered]:
    """Answers to a version's own hold-out, by row."""
    columns = tuple(reference.c[name] for name in ("row", "label", "scores", "truth", "score"))
    statement = (
        select(*columns)
        .where(reference.c.model == model, reference.c.version == version)
        .order_by(reference.c.row)
    )
    with db.connect() as connection:
        return {
            row: Answered(label, scores, truth, score=score)
            for row, label, scores, truth, score in connection.execute(statement)
        }


def _recorded(db: Engine, ids: Sequence[str]) -> dict[str, Answered]:
    """What was answered to a client, by prediction id."""
    c = predictions.c
    columns = (c.id, c.label, c.scores, c.metadata, c.text, c.score)
    found: dict[str, Answered] = {}
    with db.connect() as connection:
        for start in range(0, len(ids), _CHUNK):
            statement = select(*columns).where(predictions.c.id.in_(ids[start : start + _CHUNK]))
            found |= {
                id_: Answered(label, scores, None, metadata, text or "", score)
                for id_, label, scores, metadata, text, score in connection.execute(statement)
            }
    return found
