from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, func, insert, select

from exporter.database import open_database, sqlite_url
from exporter.tables import deployments, labels
from monitor.errors import LabelCountError, NothingToLabelError
from monitor.migrate import upgrade
from monitor.quality import next_labels
from monitor.quality.buying import Shares, appeal, draw, novelty, probabilities, spread_order
from monitor.tables import label_requests
from tests.monitor.quality_rows import served, store, tell


def test_every_row_keeps_its_uniform_part_and_the_sum_is_the_budget() -> None:
    rng = np.random.default_rng(0)
    correct, new = rng.uniform(0.3, 1, 500), rng.exponential(size=500)
    found = probabilities(appeal(correct, new, Shares()).sum(axis=0), 50)
    assert found.sum() == pytest.approx(50)
    assert found.min() >= Shares().uniform * 50 / 500
    assert found.max() <= 1


def test_doubtful_and_unfamiliar_rows_are_likelier() -> None:
    found = appeal(np.array([0.5, 0.99, 0.99]), np.array([0.0, 0.0, 5.0]), Shares()).sum(axis=0)
    assert found[0] > found[1] < found[2]


def test_of_unfamiliar_rows_the_likely_wrong_are_likelier() -> None:
    drift = appeal(np.array([0.1, 0.9]), np.array([2.0, 2.0]), Shares())[2]
    assert drift[0] == pytest.approx(9 * drift[1])


@pytest.mark.parametrize(("correct", "new"), [(1.0, 0.0), (0.5, 0.0), (1.0, np.inf)])
def test_constant_rows_are_drawn_uniformly(correct: float, new: float) -> None:
    new_rows = novelty(np.full(40, np.nan), np.full(9, 0.5)) if np.isinf(new) else np.full(40, new)
    found = probabilities(appeal(np.full(40, correct), new_rows, Shares()).sum(axis=0), 10)
    np.testing.assert_allclose(found, 0.25)


def test_the_draw_keeps_its_probabilities() -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(60, 4))
    wanted = probabilities(rng.exponential(size=60), 12)
    counts = np.zeros(60)
    for _ in range(4000):
        taken = draw(wanted, spread_order(points, rng), rng)
        assert len(taken) == len(set(taken.tolist())) == 12
        counts[taken] += 1
    np.testing.assert_allclose(counts / 4000, wanted, atol=0.035)


def test_the_draw_spreads_over_the_embeddings() -> None:
    rng = np.random.default_rng(2)
    groups = np.repeat(np.eye(16) * 10, 25, axis=0) + rng.normal(size=(400, 16)) * 0.1
    spread = []
    for _ in range(40):
        taken = draw(np.full(400, 16 / 400), spread_order(groups, rng), rng)
        spread.append(len(set((taken // 25).tolist())))
    assert np.mean(spread) > 13  # 16 uniform rows hit 10.3 of 16 groups on average


def test_more_labels_than_rows_are_all_rows() -> None:
    found = probabilities(np.ones(5), 9)
    assert draw(found, np.arange(5), np.random.default_rng(3)).tolist() == [0, 1, 2, 3, 4]


def test_requests_are_stored_with_their_probability_and_never_drawn_twice(db: Engine) -> None:
    found, truth = served(np.random.default_rng(4), 300)
    ids = store(db, found)
    tell(db, ids, truth, np.arange(20), at=5.0)
    first = next_labels(db, "router", "v1", 40, 1, now=10.0)
    second = next_labels(db, "router", "v1", 40, 1, now=11.0)
    drawn = {one.id for one in first} | {one.id for one in second}
    assert len(drawn) == 80
    assert not drawn & set(ids[:20])
    with db.connect() as connection:
        kept = connection.execute(select(label_requests)).all()
    assert {row.prediction_id for row in kept} == drawn
    assert len({row.draw for row in kept}) == 2
    assert all(0 < row.probability <= 1 for row in kept)
    assert {one.strategy for one in first} == {"uniform", "uncertain", "drift"}
    assert first[0].text == "é \u2028 text"


def test_the_same_seed_draws_the_same_rows(tmp_path: Path) -> None:
    drawn = []
    for name in ("a", "b"):
        db = open_database(sqlite_url(tmp_path / name))
        upgrade(db)
        store(db, served(np.random.default_rng(5), 200)[0])
        drawn.append([one.id for one in next_labels(db, "router", "v1", 20, 7, now=1.0)])
        db.dispose()
    assert drawn[0] == drawn[1]


def test_nothing_left_and_a_silly_number_are_errors(db: Engine) -> None:
    store(db, served(np.random.default_rng(6), 10)[0])
    with pytest.raises(LabelCountError, match="1 or more"):
        next_labels(db, "router", "v1", 0, 1, now=1.0)
    assert len(next_labels(db, "router", "v1", 25, 1, now=1.0)) == 10
    with pytest.raises(NothingToLabelError, match="no recent prediction"):
        next_labels(db, "router", "v1", 5, 1, now=2.0)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_drawn_file_is_filled_in_and_handed_back(tmp_path: Path, kind: str) -> None:
    db = open_database(sqlite_url(tmp_path / ".trueup"))
    upgrade(db)
    store(db, served(np.random.default_rng(7), 60)[0])
    with db.begin() as connection:
        connection.execute(
            insert(deployments).values(model="router", champion="v1", revision=1, changed_at=0.0)
        )
    file = tmp_path / f"next.{kind}"
    asked = trueup("labels", "next", "12", "--out", file.name, "--seed", "3", "--json", folder=tmp_path)
    assert (asked["seed"], len(asked["requests"])) == (3, 12)
    fill(file, 10)
    told = trueup("labels", file.name, "--json", folder=tmp_path)
    assert (told["stored"], told["empty"], told["errors"]) == (10, 2, [])
    assert told["new_labels"] == {"brand new": 1}
    with db.connect() as connection:
        assert connection.execute(select(func.count()).select_from(labels)).scalar_one() == 10
    db.dispose()


def fill(file: Path, rows: int) -> None:
    """Write labels into the first rows, one of them new, as a person with an editor would."""
    if file.suffix == ".csv":
        with file.open(newline="", encoding="utf-8") as opened:
            found = list(csv.DictReader(opened))
    else:
        found = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]
    assert set(found[0]) == {"id", "text", "predicted", "label", "why"}
    assert {row["label"] for row in found} == {""}
    for number, row in enumerate(found[:rows]):
        row["label"] = "yes" if number else "brand new"
    with file.open("w", newline="", encoding="utf-8") as opened:
        if file.suffix == ".csv":
            writer = csv.DictWriter(opened, list(found[0]))
            writer.writeheader()
            writer.writerows(found)
        else:
            opened.writelines(json.dumps(row) + "\n" for row in found)


def trueup(*arguments: str, folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "monitor", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"NO_COLOR": "1", "TERM": "dumb"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))
