from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine

from exporter.deployed import Fleet
from exporter.engines import Answer
from exporter.errors import (
    DeadlineError,
    EngineFailedError,
    LedgerWriteError,
    QueueFullError,
    StoppingError,
    UnknownModelError,
)
from exporter.instruments import Instruments
from exporter.ledger import Ledger, read_segment, segments
from exporter.outcomes import Outcomes
from exporter.prediction import Prediction
from exporter.recording import Input
from exporter.service import Service
from exporter.settings import ExporterSettings


class GatedEngine:
    """Runs when it is let, fails on "bad"."""

    name = "gated"

    def __init__(self) -> None:
        self.labels = ["yes", "no"]
        self.gate, self.entered = threading.Event(), threading.Event()
        self.batches: list[list[str]] = []

    def run(self, texts: Sequence[str]) -> list[Answer]:
        return [answer for _, answers in self.stream(texts) for answer in answers]

    def stream(self, texts: Sequence[str]) -> Iterator[tuple[list[int], list[Answer]]]:
        self.entered.set()
        assert self.gate.wait(20)
        self.batches.append(list(texts))
        for position in reversed(range(len(texts))):
            if texts[position] == "bad":
                raise ValueError("a secret of the text")
            yield [position], [Answer(0, (0.75, 0.25), b"", 0.5, 3, False)]

    def close(self) -> None:
        pass


class ForgetfulLedger(Ledger):
    """A disk that is full."""

    def append(self, predictions: Sequence[Prediction]) -> None:
        raise LedgerWriteError(Path("/ledger"), OSError(28, "No space left on device"))


@contextmanager
def running(
    home: Path,
    db: Engine,
    kind: type[Ledger] = Ledger,
    *,
    outcomes: Outcomes | None = None,
    **settings: object,
) -> Iterator[tuple[Service, GatedEngine]]:
    given = ExporterSettings.model_validate(settings)
    instruments = Instruments()
    fleet = Fleet(db, instruments, threads=1, poll_s=60)
    fleet.refresh()
    engine = GatedEngine()
    fleet._serving["router"] = replace(fleet.deployed("router"), engine=engine)
    ledger = kind(home / "ledger", "x", durability="process", segment_bytes=1 << 20)
    service = Service(fleet, ledger, given, instruments, outcomes=outcomes, now=lambda: 5.0)
    service.start()
    try:
        yield service, engine
    finally:
        engine.gate.set()
        service.stop()
        ledger.close()


def inputs(*texts: str) -> list[Input]:
    return [Input(text) for text in texts]


def recorded(home: Path) -> list[str]:
    return [
        row.id
        for _, paths in segments(home / "ledger")
        for path in paths
        for row in read_segment(path, 0).predictions
    ]


async def gathered(*calls: object) -> list[object]:
    return list(await asyncio.gather(*calls, return_exceptions=True))  # type: ignore[call-overload]


def test_answers_come_in_the_order_of_the_inputs_and_lie_in_the_ledger(home: Path, sqlite_db: Engine) -> None:
    with running(home, sqlite_db, store_text="full") as (service, engine):
        engine.gate.set()
        served = asyncio.run(service.predict("router", inputs("a", "b", "c")))
        assert [row.text for row in served.predictions] == ["a", "b", "c"]
        assert {row.at for row in served.predictions} == {5.0}
        assert sorted(row.id for row in served.predictions) == sorted(recorded(home))


def test_what_waits_while_the_engine_is_busy_runs_together(home: Path, sqlite_db: Engine) -> None:
    async def scene(service: Service, engine: GatedEngine) -> None:
        first = asyncio.create_task(service.predict("router", inputs("a")))
        await asyncio.to_thread(engine.entered.wait, 20)
        others = [asyncio.create_task(service.predict("router", inputs(text))) for text in "bcd"]
        await asyncio.sleep(0)
        engine.gate.set()
        await asyncio.gather(first, *others)

    with running(home, sqlite_db) as (service, engine):
        asyncio.run(scene(service, engine))
        assert [sorted(batch) for batch in engine.batches] == [["a"], ["b", "c", "d"]]


def test_a_full_queue_refuses_and_then_goes_on(home: Path, sqlite_db: Engine) -> None:
    async def scene(service: Service, engine: GatedEngine) -> list[object]:
        first = asyncio.create_task(service.predict("router", inputs("a")))
        await asyncio.to_thread(engine.entered.wait, 20)
        waiting = asyncio.create_task(service.predict("router", inputs("b", "c")))
        await asyncio.sleep(0)
        refused = await gathered(service.predict("router", inputs("d")))
        engine.gate.set()
        await asyncio.gather(first, waiting)
        return refused

    with running(home, sqlite_db, queue_limit=2) as (service, engine):
        (refused,) = asyncio.run(scene(service, engine))
        assert isinstance(refused, QueueFullError)
        assert len(recorded(home)) == 3


def test_what_waited_too_long_is_told_so(home: Path, sqlite_db: Engine) -> None:
    async def scene(service: Service, engine: GatedEngine) -> list[object]:
        first = asyncio.create_task(service.predict("router", inputs("a")))
        await asyncio.to_thread(engine.entered.wait, 20)
        late = asyncio.create_task(service.predict("router", inputs("b")))
        await asyncio.sleep(0.1)
        engine.gate.set()
        return await gathered(first, late)

    with running(home, sqlite_db, deadline_s=0.05) as (service, engine):
        first, late = asyncio.run(scene(service, engine))
        assert not isinstance(first, BaseException)
        assert isinstance(late, DeadlineError)


def test_an_engine_that_fails_fails_its_batch_only(
    home: Path, sqlite_db: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(home, sqlite_db) as (service, engine):
        engine.gate.set()
        (failed,) = asyncio.run(gathered(service.predict("router", inputs("bad"))))
        assert isinstance(failed, EngineFailedError)
        assert asyncio.run(service.predict("router", inputs("good"))).predictions
        assert "secret" not in "".join(capsys.readouterr())


def test_no_answer_leaves_that_the_ledger_has_not(home: Path, sqlite_db: Engine) -> None:
    with running(home, sqlite_db, ForgetfulLedger) as (service, engine):
        engine.gate.set()
        (failed,) = asyncio.run(gathered(service.predict("router", inputs("a"))))
        assert isinstance(failed, LedgerWriteError)


def test_stopping_answers_the_queue_and_refuses_what_comes_after(home: Path, sqlite_db: Engine) -> None:
    async def scene(service: Service, engine: GatedEngine) -> list[object]:
        accepted = asyncio.create_task(service.predict("router", inputs("a", "b")))
        await asyncio.to_thread(engine.entered.wait, 20)
        stopping = asyncio.create_task(asyncio.to_thread(service.stop))
        engine.gate.set()
        answers = await gathered(accepted)
        await stopping
        return answers + await gathered(service.predict("router", inputs("c")))

    with running(home, sqlite_db) as (service, engine):
        accepted, refused = asyncio.run(scene(service, engine))
        assert not isinstance(accepted, BaseException)
        assert isinstance(refused, StoppingError)


def test_a_model_that_nobody_deployed_is_unknown(home: Path, sqlite_db: Engine) -> None:
    with running(home, sqlite_db) as (service, _):
        (unknown,) = asyncio.run(gathered(service.predict("nobody", inputs("a"))))
        assert isinstance(unknown, UnknownModelError)
