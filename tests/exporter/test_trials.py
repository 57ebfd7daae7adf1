"""A challenger beside the champion: shadows recorded and never returned, canaries for a share of the keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine, select

from exporter import registry
from exporter.deployed import Fleet, OnTrial
from exporter.engines import Answer, Encoded, Encoder
from exporter.errors import ClientDeadlineError, TrialError, UnknownModelError
from exporter.instruments import Instruments
from exporter.ledger import Ledger
from exporter.loader import load_once
from exporter.packing import Packing
from exporter.recording import Input
from exporter.service import Service
from exporter.settings import ExporterSettings, Mode
from exporter.tables import predictions, versions
from exporter.trials import end_trial, in_canary, read_trials, shadow_id, start_trial
from exporter.waiting import Terms
from tests.exporter.exporter_process import exporter_process
from tests.exporter.versions import build_version

MODEL = "router"


@pytest.fixture
def challenger(home: Path, sqlite_db: Engine, tmp_path: Path) -> str:
    built = build_version(tmp_path / "next", seed=7)
    return registry.register(sqlite_db, home, built, threads=1, now=1.7e9)


def start(db: Engine, challenger: str, mode: Mode, share: float = 0.5, champion: str = "v1") -> None:
    with db.begin() as connection:
        start_trial(connection, MODEL, challenger, champion=champion, mode=mode, share=share)


@contextmanager
def running(home: Path, db: Engine) -> Iterator[Service]:
    instruments = Instruments()
    fleet = Fleet(db, instruments, threads=1, poll_s=60)
    fleet.refresh()
    ledger = Ledger(home / "ledger", "x", durability="process", segment_bytes=1 << 20)
    service = Service(fleet, ledger, ExporterSettings(store_text="full"), instruments)
    service.start()
    try:
        yield service
    finally:
        service.stop()
        ledger.close()
        load_once(db, home / "ledger")


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def rows(db: Engine) -> list[tuple[str, str, str]]:
    query = select(predictions.c.id, predictions.c.version, predictions.c.role).order_by(predictions.c.id)
    with db.connect() as connection:
        return [(row.id, row.version, row.role) for row in connection.execute(query)]


def test_a_shadow_answers_the_same_texts_and_nobody_sees_it(
    home: Path, sqlite_db: Engine, challenger: str
) -> None:
    start(sqlite_db, challenger, "shadow")
    with running(home, sqlite_db) as service:
        served = asyncio.run(service.predict(MODEL, [Input(text) for text in "abc"]))
        assert served.version == "v1"
        until(lambda: load_once(sqlite_db, home / "ledger") >= 0 and len(rows(sqlite_db)) == 6)
    ids = [row.id for row in served.predictions]
    expected = [(id_, "v1", "champion") for id_ in ids]
    expected += [(shadow_id(id_), challenger, "shadow") for id_ in ids]
    assert rows(sqlite_db) == sorted(expected)


def test_a_canary_answers_its_share_of_the_keys_and_always_the_same_ones(
    home: Path, sqlite_db: Engine, challenger: str
) -> None:
    start(sqlite_db, challenger, "canary", share=0.3)
    (trial,) = read_trials(sqlite_db)
    users = [f"user {number}" for number in range(60)]
    with running(home, sqlite_db) as service:

        async def ask(user: str) -> str:
            return (await service.predict(MODEL, [Input("x", {"user": user})])).version

        first = [asyncio.run(ask(user)) for user in users]
        again = [asyncio.run(ask(user)) for user in users]
    assert first == again == [challenger if in_canary(trial, user) else "v1" for user in users]
    assert {"v1", challenger} == set(first)
    assert {(version, role) for _, version, role in rows(sqlite_db)} == {
        ("v1", "champion"),
        (challenger, "canary"),
    }


def test_a_pinned_version_is_answered_by_that_version_or_not_at_all(
    home: Path, sqlite_db: Engine, challenger: str
) -> None:
    start(sqlite_db, challenger, "canary", share=1.0)
    with running(home, sqlite_db) as service:
        assert asyncio.run(service.predict(MODEL, [Input("x")])).version == challenger
        assert asyncio.run(service.predict(MODEL, [Input("x")], version="v1")).version == "v1"
        with pytest.raises(UnknownModelError, match=challenger):
            asyncio.run(service.predict(MODEL, [Input("x")], version=challenger))


def test_a_pinned_version_over_http_skips_the_canary(home: Path, sqlite_db: Engine, challenger: str) -> None:
    start(sqlite_db, challenger, "canary", share=1.0)
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["x"]}]}
    with exporter_process(home) as (_, url):
        paths = [f"{url}/v2/models/{MODEL}{pin}/infer" for pin in ("", "/versions/v1")]
        answered = [httpx.post(path, json=body).json()["model_version"] for path in paths]
    assert answered == [challenger, "v1"]


def test_promotion_ends_the_trial_and_keeps_the_loaded_engine(
    home: Path, sqlite_db: Engine, challenger: str
) -> None:
    start(sqlite_db, challenger, "canary", share=1.0)
    fleet = Fleet(sqlite_db, Instruments(), threads=1, poll_s=60)
    fleet.refresh()
    tried = fleet.route(MODEL, "anybody")
    assert (tried.version, tried.role) == (challenger, "canary")
    assert registry.promote(sqlite_db, MODEL, challenger, expected="v1", reason="proven", actor="test")
    fleet.refresh()
    now = fleet.route(MODEL, "anybody")
    assert (now.version, now.role) == (challenger, "champion")
    assert now.engine is tried.engine
    assert read_trials(sqlite_db) == []


def test_an_ended_trial_gives_the_champion_everything_back(
    home: Path, sqlite_db: Engine, challenger: str
) -> None:
    start(sqlite_db, challenger, "canary", share=1.0)
    fleet = Fleet(sqlite_db, Instruments(), threads=1, poll_s=60)
    fleet.refresh()
    with sqlite_db.begin() as connection:
        end_trial(connection, MODEL)
    fleet.refresh()
    assert fleet.route(MODEL, "anybody").version == "v1"
    assert fleet.shadow(MODEL) is None


def test_a_challenger_that_cannot_be_loaded_answers_nothing(
    home: Path, sqlite_db: Engine, challenger: str
) -> None:
    start(sqlite_db, challenger, "canary", share=1.0)
    model = registry.version_path(sqlite_db, MODEL, challenger) / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    fleet = Fleet(sqlite_db, Instruments(), threads=1, poll_s=60)
    fleet.refresh()
    fleet.refresh()
    assert fleet.route(MODEL, "anybody").version == "v1"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"champion": "v9"}, "does not serve"),
        ({"share": 0.0}, "not between 0 and 1"),
        ({"challenger": "v9"}, "not a candidate"),
        ({"challenger": "v1"}, "not a candidate"),
    ],
)
def test_what_cannot_be_tried_is_refused(
    changes: dict[str, object], why: str, db: Engine, tmp_path: Path
) -> None:
    for number, seed in enumerate((1, 2)):
        built = build_version(tmp_path / f"built{number}", seed=seed)
        registry.register(db, tmp_path, built, threads=1, now=1.7e9)
    registry.promote(db, MODEL, "v1", expected=None, reason="first", actor="test")
    given = {"challenger": "v2", "champion": "v1", "mode": "canary", "share": 0.1} | changes
    name = str(given.pop("challenger"))
    with pytest.raises(TrialError, match=why), db.begin() as connection:
        start_trial(connection, MODEL, name, **given)  # type: ignore[arg-type]
    assert read_trials(db) == []


def test_a_trial_is_visible_and_marks_the_version(db: Engine, tmp_path: Path) -> None:
    for number, seed in enumerate((1, 2)):
        built = build_version(tmp_path / f"built{number}", seed=seed)
        registry.register(db, tmp_path, built, threads=1, now=1.7e9)
    registry.promote(db, MODEL, "v1", expected=None, reason="first", actor="test")
    start(db, "v2", "shadow")
    start(db, "v2", "canary", share=0.25)
    (trial,) = read_trials(db)
    assert (trial.challenger, trial.mode, trial.share) == ("v2", "canary", 0.25)
    assert trial.started_at > 1.7e9
    with db.connect() as connection:
        state = connection.scalar(select(versions.c.state).where(versions.c.version == "v2"))
    assert state == "challenger"


class BrokenEngine:
    """Fails on every text, or on all but the first."""

    name, provider = "broken", "none"
    encoder: Encoder | None = None
    packing = Packing(rows=2, tokens=512, reach=512)

    def __init__(self, *, fails: bool = True) -> None:
        self.labels = ["yes", "no", "maybe"]
        self.fails = fails

    def run(self, texts: Sequence[str]) -> list[Answer]:
        raise ValueError(texts[-1])

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        return [Encoded([1], 1, truncated=False) for _ in texts]

    def answer(self, batch: Sequence[Encoded]) -> list[Answer]:
        """Of the first micro-batch; the second one fails."""
        if self.fails:
            raise ValueError
        self.fails = True
        return [Answer("yes", 1.0, (1.0, 0.0, 0.0), b"", 0.5, 3, False) for _ in batch]

    def close(self) -> None:
        pass


@pytest.mark.parametrize("mode", ["canary", "shadow"])
def test_a_challenger_that_fails_on_a_text_is_taken_back_and_the_champion_answers(
    mode: Mode, home: Path, sqlite_db: Engine, challenger: str
) -> None:
    start(sqlite_db, challenger, mode, share=1.0)
    with running(home, sqlite_db) as service:
        found = service.fleet._trials[MODEL]
        broken = replace(found, deployed=replace(found.deployed, engine=BrokenEngine(fails=mode == "shadow")))
        service.fleet._trials[MODEL] = broken
        served = asyncio.run(service.predict(MODEL, [Input(text) for text in ("a", "bb", "ccc")]))
        assert served.version == "v1"
        until(lambda: MODEL not in service.fleet._trials)
        service.fleet.refresh()
        assert asyncio.run(service.predict(MODEL, [Input("d")])).version == "v1"
    assert read_trials(sqlite_db) == []
    states = {row.version: row.state for row in registry.list_versions(sqlite_db, MODEL)}
    assert states == {"v1": "champion", challenger: "rejected"}
    assert {row.id for row in served.predictions} <= {
        id_ for id_, version, _ in rows(sqlite_db) if version == "v1"
    }


class EndedMeanwhile(dict[str, OnTrial]):
    """Another thread removes what this one has just looked up."""

    def get(self, key: str, default: object = None) -> OnTrial | None:  # type: ignore[override]
        found = super().get(key)
        self.clear()
        return found


def test_a_trial_that_ends_while_it_is_taken_back_harms_nobody(
    home: Path, sqlite_db: Engine, challenger: str
) -> None:
    start(sqlite_db, challenger, "canary", share=1.0)
    fleet = Fleet(sqlite_db, Instruments(), threads=1, poll_s=60)
    fleet.refresh()
    failed = fleet.route(MODEL, "anybody")
    fleet._trials = EndedMeanwhile(fleet._trials)
    fleet.take_back(failed)
    fleet.refresh()
    assert fleet.route(MODEL, "anybody").version == "v1"


def test_the_engines_thread_outlives_what_nobody_foresaw(
    home: Path, sqlite_db: Engine, challenger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unforeseen(_: object) -> None:
        raise RuntimeError

    start(sqlite_db, challenger, "canary", share=1.0)
    with running(home, sqlite_db) as service:
        found = service.fleet._trials[MODEL]
        broken = replace(found, deployed=replace(found.deployed, engine=BrokenEngine()))
        service.fleet._trials[MODEL] = broken
        monkeypatch.setattr(service.fleet, "take_back", unforeseen)
        with pytest.raises(ClientDeadlineError):
            asyncio.run(service.predict(MODEL, [Input("a")], Terms(timeout_s=0.5)))
        del service.fleet._trials[MODEL]
        assert asyncio.run(service.predict(MODEL, [Input("b")])).version == "v1"
