from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from exporter.deployed import Deployed, Fleet
from exporter.errors import ClientDeadlineError, EngineFailedError, UnknownModelError
from exporter.instruments import Instruments
from exporter.ledger import Ledger
from exporter.recording import Input
from exporter.registry import promote, register
from exporter.service import Service
from exporter.settings import ExporterSettings
from exporter.trials import start_trial
from exporter.waiting import Terms
from tests.exporter.versions import build_version

MODELS = ("a", "b", "c")


@pytest.fixture
def three(sqlite_db: Engine, tmp_path: Path) -> Engine:
    for name in MODELS:
        built = build_version(tmp_path / f"built-{name}", model=name)
        version = register(sqlite_db, tmp_path, built, threads=1, now=1.0)
        assert promote(sqlite_db, name, version, expected=None, reason="test", actor="test")
    return sqlite_db


@contextmanager
def running(db: Engine, home: Path, limit: int) -> Iterator[Service]:
    instruments = Instruments()
    fleet = Fleet(db, instruments, threads=1, poll_s=60, memory_limit=limit)
    fleet.refresh()
    ledger = Ledger(home / "ledger", f"x{limit}", durability="process", segment_bytes=1 << 20)
    service = Service(fleet, ledger, ExporterSettings(), instruments)
    service.start()
    try:
        yield service
    finally:
        service.stop()
        ledger.close()


def ask(service: Service, model: str) -> str:
    return asyncio.run(service.predict(model, [Input("where is my card")])).predictions[0].label


def loaded(service: Service) -> set[str]:
    return {one.model for one in service.fleet.serving() if one.loaded}


def test_the_longest_unused_version_makes_room_and_comes_back_when_asked(
    three: Engine, tmp_path: Path
) -> None:
    with running(three, tmp_path, 0) as service:
        before = {model: ask(service, model) for model in MODELS}
        assert loaded(service) == set(MODELS)
        most = max(one.memory_bytes for one in service.fleet.serving())
        assert most > 0
    with running(three, tmp_path, 1) as service:  # room for the one in use only
        for model in (*MODELS, *reversed(MODELS)):
            assert ask(service, model) == before[model]
            assert loaded(service) == {model}
        told = service._answering._replying._instruments.registry
        assert told.get_sample_value("trueup_version_unloads_total", {"model": "a"}) == 2
        held = [
            told.get_sample_value("trueup_version_memory_bytes", {"model": model, "version": "v1"})
            for model in MODELS
        ]
        assert held[1:] == [0, 0]
        assert held[0] is not None
        assert held[0] > 0


def test_an_unloaded_version_whose_files_are_gone_fails_the_request_only(
    three: Engine, tmp_path: Path
) -> None:
    with running(three, tmp_path, 1) as service:
        ask(service, "a")
        shutil.rmtree(tmp_path / "versions" / "b")
        with pytest.raises(EngineFailedError):
            ask(service, "b")
        assert ask(service, "a")


def test_names_that_no_model_has_are_not_remembered(three: Engine, tmp_path: Path) -> None:
    with running(three, tmp_path, 1) as service:
        for number in range(3):
            with pytest.raises(UnknownModelError):
                ask(service, f"unknown {number}")
        assert set(service.fleet._used_at) == set(MODELS)


def test_many_wait_for_one_load_and_no_longer_than_they_said(
    three: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads, gate = [], threading.Event()
    load = Fleet.load

    def slow(fleet: Fleet, model: str) -> Deployed:
        loads.append(model)
        assert gate.wait(20)
        return load(fleet, model)

    async def burst(service: Service) -> int:
        hurried = service.predict("b", [Input("now")], Terms(timeout_s=0.01))
        patient = [asyncio.create_task(service.predict("b", [Input("later")])) for _ in range(5)]
        with pytest.raises(ClientDeadlineError):
            await hurried
        gate.set()
        return len(await asyncio.gather(*patient))

    with running(three, tmp_path, 1) as service:
        park(service, "b")
        monkeypatch.setattr(Fleet, "load", slow)
        assert asyncio.run(burst(service)) == 5
    assert loads == ["b"]


def test_a_failed_load_is_counted_and_not_tried_again_at_once(three: Engine, tmp_path: Path) -> None:
    with running(three, tmp_path, 1) as service:
        park(service, "b")
        shutil.rmtree(tmp_path / "versions" / "b")
        for _ in range(2):
            with pytest.raises(EngineFailedError):
                ask(service, "b")
        told = service._answering._replying._instruments.registry
        assert told.get_sample_value("trueup_versions_refused_total", {"model": "b"}) == 1
        assert {key[-1] for key in service._outcomes._counts} == {"failed"}


def test_a_champion_beside_a_challenger_is_loaded_and_stays(three: Engine, tmp_path: Path) -> None:
    built = build_version(tmp_path / "challenger", model="a", seed=2)
    challenger = register(three, tmp_path, built, threads=1, now=1.0)
    with running(three, tmp_path, 1) as service:
        park(service, "a")
        with three.begin() as connection:
            start_trial(connection, "a", challenger, champion="v1", mode="canary", share=0.5)
        service.fleet.refresh()
        ask(service, "b")
        ask(service, "c")
        assert "a" in loaded(service)


def park(service: Service, model: str) -> None:
    """Let the model be the one that has made room."""
    for other in sorted(set(MODELS) - {model}):
        service.fleet._used_at[other] = 2.0
        service.fleet.load(other)
    service.fleet._used_at[model] = 1.0
    with service.fleet._loading:
        service.fleet._make_room()
    assert model not in loaded(service)
