from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import nan
from pathlib import Path

import pytest
from sqlalchemy import Engine

from exporter.deployed import Fleet
from exporter.engines import Answer, Encoded, Encoder
from exporter.errors import (
    ClientDeadlineError,
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
from exporter.packing import ALONE, Packing
from exporter.prediction import Prediction
from exporter.recording import Input
from exporter.service import Service
from exporter.settings import ExporterSettings
from exporter.waiting import SMALL, Terms
from tests.exporter.test_trials import until


class GatedEngine:
    """Runs when it is let, fails on "bad"."""

    name, provider = "gated", "none"
    encoder: Encoder | None = None
    packing = Packing(rows=3, tokens=64, reach=64)

    def __init__(self) -> None:
        self.labels = ["yes", "no"]
        self.gate, self.entered = threading.Event(), threading.Event()
        self.batches: list[list[str]] = []
        self.broken = False

    def run(self, texts: Sequence[str]) -> list[Answer]:
        return self.answer(self.encode(texts))

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        return [Encoded(list(text.encode()), len(text), truncated=False) for text in texts]

    def answer(self, batch: Sequence[Encoded]) -> list[Answer]:
        self.entered.set()
        assert self.gate.wait(20)
        texts = [bytes(one.ids).decode() for one in batch]
        self.batches.append(texts)
        if "bad" in texts or self.broken:
            raise ValueError("a secret of the text")
        return [Answer("yes", 0.75, (0.75, 0.25), b"", 0.5, 3, False) for _ in texts]

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
    given = ExporterSettings.model_validate({"threads": 1} | settings)
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
    return [row.id for row in written(home)]


def written(home: Path) -> list[Prediction]:
    return [
        row
        for _, paths in segments(home / "ledger")
        for path in paths
        for row in read_segment(path, 0).predictions
    ]


async def ready_for_an_engine(service: Service, texts: int) -> None:
    """Wait until so many are tokens that a session may take."""
    while service._answering._backlog.asked_for() != texts:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


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
        await ready_for_an_engine(service, 3)
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
        late = await gathered(service.predict("router", inputs("b"), Terms(timeout_s=0.05)))
        engine.gate.set()
        return [*late, await first]

    with running(home, sqlite_db) as (service, engine):
        late, first = asyncio.run(scene(service, engine))
        assert isinstance(late, ClientDeadlineError)
        assert not isinstance(first, BaseException)
    assert engine.batches == [["a"]]


def test_a_client_may_ask_for_less_time_than_the_deadline_not_for_more(home: Path, sqlite_db: Engine) -> None:
    with running(home, sqlite_db, deadline_s=0.05) as (service, _):
        (late,) = asyncio.run(gathered(service.predict("router", inputs("a"), Terms(timeout_s=60))))
    assert isinstance(late, DeadlineError)


def test_what_a_gone_client_asked_for_is_not_run(home: Path, sqlite_db: Engine) -> None:
    """The HTTP layer cancels the request of a connection that was closed."""

    async def scene(service: Service, engine: GatedEngine) -> list[object]:
        first = asyncio.create_task(service.predict("router", inputs("a")))
        await asyncio.to_thread(engine.entered.wait, 20)
        second = asyncio.create_task(service.predict("router", inputs("b")))
        await asyncio.sleep(0)
        second.cancel()
        gone = await gathered(second)
        engine.gate.set()
        await first
        return gone

    with running(home, sqlite_db) as (service, engine):
        (gone,) = asyncio.run(scene(service, engine))
    assert isinstance(gone, asyncio.CancelledError)
    assert engine.batches == [["a"]]


def test_what_nobody_waits_for_takes_no_room_in_a_full_queue(home: Path, sqlite_db: Engine) -> None:
    async def scene(service: Service, engine: GatedEngine) -> None:
        first = asyncio.create_task(service.predict("router", inputs("a")))
        await asyncio.to_thread(engine.entered.wait, 20)
        await gathered(service.predict("router", inputs("b", "c"), Terms(timeout_s=0.01)))
        waiting = asyncio.create_task(service.predict("router", inputs("d", "e")))
        await ready_for_an_engine(service, 2)
        engine.gate.set()
        await asyncio.gather(first, waiting)

    with running(home, sqlite_db, queue_limit=2) as (service, engine):
        asyncio.run(scene(service, engine))
    assert [sorted(batch) for batch in engine.batches] == [["a"], ["d", "e"]]


def test_a_small_request_goes_between_the_micro_batches_of_a_large_one(home: Path, sqlite_db: Engine) -> None:
    bulk = [f"bulk {number}" for number in range(SMALL + 1)]

    async def scene(service: Service, engine: GatedEngine) -> None:
        large = asyncio.create_task(service.predict("router", inputs(*bulk)))
        await asyncio.to_thread(engine.entered.wait, 20)
        small = asyncio.create_task(service.predict("router", inputs("small")))
        await ready_for_an_engine(service, len(bulk))
        engine.gate.set()
        await asyncio.gather(large, small)

    with running(home, sqlite_db, store_text="full") as (service, engine):
        engine.packing = ALONE
        asyncio.run(scene(service, engine))
        order = [row.text for row in written(home)]
    assert order.index("small") == 1
    assert set(order) == {"small", *bulk}


def test_a_full_disk_is_answered_without_a_record_where_the_settings_say_so(
    home: Path, sqlite_db: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(home, sqlite_db, ForgetfulLedger, on_full="answer") as (service, engine):
        engine.gate.set()
        for _ in range(3):
            assert asyncio.run(service.predict("router", inputs("a"))).predictions
        told = service._answering._replying._instruments
        assert told.registry.get_sample_value("trueup_predictions_unrecorded_total") == 3
        assert told.registry.get_sample_value("trueup_ledger_write_errors_total") == 3
    assert "".join(capsys.readouterr()).count("ledger_not_written") == 1


def test_an_engine_that_fails_on_every_text_is_not_ready_until_it_answers_again(
    home: Path, sqlite_db: Engine
) -> None:
    with running(home, sqlite_db) as (service, engine):
        engine.gate.set()
        engine.broken = True
        asyncio.run(gathered(service.predict("router", inputs("a"))))
        until(lambda: service.problems() == ["the engine of 'router' fails on every text"])
        engine.broken = False
        asyncio.run(service.predict("router", inputs("b")))
        until(lambda: service.problems() == [])
        asyncio.run(gathered(service.predict("router", inputs("bad"))))
        assert service.problems() == []
        service.drain()
        assert service.problems() == ["stopping"]


def test_an_engine_that_fails_fails_its_batch_only(
    home: Path, sqlite_db: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(home, sqlite_db) as (service, engine):
        engine.gate.set()
        (failed,) = asyncio.run(gathered(service.predict("router", inputs("bad"))))
        assert isinstance(failed, EngineFailedError)
        assert asyncio.run(service.predict("router", inputs("good"))).predictions
        assert "secret" not in "".join(capsys.readouterr())


class SmallMemory(GatedEngine):
    """Has room for one text at a time."""

    def answer(self, batch: Sequence[Encoded]) -> list[Answer]:
        answers = super().answer(batch)
        if len(batch) > 1:
            raise MemoryError
        return answers


@pytest.mark.parametrize(("kind", "bad"), [(GatedEngine, 1), (SmallMemory, 1), (SmallMemory, 0)])
def test_a_micro_batch_that_fails_costs_nobody_but_the_text_it_fails_on(
    home: Path, sqlite_db: Engine, kind: type[GatedEngine], bad: int
) -> None:
    texts = ["a", "bad" if bad else "b", "c"]

    async def scene(service: Service, engine: GatedEngine) -> list[object]:
        first = asyncio.create_task(service.predict("router", inputs("first")))
        await asyncio.to_thread(engine.entered.wait, 20)
        others = [asyncio.create_task(service.predict("router", inputs(text))) for text in texts]
        await ready_for_an_engine(service, 3)
        engine.gate.set()
        await first
        return await gathered(*others)

    with running(home, sqlite_db) as (service, gated):
        engine = kind()
        service.fleet._serving["router"] = replace(service.fleet.deployed("router"), engine=engine)
        gated.gate.set()
        found = asyncio.run(scene(service, engine))
        assert [isinstance(one, EngineFailedError) for one in found] == [text == "bad" for text in texts]
        assert service.problems() == []
        assert len(recorded(home)) == 4 - bad
    assert sorted(engine.batches[1]) == sorted(texts)


class Numberless(GatedEngine):
    """Has no number for one text, as fp16 that overflows."""

    def answer(self, batch: Sequence[Encoded]) -> list[Answer]:
        bad = [bytes(one.ids) == b"nan" for one in batch]
        answers = super().answer(batch)
        return [replace(one, scores=(nan, nan)) if no else one for no, one in zip(bad, answers, strict=True)]


class Particular(Ledger):
    """Fails on one row, as nobody foresaw."""

    def append(self, predictions: Sequence[Prediction]) -> None:
        if any(row.text == "odd" for row in predictions):
            raise ValueError("a secret of the text")
        super().append(predictions)


@pytest.mark.parametrize(
    ("kind", "ledger", "bad"), [(Numberless, Ledger, "nan"), (GatedEngine, Particular, "odd")]
)
def test_an_answer_that_cannot_be_recorded_is_told_and_costs_nobody_beside_it(
    home: Path, sqlite_db: Engine, kind: type[GatedEngine], ledger: type[Ledger], bad: str
) -> None:
    async def scene(service: Service, engine: GatedEngine) -> list[object]:
        first = asyncio.create_task(service.predict("router", inputs("first")))
        await asyncio.to_thread(engine.entered.wait, 20)
        others = [asyncio.create_task(service.predict("router", inputs(text))) for text in ("a", bad, "c")]
        await ready_for_an_engine(service, 3)
        engine.gate.set()
        await first
        return await gathered(*others)

    with running(home, sqlite_db, ledger, deadline_s=3.0, store_text="full") as (service, gated):
        engine = kind()
        service.fleet._serving["router"] = replace(service.fleet.deployed("router"), engine=engine)
        gated.gate.set()
        a, none, c = asyncio.run(scene(service, engine))
        assert isinstance(none, EngineFailedError)
        assert not isinstance(a, BaseException)
        assert not isinstance(c, BaseException)
        assert service.problems() == []
        assert sorted(row.text or "" for row in written(home)) == ["a", "c", "first"]


def test_as_many_micro_batches_run_at_a_time_as_there_are_sessions(home: Path, sqlite_db: Engine) -> None:
    """A third one, which comes while both sessions run, is begun before either's answers are recorded."""

    async def scene(service: Service, engine: GatedEngine) -> None:
        calls = [asyncio.create_task(service.predict("router", inputs(text))) for text in ("a", "b")]
        await asyncio.to_thread(both.wait, 20)
        calls.append(asyncio.create_task(service.predict("router", inputs("c"))))
        await asyncio.sleep(0)
        engine.gate.set()
        await asyncio.gather(*calls)

    both = threading.Barrier(3)

    class Meeting(GatedEngine):
        def answer(self, batch: Sequence[Encoded]) -> list[Answer]:
            if not self.gate.is_set():
                both.wait(20)
            return super().answer(batch)

    with running(home, sqlite_db, threads=2) as (service, gated):
        gated.gate.set()
        engine = Meeting()
        engine.packing = ALONE
        service.fleet._serving["router"] = replace(service.fleet.deployed("router"), engine=engine)
        asyncio.run(scene(service, engine))
        assert len(recorded(home)) == 3


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
