"""What a retrain learns from and what proves it: rows, hold-out, and which answers are compared.

No row is judged by a model that learnt it. What is kept out of training goes by a hash of ids, the folds of
what is cross-fitted by one of texts: a retrain of the same labels is judged on the same rows, so that a
refused challenger cannot be tried until it is lucky.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, select
from sqlalchemy import Row as Found

from exporter import registry
from exporter.tables import labels, predictions, versions
from monitor.errors import MonitorError
from monitor.label_counts import readable_text
from monitor.proof import Crossfit, apart, build_holdout, held_out, judged, release, silent
from monitor.settings import ModelSettings
from monitor.stale import find_stale
from trainer.artifact import Manifest
from trainer.decoder import TASK as GENERATION
from trainer.rows import HoldoutRow, Row, fields_of, read_holdout, read_snapshot
from trainer.spec import FitTable, TrainSpec, load_spec
from trainer.tagging import TASK as TAGGING
from trainer.tasks import load

_NEWEST = 50_000  # labelled predictions that one retrain reads


class NothingNewError(MonitorError):
    """There is nothing to learn."""

    def __init__(self, model: str) -> None:
        super().__init__(
            f"No labelled prediction of {model!r} with its text is new since the champion was trained. "
            "Send labels (POST /v1/labels), and keep texts ([exporter] store_text)."
        )


class MissingSnapshotError(MonitorError):
    """The parent's training rows are gone."""

    def __init__(self, path: Path, version: str) -> None:
        super().__init__(
            f"{path} with the training rows of {version} is missing. Restore it, train from the spec, or say "
            "[fit] anchor = 1.0 and replay = 0.0 to retrain a head without them."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """Which rows of the challenger's hold-out the champion has answered too: row numbers begin at 0."""

    parent: str
    base_rows: int  # rows 0 … base_rows - 1 are the parent's hold-out, in its order
    recent_ids: tuple[str, ...]  # predictions of rows base_rows, base_rows + 1, …
    judged_ids: tuple[str, ...] = ()  # predictions of the cross-fitted rows
    judged_old: int = 0  # the first so many of them are from before the drift
    unseen: str | None = None  # file of the answers to them, below the job
    labels_used: int  # to train and to prove
    stale_rows: int = 0  # left out of both: what their label means has changed
    new_classes: tuple[str, ...] = ()  # that the parent does not know and the challenger learns
    rare: tuple[tuple[str, int], ...] = ()  # labels that the parent does not know, and their too few rows

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {"recent_ids": list(self.recent_ids), "judged_ids": list(self.judged_ids)}

    @staticmethod
    def from_json(state: dict[str, Any]) -> Pairing:
        """Back from `to_json`."""
        lists: dict[str, Any] = {
            "recent_ids": tuple(state["recent_ids"]),
            "judged_ids": tuple(state.get("judged_ids", ())),
            "new_classes": tuple(state.get("new_classes", ())),
            "rare": tuple((name, rows) for name, rows in state.get("rare", ())),
        }
        return Pairing(**state | lists)

    def notes(self, known: Collection[str]) -> tuple[str, ...]:
        """What a person should know of labels that the parent does not know.

        `known` are the labels of the sealed version: the data gate may drop the last rows of a class.
        """
        learnt = ", ".join(repr(name) for name in self.new_classes if name in known)
        few = ", ".join(f"{name!r} ({rows} rows)" for name, rows in self.rare)
        return tuple(
            [f"Learns new classes: {learnt}."] * bool(learnt)
            + [f"Left out, new labels with too few rows to learn (min_class_rows): {few}."] * bool(few)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """Everything that a retrain needs."""

    spec: TrainSpec
    rows: list[Row]
    holdout: list[HoldoutRow]
    pairing: Pairing
    known: list[tuple[str, bytes]]  # text and its embedding by the parent's encoder, for a head retrain
    judged: list[HoldoutRow] = field(default_factory=list)  # to be cross-fitted


def compose(
    db: Engine, home: Path, model: str, parent: str, settings: ModelSettings, *, since_seq: int
) -> Lesson:
    """Collect the rows; `since_seq` is where the drift began, in `predictions.seq`.

    Raises NothingNewError, MissingSnapshotError.
    """
    with db.connect() as connection:
        manifest = read_manifest(connection, model, parent)
        labelled = _labelled(connection, model)
        unlabelled = _unlabelled(connection, model, parent, since_seq, settings.reference_rows)
    held = read_holdout(registry.version_path(db, model, parent) / "holdout.parquet")
    spec = _spec(manifest, settings)
    slices = spec.data.slices or settings.slices
    old = _old(home / "data" / f"{manifest.data.sha256}.parquet", parent, spec.fit)
    seen = {row.text for row in old} | {row.text for row in held}
    fresh = [found for found in labelled if found.text not in seen]
    names = load(manifest.task).names
    named = _new_names([names(found.truth) for found in fresh], manifest.labels, settings.min_class_rows)
    fresh = [found for found in fresh if named.rare.keys().isdisjoint(names(found.truth))]
    recent = [found for found in fresh if found.version == parent and found.seq >= since_seq]
    earlier = [_row(found, slices) for found in fresh if found.seq < since_seq]
    # A new answer to a new kind of prompt looks like an old answer's new name: nothing is left out for that.
    # Entities differ between any two texts, however near: a new place is no new name.
    classes = manifest.task not in (GENERATION, TAGGING)
    stale = find_stale(db, model, parent, recent, [*old, *held, *earlier]) if classes else set()
    old = [row for row in old if row.text not in stale]
    held, released = release([replace(row, label=None) if row.text in stale else row for row in held])
    dropped = [found.text for found in fresh if found.text in stale]
    fresh = [found for found in fresh if found.text not in stale]
    recent = [found for found in recent if found.text not in stale]
    head = spec.fit.rung == "head" and manifest.task == "classification"  # whose rows teach and prove
    proof = apart(recent) if head else held_out(recent, settings.verdict_share)
    kept_out = ({row.text for row in held} | {found.text for found in proof}) - {row.text for row in released}
    new = [_row(found, slices) for found in fresh if found.text not in kept_out]
    if not new:
        raise NothingNewError(model)
    trained = {row.text for row in (*old, *released, *new)}
    quiet = [found.text for found in unlabelled if found.text not in trained | kept_out]
    rows = _learnable(names, [row for row in old if row.text not in kept_out] + released + new)
    taught = [found for found in fresh if found.version == parent and found.text not in kept_out]
    crossfit = judged(taught, since_seq) if head else Crossfit()
    return Lesson(
        spec=spec,
        rows=rows,
        holdout=build_holdout(held, proof, quiet, settings.reference_rows, slices) + silent(dropped),
        pairing=Pairing(
            parent=parent,
            base_rows=len(held),
            recent_ids=tuple(found.id for found in proof),
            judged_ids=tuple(found.id for found in (*crossfit.old, *crossfit.recent)),
            judged_old=len(crossfit.old),
            labels_used=len(new) + len(proof),
            stale_rows=len(stale),
            new_classes=tuple(sorted(named.learnt & {name for row in rows for name in names(row.label)})),
            rare=tuple(sorted(named.rare.items())),
        ),
        known=[
            (found.text, found.embedding)
            for found in fresh
            if spec.fit.rung == "head" and found.version == parent
        ],
        judged=crossfit.rows,
    )


def _old(snapshot: Path, parent: str, fit: FitTable) -> list[Row]:
    """The rows that the parent learnt; none where the spec says that none may be kept."""
    if fit.anchor > 0 and fit.replay == 0:
        return []
    if not snapshot.exists():
        raise MissingSnapshotError(snapshot, parent)
    return [replace(row, origin="base") for row in read_snapshot(snapshot)]


@dataclass(frozen=True, slots=True)
class _Names:
    """Labels that the parent does not know: to be learnt, or too rare to be more than a slip."""

    learnt: frozenset[str]
    rare: dict[str, int]


def _new_names(fresh: Sequence[Sequence[str]], known: Sequence[str], fewest: int) -> _Names:
    """Of the classes of each row. Rare rows stay out of training and of the hold-out, so that a later retrain
    may still learn them."""
    rows = Counter(name for named in fresh for name in named if name not in set(known))
    rare = {name: count for name, count in rows.items() if count < fewest}
    return _Names(frozenset(rows) - frozenset(rare), rare)


def _learnable(names: Callable[[str], list[str]], rows: list[Row]) -> list[Row]:
    """Without classes of a single row: nobody can learn them, and the trainer would refuse all the others."""
    counts = Counter(name for row in rows for name in names(row.label))
    return [row for row in rows if all(counts[name] > 1 for name in names(row.label))]


def _spec(manifest: Manifest, settings: ModelSettings) -> TrainSpec:
    spec = load_spec(settings.spec) if settings.spec else TrainSpec.model_validate(manifest.spec)
    changes: dict[str, Any] = {}
    if settings.retrain_rung != "same" and spec.model.task not in (GENERATION, TAGGING):
        changes["rung"] = settings.retrain_rung
    if settings.replay_rows is not None:
        changes["replay_rows"] = settings.replay_rows
    return spec.model_copy(update={"fit": spec.fit.model_copy(update=changes)})


def read_manifest(connection: Connection, model: str, version: str) -> Manifest:
    """The manifest of a registered version, as the database holds it."""
    statement = select(versions.c.manifest).where(versions.c.model == model, versions.c.version == version)
    return Manifest.model_validate(connection.execute(statement).scalar_one())


def _labelled(connection: Connection, model: str) -> list[Found[Any]]:
    """The newest labelled predictions with their text, oldest first."""
    statement = (
        select(
            predictions.c.seq,
            predictions.c.id,
            predictions.c.version,
            predictions.c.at,
            predictions.c.text,
            predictions.c.embedding,
            predictions.c.similarity,
            predictions.c.metadata,
            predictions.c.label.label("said"),
            labels.c.label.label("truth"),
        )
        .join(labels, labels.c.prediction_id == predictions.c.id)
        .where(predictions.c.model == model, readable_text())
        .order_by(predictions.c.seq.desc())
        .limit(_NEWEST)
    )
    newest_first: Sequence[Any] = connection.execute(statement).all()
    once: dict[str, Found[Any]] = {
        found.text: found for found in newest_first[::-1]
    }  # of a text that came twice the newest label
    return sorted(once.values(), key=lambda found: found.seq)


def _unlabelled(
    connection: Connection, model: str, version: str, since_seq: int, rows: int
) -> list[Found[Any]]:
    """The newest predictions without a label, newest first."""
    statement = (
        select(predictions.c.text)
        .outerjoin(labels, labels.c.prediction_id == predictions.c.id)
        .where(
            predictions.c.model == model,
            predictions.c.version == version,
            predictions.c.seq >= since_seq,
            readable_text(),
            labels.c.prediction_id.is_(None),
        )
        .order_by(predictions.c.seq.desc())
        .limit(rows)
    )
    return list(connection.execute(statement).all())


def _row(found: Found[Any], slices: Sequence[str]) -> Row:
    fields = fields_of(found.metadata, slices)
    return Row(text=found.text, label=found.truth, at=found.at, origin="traffic", fields=fields)


def write_pairing(pairing: Pairing, path: Path) -> None:
    """Keep the pairing beside the attempt's files."""
    path.write_text(json.dumps(pairing.to_json()), encoding="utf-8")


def read_pairing(path: Path) -> Pairing:
    """Read `write_pairing`'s file."""
    return Pairing.from_json(json.loads(path.read_text(encoding="utf-8")))
