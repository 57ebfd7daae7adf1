from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, delete, select, update

from exporter import registry
from exporter.registry import promote, register
from monitor import jobs
from monitor.commands import Context, models
from monitor.config import Settings
from monitor.promotion import act
from monitor.records import GENESIS, Case, record_hash
from monitor.settings import ModelSettings
from monitor.tables import jobs as jobs_table
from monitor.tables import verdicts
from monitor.verdict import Comparison, Cost, PairedRow, Said, judge
from monitor.verification import verify
from tests.exporter.versions import build_version

SETTINGS = ModelSettings(margin=0.05)


def rows(n: int, *, won: float, lost: float, seed: int) -> tuple[PairedRow, ...]:
    lots = random.Random(seed)
    made = []
    for number in range(n):
        lot = lots.random()
        said = [
            Said(right, round(lots.uniform(0.7, 1), 4), 0.3, "yes" if right else "no")
            for right in (lot >= won, lot < 1 - lost)
        ]
        made.append(
            PairedRow(
                key=f"p{number}", truth="yes", champion=said[0], challenger=said[1], slices=("way=mail",)
            )
        )
    return tuple(made)


BETTER = Comparison(
    recent=rows(200, won=0.2, lost=0.01, seed=1),
    base=rows(300, won=0.01, lost=0.0, seed=2),
    cost=Cost(texts=3, champion_ms=(1.0,), challenger_ms=(1.1,), champion_bytes=9, challenger_bytes=9),
    left_out=("7", "p300"),
)
WORSE = replace(BETTER, recent=rows(200, won=0.0, lost=0.2, seed=3))


@dataclass(slots=True)
class Desk:
    """A model with a champion; each trial judges one more challenger."""

    db: Engine
    home: Path

    def version(self, seed: int) -> str:
        folder = build_version(self.home / f"built{seed}", seed=seed)
        return register(self.db, self.home, folder, threads=1, now=1.7e9)

    def trial(self, seed: int, comparison: Comparison) -> dict[str, Any]:
        parent = registry.champion(self.db, "router")
        assert parent is not None
        return act(self.db, self.case(seed, parent, comparison), now=None)

    def case(self, seed: int, parent: str, comparison: Comparison) -> Case:
        version = self.version(seed)
        with self.db.begin() as connection:
            jobs.enqueue(connection, "router", trigger="manual", dedupe_key=str(seed), base_version=parent)
        job = jobs.claim(self.db, "test", lease_s=60)
        assert job is not None
        return Case(
            job=job,
            version=version,
            parent=parent,
            intent="drift",
            comparison=comparison,
            verdict=judge("drift", comparison, margin=SETTINGS.margin),
            settings=SETTINGS,
            labels_used=250,
            at=1.7e9 + 0.1 * seed,
        )

    def problems(self) -> tuple[str, ...]:
        return verify(self.db, "router").problems

    def change(self, id_: int, **columns: Any) -> None:
        with self.db.begin() as connection:
            connection.execute(update(verdicts).where(verdicts.c.id == id_).values(**columns))

    def chain(self) -> list[Any]:
        with self.db.connect() as connection:
            return list(connection.execute(select(verdicts).order_by(verdicts.c.id)).all())


@pytest.fixture
def desk(db: Engine, tmp_path: Path) -> Desk:
    """v1 serves; v2 was refused, v3 promoted, v4 refused: three records on each kind of database."""
    desk = Desk(db, tmp_path)
    assert promote(db, "router", desk.version(0), expected=None, reason="first", actor="test")
    kept = [desk.trial(1, WORSE), desk.trial(2, BETTER), desk.trial(3, WORSE)]
    assert [one["promote"] for one in kept] == [False, True, False]
    return desk


def test_every_verdict_leaves_one_record_that_comes_out_again(desk: Desk) -> None:
    found = verify(desk.db, "router")
    assert found.problems == ()
    assert (found.records, found.versions) == (3, 4)
    chain = desk.chain()
    assert [row.version for row in chain] == ["v2", "v3", "v4"]
    assert [row.record["outcome"] for row in chain] == ["refused", "promoted", "refused"]
    assert chain[0].previous_hash == GENESIS
    assert chain[-1].hash == found.head
    assert jobs.list_jobs(desk.db)[0].verdict is not None
    assert Comparison.from_json(chain[1].record["comparison"]) == BETTER
    assert chain[1].record["sealed"]["v3"]["seed"] == 2


def test_a_changed_row_of_evidence_is_found(desk: Desk) -> None:
    row = desk.chain()[1]
    record = json.loads(json.dumps(row.record))
    record["comparison"]["recent"][0][3][0] ^= 1
    desk.change(row.id, record=record)
    problems = desk.problems()
    assert any("was changed" in problem for problem in problems)
    assert any("or other numbers" in problem for problem in problems)


def test_a_rewritten_verdict_with_a_hash_that_fits_is_judged_again(desk: Desk) -> None:
    row = desk.chain()[2]
    record = row.record | {"outcome": "promoted", "verdict": row.record["verdict"] | {"promote": True}}
    desk.change(row.id, record=record, hash=record_hash(row.previous_hash, record))
    problems = desk.problems()
    assert any("says promote, but its rows say refuse" in problem for problem in problems)
    assert any("is missing or was changed" in problem for problem in problems)


@pytest.mark.parametrize(
    ("position", "said"), [(0, "does not follow"), (1, "does not follow"), (2, "is missing")]
)
def test_a_removed_record_is_found_wherever_it_was(desk: Desk, position: int, said: str) -> None:
    with desk.db.begin() as connection:
        connection.execute(delete(verdicts).where(verdicts.c.id == desk.chain()[position].id))
    assert any(said in problem for problem in desk.problems())


def test_a_changed_column_is_found(desk: Desk) -> None:
    desk.change(desk.chain()[1].id, at=1.8e9)
    assert desk.problems() == (f"Record {desk.chain()[1].id} (router v3) differs from its own columns: at.",)


def test_a_record_that_cannot_be_read_is_a_finding_and_not_a_crash(desk: Desk) -> None:
    row = desk.chain()[0]
    record = {name: value for name, value in row.record.items() if name != "comparison"}
    desk.change(row.id, record=record)
    assert any("cannot be judged again" in problem for problem in desk.problems())


def test_a_changed_byte_of_a_sealed_version_is_found(desk: Desk) -> None:
    file = registry.version_path(desk.db, "router", "v3") / "model.onnx"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(bytes(content))
    (problem,) = desk.problems()
    assert "model.onnx is not the file that was sealed" in problem


def test_a_champion_that_changed_meanwhile_is_recorded_as_overtaken(desk: Desk) -> None:
    case = desk.case(4, "v1", BETTER)  # v3 serves
    kept = act(desk.db, case, now=None)
    assert not kept["promote"]
    assert "no longer the champion" in kept["reasons"][-1]
    assert desk.chain()[-1].record["outcome"] == "overtaken"
    assert desk.problems() == ()


def test_an_attempt_that_was_replaced_writes_no_record(desk: Desk) -> None:
    case = desk.case(4, "v3", BETTER)
    with desk.db.begin() as connection:
        connection.execute(update(jobs_table).values(attempt=jobs_table.c.attempt + 1))
    with pytest.raises(jobs.JobLost):
        act(desk.db, case, now=None)
    assert len(desk.chain()) == 3
    assert registry.champion(desk.db, "router") == "v3"


def test_the_command_prints_what_it_finds_and_says_so_in_its_status(tmp_path: Path) -> None:
    context = Context(Settings(home=tmp_path), None)
    desk = Desk(context.db, tmp_path)
    assert promote(desk.db, "router", desk.version(0), expected=None, reason="first", actor="test")
    desk.trial(1, WORSE)
    clean = models.verify(context, name="router")
    assert (clean.status, clean.data["problems"]) == (0, 0)
    assert json.loads(json.dumps(clean.data))["models"][0]["head"] == desk.chain()[-1].hash
    desk.change(desk.chain()[0].id, job=99)
    found = models.verify(context, name=None)
    assert found.status == 1
    assert found.data["models"][0]["problems"] == found.view[2:]
    context.db.dispose()
