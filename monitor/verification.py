"""Was every verdict what its record says, and is every version what was sealed? Read-only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, RowMapping, select

from exporter import registry
from monitor.canary import judge_canary
from monitor.records import GENESIS, read_chain, record_hash
from monitor.tables import jobs
from monitor.verdict import RULES, Comparison, judge
from trainer.decoder.sealed import open_sealed
from trainer.errors import VersionRefusedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found for one model. No problems: the chain holds, and every verdict comes out again."""

    model: str
    records: int
    versions: int
    head: str | None  # hash of the newest record: note it elsewhere to catch a chain written anew
    problems: tuple[str, ...]


def verify(db: Engine, model: str) -> Verification:
    """Walk the chain, judge each record again, compare with the jobs, hash every sealed directory."""
    with db.connect() as connection:
        chain = read_chain(connection, model)
        kept = connection.execute(
            select(jobs.c.id, jobs.c.verdict).where(jobs.c.model == model, jobs.c.state == "done")
        ).all()
    registered = {row.version: row for row in registry.list_versions(db, model)}
    seals = {name: row.manifest_sha256 for name, row in registered.items()}
    problems = [
        *_links(chain),
        *(f"{_name(row)} {problem}" for row in chain for problem in _judged_again(row, seals)),
        *_missing(chain, [(job, verdict) for job, verdict in kept]),
        *(problem for row in registered.values() for problem in _seal(row)),
    ]
    return Verification(
        model=model,
        records=len(chain),
        versions=len(registered),
        head=chain[-1]["hash"] if chain else None,
        problems=tuple(problems),
    )


def _links(chain: Sequence[RowMapping]) -> Iterator[str]:
    """Rows that were changed, or whose neighbour was changed, added or removed."""
    previous = GENESIS
    for row in chain:
        if row["previous_hash"] != previous:
            yield f"{_name(row)} does not follow the record before it: one was changed, added or removed."
        if record_hash(row["previous_hash"], row["record"]) != row["hash"]:
            yield f"{_name(row)} is not what was hashed: it was changed."
        differing = [
            name
            for name in ("model", "version", "parent", "job", "at")
            if row[name] != row["record"].get(name)
        ]
        if differing:
            yield f"{_name(row)} differs from its own columns: {', '.join(differing)}."
        previous = row["hash"]


def _judged_again(row: RowMapping, seals: dict[str, str]) -> Iterator[str]:
    record = row["record"]
    if record.get("rules") != RULES:
        yield f"was judged by rules {record.get('rules')}, this release has {RULES}: use that release."
        return
    try:
        if record.get("kind") == "trial":
            yield from _tried_again(record)
            return
        comparison = Comparison.from_json(record["comparison"])
        verdict = judge(record["intent"], comparison, margin=record["settings"]["margin"])
        written, outcome, sealed = record["verdict"], record["outcome"], record["sealed"]
        if written["promote"] != verdict.promote or not same(written["numbers"], verdict.numbers):
            said, found = _word(written["promote"]), _word(verdict.promote)
            yield f"says {said}, but its rows say {found}, or other numbers."
        elif (outcome == "refused") == verdict.promote:
            yield f"says that the challenger was {outcome}, but its verdict is {_word(verdict.promote)}."
        for name, entry in sealed.items():
            if seals.get(name) != entry["manifest_sha256"]:
                yield f"judged another {name} than the registered one."
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        yield f"cannot be judged again: {type(error).__name__} {error}."


def _tried_again(record: dict[str, Any]) -> Iterator[str]:
    decision = judge_canary(record["gains"], (), margin=record["margin"], alpha=record["alpha"])
    if decision.action != record["action"]:
        yield f"says {record['action']!r}, but its rows say {decision.action!r}."
    endings = {"promote": "promoted", "roll back": "rolled back", "go on": "not proven in time"}
    if endings[record["action"]] != record["outcome"]:
        yield f"says that the challenger was {record['outcome']}, but its trial said {record['action']!r}."


def _missing(chain: Sequence[RowMapping], kept: Sequence[tuple[int, dict[str, Any] | None]]) -> Iterator[str]:
    """Jobs that remember a record which is not there."""
    there = {row["hash"] for row in chain}
    for job, verdict in kept:
        digest = (verdict or {}).get("record")
        if digest is not None and digest not in there:
            yield f"Job {job} wrote record {str(digest)[:12]}…, which is missing or was changed."


def _seal(row: registry.VersionRow) -> Iterator[str]:
    try:
        found = open_sealed(row.path).manifest_sha256
    except VersionRefusedError as refused:
        yield str(refused)
        return
    if found != row.manifest_sha256:
        yield f"{row.path}: its manifest.json is not the registered one."


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values agree, numbers to nine digits: another machine's logarithms end otherwise.

    >>> same({"p": [0.1 + 0.2, None]}, {"p": [0.3, None]}), same({"p": 1}, {"p": 2})
    (True, False)
    """
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return bool(one == other)


def _name(row: RowMapping) -> str:
    return f"Record {row['id']} ({row['model']} {row['version']})"


def _word(promote: bool) -> str:
    return "promote" if promote else "refuse"
