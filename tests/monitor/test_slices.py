from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from pydantic import ValidationError
from sqlalchemy import select

from exporter.sketch import Sketch
from exporter.slices import MOST_VALUES
from monitor import history, notices, readings, tables
from monitor.evidence import SLICE_SHARE, bettors, page_score, slice_bettors, weight_of, weighted
from monitor.message import compose
from monitor.notice_facts import read_facts
from monitor.pager import Wealth, page_line
from monitor.policy import Limits, Situation, decide
from monitor.ranks import Ints
from monitor.reference import SLICE_ROWS, Reference, SliceReference
from monitor.settings import ModelSettings, MonitorSettings
from monitor.slice_names import in_slice
from monitor.slices import judge_slices, open_slices
from monitor.tallies import Tally
from tests.monitor.counted import fitted, sample
from tests.monitor.test_check import SETTINGS, Stream, stream

__all__ = ["stream"]
SLICED = SETTINGS.model_copy(update={"slices": ("channel",)})


@cache
def pool() -> tuple[Sketch, Ints]:
    """A sketch of other rows, and 4,000 placed rows in ascending order of similarity: slices take parts."""
    found = sample(4000, 1)
    sketch = replace(fitted(sample(1000, 0)), slices=("channel",))
    order = np.argsort(np.array([row.similarity for row in found.rows], dtype=float))
    return sketch, sketch.place(found.rows)[order]


def window(rng: np.random.Generator, number: int, sizes: Mapping[str, int], *, changed: str = "") -> Tally:
    """Clean rows of every slice: an eighth of the pool each, unlike the hold-out; or the lowest."""
    sketch, placed = pool()
    counts = {}
    for place, (name, rows) in enumerate(sizes.items(), 1):
        first = 0 if name == changed else 500 * place
        drawn = placed[rng.integers(first, first + 500, rng.poisson(rows))]
        counts[f"channel={name}"] = {0: sketch.count(drawn)[sketch.sliced_cells]}
    last = (number + 1) * sum(sizes.values())
    return Tally(places=sketch.places, slices=counts, rows=last, first_seq=last, start_at=0.0, end_at=1.0)


def follow(
    seed: int, sizes: Sequence[Mapping[str, int]], *, changed_at: int = 10**9
) -> Iterator[dict[str, float]]:
    """log e of every bettor after each window, as checks hand references and wealth on."""
    rng = np.random.default_rng(seed)
    reference = Reference(model=f"stream {seed}", version="v1", sketch=pool()[0])
    known: dict[str, SliceReference] = {}
    held: dict[str, Wealth] = {}
    for number, rows in enumerate(sizes):
        tally = window(rng, number, rows, changed="a" if number >= changed_at else "")
        held = open_slices(known) | held
        judged = judge_slices(tally, reference, known, held)
        known |= {one.slice: one for one in judged.grown}
        held |= judged.held
        yield {name: wealth.log_e for name, wealth in held.items()}


def test_clean_slices_are_ever_paged_with_at_most_their_share_of_the_budget() -> None:
    alpha, streams, sizes = 0.5, 200, [{"a": 60, "b": 100}] * 12

    def paged(log_es: dict[str, float]) -> bool:
        return bool(log_es) and page_score(log_es, keys=1) >= page_line(alpha)

    ever = [any(map(paged, follow(seed, sizes))) for seed in range(streams)]
    assert np.mean(ever) <= SLICE_SHARE * alpha


def test_the_mean_e_value_of_clean_slices_is_one_though_their_references_end_by_count() -> None:
    # Few rows: what tails win from more is too rare and too large for the mean of a thousand to be normal.
    sizes = [{"a": 120}, {"a": 120}, {"a": 6}]
    last = [list(follow(seed, sizes))[-1] for seed in range(1000)]
    for one in slice_bettors():
        e = np.exp([log_es[in_slice(one.name, "channel=a")] for log_es in last if log_es])
        assert e.size > 900
        assert abs(e.mean() - 1) <= 4 * e.std() / math.sqrt(e.size)
        assert e.std() > 0.01


def test_a_slice_bets_from_the_window_after_its_reference_is_complete() -> None:
    rng = np.random.default_rng(0)
    reference = Reference(model="router", version="v1", sketch=pool()[0])
    first = judge_slices(window(rng, 0, {"a": 250, "b": 50}), reference, {}, {})
    known = {one.slice: one for one in first.grown}
    assert {name: one.frozen for name, one in known.items()} == {"channel=a": True, "channel=b": False}
    assert {(one.enough, one.log_e) for one in first.evidence} == {(False, None)}
    held = open_slices(known)
    assert set(held) == {in_slice(one.name, "channel=a") for one in slice_bettors()}
    second = judge_slices(window(rng, 1, {"a": 250, "b": 50}), reference, known, held)
    assert set(second.held) == set(held)
    assert [one.slice for one in second.grown] == ["channel=b"]
    assert second.grown[0].rows > known["channel=b"].rows
    assert known["channel=b"].rows < SLICE_ROWS <= known["channel=a"].rows


def test_a_reference_with_a_season_spans_it() -> None:
    rng = np.random.default_rng(0)
    tally = window(rng, 0, {"a": 300})
    daily = SliceReference(model="m", version="v1", slice="channel=a", sketch=pool()[0], season="hour-of-day")
    half = daily.grown(replace(tally, end_at=43_200.0))
    assert not half.frozen
    assert half.grown(replace(tally, start_at=43_200.0, end_at=86_400.0)).frozen


def test_a_change_in_a_slice_is_found_there() -> None:
    path = list(follow(0, [{"a": 60, "b": 100}] * 12, changed_at=8))
    assert weighted("similarity[channel=a]", path[7]["similarity[channel=a]"], keys=1) < 0
    assert weighted("similarity[channel=a]", path[-1]["similarity[channel=a]"], keys=1) > page_line(0.01)
    assert path[-1]["similarity[channel=b]"] < 1


@pytest.mark.parametrize("keys", [1, 2, 4])
def test_whole_and_slices_never_spend_more_than_the_budget(keys: int) -> None:
    slices = [f"k{key}=v{value}" for key in range(keys) for value in range(MOST_VALUES + 1)]
    names = [in_slice(one.name, slice_) for one in slice_bettors() for slice_ in slices]
    whole = [one.name for one in bettors()]
    assert sum(weight_of(name, keys) for name in (*whole, *names)) == pytest.approx(1)
    assert sum(weight_of(name) for name in (*whole, *names)) == pytest.approx(
        1
    )  # without slices the whole has all


def test_a_page_says_in_which_slice_and_is_filed_as_drift() -> None:
    log_es = {"similarity": 0.0, "similarity[channel=a]": 40.0, "class_mix[channel=b]": 1.0}
    situation = Situation(asked="check", now=0.0, log_es=log_es, log_page_line=5.0, slice_keys=1)
    decision = decide(situation, Limits())
    assert decision.causes == ("drift",)
    assert decision.reasons[0] == "The pager proved a change (drift) in channel=a."
    many = replace(situation, log_es={f"similarity[channel={one}]": 40.0 for one in "abcde"})
    assert decide(many, Limits()).reasons[0].endswith("in channel=a, channel=b, channel=c and 2 more.")


@pytest.mark.parametrize("slices", [["a", "a"], ["a=b"], ["a b"], [""], list("abcde")])
def test_keys_that_cannot_name_slices_are_refused(slices: list[str]) -> None:
    with pytest.raises(ValidationError, match="slices"):
        ModelSettings.model_validate({"slices": slices})


def windows_to_page(stream: Stream, settings: ModelSettings, *, most: int) -> int | None:
    """A fifth of the rows is of channel a, and changes after ten windows of a hundred."""
    for number in range(10 + most):
        stream.send(80, metadata={"channel": "b"})
        stream.send(20, metadata={"channel": "a"}, down=0.1 if number >= 10 else 0.0)
        if stream.check(settings).paged:
            return number - 9
    return None


def test_a_check_pages_for_a_slice_and_says_which(stream: Stream) -> None:
    assert windows_to_page(stream, SLICED, most=4) == 2
    with stream.db.connect() as connection:
        check = (
            connection.execute(select(tables.checks).order_by(tables.checks.c.id.desc())).mappings().first()
        )
        assert check is not None
        own = select(tables.evidence).where(tables.evidence.c.check_id == check["id"])
        found = {row["detector"]: row for row in connection.execute(own).mappings()}
        episode = connection.execute(select(tables.episodes)).mappings().one()
        samples = list(readings.read(connection))
        notice = notices.newest(connection)["router"]
        message = compose(notice, read_facts(connection, notice, MonitorSettings()))
    assert check["decision"]["reasons"][0] == "The pager proved a change (drift) in channel=a."
    assert found["similarity[channel=a]"]["effect"] < -0.3
    assert found["similarity[channel=b]"]["log_e"] < 1
    assert found["similarity[channel=a]"]["rows"] == 20
    assert (episode["cause"], episode["state"]) == ("drift", "firing")
    assert "channel=a" in episode["detail"]["reasons"][0]
    assert "in channel=a." in message.text
    assert "similarity[channel=a]: " in message.text
    assert any(labels[1:] == ("similarity",) for _, labels, _ in samples)
    assert not any("channel" in label for _, labels, _ in samples for label in labels)


def test_without_slices_the_same_change_is_not_found_as_soon(stream: Stream) -> None:
    assert windows_to_page(stream, SETTINGS, most=2) is None
    with stream.db.connect() as connection:
        assert connection.execute(select(tables.slice_references)).all() == []


def test_other_slices_end_the_pager_and_the_next_one_spends_its_own_part(stream: Stream) -> None:
    for settings in (SETTINGS, SLICED, SLICED, SETTINGS):
        stream.send(100, metadata={"channel": "a"})
        stream.check(settings)
    with stream.db.connect() as connection:
        query = select(tables.pagers.c.alpha, tables.pagers.c.slices).order_by(tables.pagers.c.id)
        found = connection.execute(query).all()
    assert [row.slices for row in found] == [None, ["channel"], None]
    assert [row.alpha for row in found] == pytest.approx([0.02 / 2, 0.02 / 6, 0.02 / 12])


def test_a_reference_once_frozen_outlives_the_pager(stream: Stream) -> None:
    for _ in range(3):
        stream.send(100, metadata={"channel": "a"})
        stream.check(SLICED)
    with stream.db.begin() as connection:
        before = connection.execute(select(tables.slice_references)).mappings().one()
        history.end_pager(connection, "router", 1e9)
    stream.send(100, metadata={"channel": "a"})
    (checked,) = stream.check(SLICED).checks
    with stream.db.connect() as connection:
        assert connection.execute(select(tables.slice_references)).mappings().one() == before
    assert before["frozen_at"] is not None
    assert {one.enough for one in checked.evidence if "[" in one.detector} == {True}


def test_before_its_first_season_is_complete_a_slice_is_not_bet_on(stream: Stream) -> None:
    settings = SLICED.model_copy(update={"season": "hour-of-day"})
    for _ in range(4):
        stream.send(100, metadata={"channel": "a"})
        (checked,) = stream.check(settings).checks
    assert {one.log_e for one in checked.evidence} == {None}
    with stream.db.connect() as connection:
        (held,) = connection.execute(select(tables.slice_references)).mappings()
    assert (held["slice"], held["season"], held["frozen_at"]) == ("channel=a", "hour-of-day", None)
