from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread

import pytest
from sqlalchemy import Engine, func, select

from exporter.engines import open_engine
from exporter.errors import (
    ChampionError,
    ModelNameError,
    NothingToRollBackError,
    RejectedVersionError,
    UnknownModelError,
    UnknownVersionError,
)
from exporter.registry import (
    champion,
    list_versions,
    models,
    promote,
    register,
    reject,
    rollback,
    version_path,
)
from exporter.tables import deployment_events, deployments, reference, versions
from tests.exporter.conftest import deploy
from tests.exporter.versions import build_version
from trainer.artifact import open_version
from trainer.errors import VersionRefusedError


def flip_a_byte(version: Path) -> None:
    content = bytearray((version / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (version / "model.onnx").write_bytes(content)


def symbolic_link(version: Path) -> None:
    (version / "tokenizer.json").rename(version.parent / "outside.json")
    (version / "tokenizer.json").symlink_to(version.parent / "outside.json")


def hard_link(version: Path) -> None:
    os.link(version / "model.onnx", version.parent / "second-name.onnx")


def no_manifest(version: Path) -> None:
    (version / "manifest.json").unlink()


HARMS = [flip_a_byte, symbolic_link, hard_link, no_manifest]


def test_registering_replays_the_holdout_through_the_serving_engine(tmp_path: Path, db: Engine) -> None:
    built = build_version(tmp_path / "built", holdout_rows=9)
    assert register(db, tmp_path, built, threads=1, now=5.0) == "v1"
    (row,) = list_versions(db, "router")
    assert (row.state, row.serving, row.created_at) == ("candidate", False, 5.0)
    assert row.path == tmp_path / "versions" / "router" / "v1" == version_path(db, "router", "v1")
    version = open_version(row.path)
    answers = open_engine(version, threads=1).run([row.text for row in version.holdout])
    with db.connect() as connection:
        kept = connection.execute(select(reference).order_by(reference.c.row)).all()
    assert [tuple(row.scores) for row in kept] == [answer.scores for answer in answers]
    assert [row.in_reference for row in kept] == [row.in_reference for row in version.holdout]
    assert [row.truth for row in kept] == [row.label for row in version.holdout]


@pytest.mark.parametrize("harm", HARMS)
def test_a_harmed_directory_is_refused(
    tmp_path: Path, sqlite_db: Engine, harm: Callable[[Path], None]
) -> None:
    built = build_version(tmp_path / "built")
    harm(built)
    with pytest.raises(VersionRefusedError):
        register(sqlite_db, tmp_path, built, threads=1, now=0.0)
    assert models(sqlite_db) == []


def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, sqlite_db: Engine) -> None:
    built = build_version(tmp_path / "built", model="../../etc")
    with pytest.raises(ModelNameError):
        register(sqlite_db, tmp_path, built, threads=1, now=0.0)


def test_registering_again_gives_the_same_version(tmp_path: Path, sqlite_db: Engine) -> None:
    built = build_version(tmp_path / "built")
    assert register(sqlite_db, tmp_path, built, threads=1, now=0.0) == "v1"
    assert register(sqlite_db, tmp_path, built, threads=1, now=9.0) == "v1"
    assert register(sqlite_db, tmp_path, build_version(tmp_path / "b2", seed=1), threads=1, now=9.0) == "v2"


def test_what_crashed_registrations_left_is_replaced_and_swept(tmp_path: Path, sqlite_db: Engine) -> None:
    orphan = tmp_path / "versions" / "router" / "v1"
    orphan.mkdir(parents=True)
    staged = tmp_path / "versions" / ".staging" / "old"
    staged.mkdir(parents=True)
    os.utime(staged, (0, 0))
    built = build_version(tmp_path / "built")
    assert register(sqlite_db, tmp_path, built, threads=1, now=1e6) == "v1"
    assert open_version(orphan).manifest.model == "router"
    assert not staged.exists()


def test_the_source_may_go_after_registering(tmp_path: Path, sqlite_db: Engine) -> None:
    built = build_version(tmp_path / "built")
    register(sqlite_db, tmp_path, built, threads=1, now=0.0)
    shutil.rmtree(built)
    assert open_version(version_path(sqlite_db, "router", "v1")).manifest.model == "router"


def three_versions(db: Engine, folder: Path) -> None:
    for seed in range(3):
        built = build_version(folder / f"b{seed}", seed=seed)
        register(db, folder, built, threads=1, now=float(seed))


def change(db: Engine, version: str, expected: str | None) -> bool:
    return promote(db, "router", version, expected=expected, reason="r", actor="a")


def states(db: Engine) -> dict[str, str]:
    with db.connect() as connection:
        return dict(connection.execute(select(versions.c.version, versions.c.state)).all())


def test_promotion_compares_before_it_sets(tmp_path: Path, db: Engine) -> None:
    three_versions(db, tmp_path)
    assert champion(db, "router") is None
    assert not change(db, "v2", expected="v1")
    assert change(db, "v1", expected=None)
    assert not change(db, "v2", expected=None)
    assert change(db, "v2", expected="v1")
    assert change(db, "v2", expected="v2")
    assert states(db) == {"v1": "retired", "v2": "champion", "v3": "candidate"}
    with db.connect() as connection:
        row = connection.execute(select(deployments)).one()
        events = connection.scalar(select(func.count()).select_from(deployment_events))
    assert (row.champion, row.previous, row.revision, events) == ("v2", "v1", 2, 2)


def test_one_of_many_promotions_at_once_wins(tmp_path: Path, db: Engine) -> None:
    three_versions(db, tmp_path)
    change(db, "v1", expected=None)
    together, won = Barrier(2), []

    def attempt(version: str) -> None:
        together.wait()
        won.append(change(db, version, expected="v1"))

    threads = [Thread(target=attempt, args=(version,)) for version in ("v2", "v3")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [False, True]
    assert sorted(states(db).values()) == ["candidate", "champion", "retired"]


def test_promotion_in_a_callers_transaction_goes_with_it(tmp_path: Path, db: Engine) -> None:
    three_versions(db, tmp_path)
    with db.connect() as connection, connection.begin() as transaction:
        assert promote(db, "router", "v1", expected=None, reason="r", actor="a", connection=connection)
        transaction.rollback()
    assert champion(db, "router") is None


def test_rolling_back_goes_one_version_back_and_never_forth(tmp_path: Path, db: Engine) -> None:
    three_versions(db, tmp_path)
    with pytest.raises(NothingToRollBackError):
        rollback(db, "router", reason="r", actor="a")
    change(db, "v1", expected=None)
    change(db, "v2", expected="v1")
    assert rollback(db, "router", reason="r", actor="a") == "v1"
    assert states(db) == {"v1": "champion", "v2": "retired", "v3": "candidate"}
    with pytest.raises(NothingToRollBackError):
        rollback(db, "router", reason="r", actor="a")


def test_a_rejected_version_is_never_promoted_and_a_champion_never_rejected(
    tmp_path: Path, sqlite_db: Engine
) -> None:
    three_versions(sqlite_db, tmp_path)
    change(sqlite_db, "v1", expected=None)
    reject(sqlite_db, "router", "v2")
    with pytest.raises(RejectedVersionError):
        change(sqlite_db, "v2", expected="v1")
    with pytest.raises(ChampionError):
        reject(sqlite_db, "router", "v1")


def test_unknown_names_are_said(tmp_path: Path, sqlite_db: Engine) -> None:
    deploy(sqlite_db, tmp_path, build_version(tmp_path / "built"))
    with pytest.raises(UnknownVersionError, match="'v9'"):
        change(sqlite_db, "v9", expected="v1")
    with pytest.raises(UnknownModelError, match="'nobody'"):
        version_path(sqlite_db, "nobody", "v1")
