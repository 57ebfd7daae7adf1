"""The evidence record of a verdict: everything needed to judge again, chained by hashes per model.

A record is written in the transaction that promotes or rejects. Changing, adding or removing one later breaks
the chain, or differs from what the job kept; whoever may rewrite the whole database can only be caught by a
hash that was noted elsewhere (`trueup models verify` prints the newest).
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from sqlalchemy import Connection, RowMapping, insert, select

from exporter.database import lock_order
from exporter.tables import versions
from monitor.job import Job
from monitor.settings import ModelSettings
from monitor.tables import verdicts
from monitor.verdict import RULES, Comparison, Intent, Verdict

# overtaken: another champion came first; on trial: see rollout.py
Outcome = Literal["promoted", "refused", "overtaken", "on trial"]

GENESIS = "0" * 64  # before the first record
_ORDER = 7_301_004
_LIBRARIES = ("trueup", "numpy", "onnxruntime", "onnxruntime-gpu", "tokenizers", "sqlalchemy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One verdict and all that it rests on."""

    job: Job
    version: str  # the challenger
    parent: str  # the champion
    intent: Intent
    comparison: Comparison
    verdict: Verdict
    settings: ModelSettings
    labels_used: int  # to train and to prove
    at: float
    notes: tuple[str, ...] = ()  # for people, beside the verdict's reasons


def describe(connection: Connection, case: Case, outcome: Outcome) -> dict[str, Any]:
    """Put a case's record together; JSON-able."""
    return {
        "rules": RULES,
        "model": case.job.model,
        "version": case.version,
        "parent": case.parent,
        "job": case.job.id,
        "attempt": case.job.attempt,
        "labels_used": case.labels_used,
        "at": case.at,
        "intent": case.intent,
        "outcome": outcome,
        "settings": case.settings.model_dump(mode="json"),
        "sealed": _sealed(connection, case.job.model, (case.parent, case.version)),
        "comparison": case.comparison.to_json(),
        "verdict": {
            "promote": case.verdict.promote,
            "reasons": list(case.verdict.reasons),
            "numbers": case.verdict.numbers,
        },
        "libraries": _libraries(),
    }


def append(connection: Connection, record: dict[str, Any]) -> str:
    """Write a record after the newest one of its model and return its hash."""
    lock_order(connection, _ORDER)
    newest = select(verdicts.c.hash).where(verdicts.c.model == record["model"])
    previous = connection.scalar(newest.order_by(verdicts.c.id.desc()).limit(1)) or GENESIS
    digest = record_hash(previous, record)
    columns = {name: record[name] for name in ("model", "version", "parent", "job", "at")}
    connection.execute(insert(verdicts).values(**columns, record=record, previous_hash=previous, hash=digest))
    return digest


def read_chain(connection: Connection, model: str) -> Sequence[RowMapping]:
    """Rows of `verdicts`, oldest first."""
    return (
        connection.execute(select(verdicts).where(verdicts.c.model == model).order_by(verdicts.c.id))
        .mappings()
        .all()
    )


def record_hash(previous: str, record: dict[str, Any]) -> str:
    """Hash a record after `previous`: sha256 of its hash and the record with sorted keys and no spaces.

    >>> record_hash(GENESIS, {"b": 1, "a": 0.1}) == record_hash(GENESIS, {"a": 0.1, "b": 1})
    True
    """
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(f"{previous}\n{canonical}".encode()).hexdigest()


def _sealed(connection: Connection, model: str, names: Sequence[str]) -> dict[str, Any]:
    """By version: hash of the manifest, which holds those of all files, and what made it."""
    statement = select(versions.c.version, versions.c.manifest_sha256, versions.c.manifest).where(
        versions.c.model == model, versions.c.version.in_(names)
    )
    return {
        name: {
            "manifest_sha256": digest,
            "seed": manifest.get("seed"),
            "data": manifest.get("data"),
            "rung": manifest.get("rung"),
            "libraries": manifest.get("versions"),
        }
        for name, digest, manifest in connection.execute(statement)
    }


def _libraries() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
