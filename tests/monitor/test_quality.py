from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from sqlalchemy import Engine, delete, update

from exporter.tables import labels, predictions
from monitor.errors import UnknownModelVersionError
from monitor.quality import next_labels, read_quality
from monitor.quality.buying import Shares, appeal, draw, probabilities
from monitor.quality.correctness import cross_fitted, reference_curve
from monitor.quality.design import Draw, arrived, drawn
from monitor.quality.estimate import estimate, proportion, sample_of
from monitor.quality.interval import half_width, interval
from monitor.quality.macro_f1 import confusion, macro_f1
from monitor.quality.opinion import opinion
from monitor.quality.reading import read_earlier
from monitor.quality.slices import measure_slices
from tests.monitor.quality_rows import labelled, served, store, tell

START = reference_curve(np.array([]), np.array([]), np.array([]))


def test_the_interval_of_plain_labels_covers_at_every_look() -> None:
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(400):
        right = np.cumsum(rng.random(200) < 0.9)
        looks = (interval(right[n - 1] / n, n, 0.05) for n in range(5, 201, 5))
        missed += any(not lower <= 0.9 <= upper for lower, upper in looks)
    assert missed / 400 <= 0.05


def test_the_interval_of_drawn_labels_with_predictions_covers_at_every_look() -> None:
    rng = np.random.default_rng(20)
    missed = 0
    for _ in range(200):
        chance = rng.beta(4, 1, 600)
        truth = (rng.random(600) < np.where(chance < 0.9, chance - 0.1, chance)).astype(np.float64)
        wanted = probabilities(appeal(chance, np.zeros(600), Shares()).sum(axis=0), 100)
        taken = rng.permutation(draw(wanted, rng.permutation(600), rng))
        for look in (20, 40, 60, 80, 100):
            rows = taken[:look]
            sample = sample_of(wanted[rows] * look / 100, 600)
            found = proportion(truth[rows], chance[rows], float(chance.mean()), sample)
            lower, upper = interval(found.mean, found.effective, 0.05, labels=look)
            if not lower <= truth.mean() <= upper:
                missed += 1
                break
    assert missed / 200 <= 0.05


@pytest.mark.parametrize("mean", [0.0, 0.3, 1.0])
def test_looking_often_is_paid_by_the_label_however_much_one_tells(mean: float) -> None:
    by_label, plain = interval(mean, 400, 0.05, labels=100), interval(mean, 400, 0.05)
    assert plain[0] <= by_label[0] <= mean <= by_label[1] <= plain[1]
    assert by_label[1] - by_label[0] < plain[1] - plain[0]
    assert interval(mean, 100, 0.05, labels=100) == interval(mean, 100, 0.05)


@pytest.mark.parametrize("mean", [0.0, 0.3, 1.0])
def test_the_interval_holds_its_mean_stays_in_0_1_and_shrinks(mean: float) -> None:
    lower, upper = interval(mean, 50, 0.05)
    assert 0 <= lower <= mean <= upper <= 1
    assert upper > lower
    assert half_width(mean, 500, 0.05) < half_width(mean, 50, 0.05)


def test_unequal_probabilities_leave_the_estimate_unbiased() -> None:
    rng = np.random.default_rng(1)
    truth = (rng.random(500) < 0.8).astype(np.float64)
    probability = np.where(truth > 0, 0.1, 0.4)  # wrong answers are labelled four times as often
    means = []
    for _ in range(300):
        rows = np.flatnonzero(rng.random(500) < probability)
        sample = sample_of(probability[rows], 500)
        means.append(proportion(truth[rows], None, 0.0, sample).mean)
    assert np.mean(means) == pytest.approx(truth.mean(), abs=0.01)
    assert np.mean(truth[rows]) < truth.mean() - 0.1


def test_good_predictions_make_it_sharper_and_useless_ones_are_left_out() -> None:
    rng = np.random.default_rng(2)
    chance = rng.choice([0.02, 0.98], 1000)
    truth = (rng.random(1000) < chance).astype(np.float64)
    rows = np.arange(100)
    sample = sample_of(np.full(100, 0.1), 1000)
    alone = proportion(truth[rows], None, 0.0, sample)
    good = proportion(truth[rows], chance[rows], float(chance.mean()), sample)
    assert good.effective > 4 * alone.effective
    useless = rng.permutation(chance)
    found = proportion(truth[rows], useless[rows], float(useless.mean()), sample)
    assert found.power < 0.2
    assert found.effective == pytest.approx(alone.effective, rel=0.15)


def test_uniform_labels_without_predictions_count_as_themselves() -> None:
    truth = np.array([1.0] * 70 + [0.0] * 30)
    found = proportion(truth, None, 0.0, sample_of(np.full(100, 1e-6), 10**8))
    assert found.mean == pytest.approx(0.7)
    assert found.effective == pytest.approx(100, rel=0.03)


def test_an_all_right_sample_does_not_look_certain() -> None:
    found = proportion(np.ones(30), np.full(30, 0.9), 0.9, sample_of(np.full(30, 0.01), 3000))
    assert found.mean == pytest.approx(1)
    assert found.effective == pytest.approx(30, rel=0.05)  # constant predictions tell nothing
    assert interval(found.mean, found.effective, 0.05)[0] < 0.95


def test_a_census_is_certain() -> None:
    found = proportion(np.array([1.0, 0.0, 1.0]), None, 0.0, sample_of(np.ones(3), 3))
    assert found.mean == pytest.approx(2 / 3)
    assert math.isinf(found.effective)
    assert estimate(np.array([1.0, 0.0]), np.zeros(2), 0.0, sample_of(np.ones(2), 2)).variance == 0


def test_labels_move_p_correct_and_a_row_never_judges_itself() -> None:
    rng = np.random.default_rng(3)
    found, truth = served(rng, 800, worse=0.4)
    rows = rng.permutation(800)[:120]
    told = labelled(found, truth, rows)
    chance = cross_fitted(START, found, told)
    right = truth == found.answered
    rest = np.setdiff1d(np.arange(800), rows)
    assert abs(chance[rest].mean() - right[rest].mean()) < 0.05
    assert np.corrcoef(chance[rest], right[rest])[0, 1] > 0.6  # the embeddings know; the scores do not
    flipped = truth.copy()
    flipped[rows[0]] = 1 - flipped[rows[0]]
    again = cross_fitted(START, found, labelled(found, flipped, rows))
    assert again[rows[0]] == pytest.approx(chance[rows[0]], abs=0.05)


def test_labels_of_earlier_rows_teach_and_are_not_judged() -> None:
    rng = np.random.default_rng(19)
    before, truth_before = served(rng, 300, worse=0.4)
    found, truth = served(rng, 500, worse=0.4)
    told = labelled(found, truth, np.arange(5))
    earlier = before, labelled(before, truth_before, np.arange(300))
    right = (truth == found.answered)[5:]
    taught, alone = cross_fitted(START, found, told, earlier), cross_fitted(START, found, told)
    assert taught.shape == (500,)
    assert np.corrcoef(taught[5:], right)[0, 1] > np.corrcoef(alone[5:], right)[0, 1] + 0.1


@pytest.mark.parametrize("size", [None, 3])
def test_earlier_rows_without_embeddings_of_the_same_size_are_left_out(size: int | None) -> None:
    before, truth_before = served(np.random.default_rng(21), 50)
    found, truth = served(np.random.default_rng(22), 80)
    assert before.embedding is not None
    odd = replace(before, embedding=None if size is None else before.embedding[:, :size])
    told = labelled(found, truth, np.arange(30))
    taught = cross_fitted(START, found, told, (odd, labelled(odd, truth_before, np.arange(50))))
    np.testing.assert_array_equal(taught, cross_fitted(START, found, told))


def test_without_labels_p_correct_is_the_calibrated_score() -> None:
    found, truth = served(np.random.default_rng(4), 50)
    none = labelled(found, truth, np.zeros(0, dtype=np.int64))
    np.testing.assert_allclose(cross_fitted(START, found, none), found.score, atol=1e-6)


def test_a_truth_that_the_version_does_not_know_teaches_the_opinion_nothing() -> None:
    found, _ = served(np.random.default_rng(5), 20)
    assert found.scores is not None
    assert found.embedding is not None
    rows = np.arange(5)
    second = opinion(found.scores, found.embedding, found.answered, rows, np.full(5, -1))
    np.testing.assert_allclose(second, found.score)


def test_labels_that_arrive_for_doubtful_rows_first_are_weighted_back() -> None:
    rng = np.random.default_rng(6)
    raw, weighted = [], []
    for _ in range(100):
        score = rng.uniform(0.5, 1, 1000)
        right = (rng.random(1000) < score).astype(np.float64)
        rows = np.flatnonzero(rng.random(1000) < np.where(score < 0.7, 0.4, 0.1))
        found = proportion(right[rows], None, 0.0, arrived(score, rows).sample)
        raw.append(right[rows].mean() - right.mean())
        weighted.append(found.mean - right.mean())
    assert np.mean(raw) < -0.05
    assert np.mean(weighted) == pytest.approx(0, abs=0.012)


def test_later_draws_know_what_earlier_ones_brought() -> None:
    seq = np.arange(1, 201)
    truth = (np.random.default_rng(7).random(200) < 0.7).astype(np.float64)
    frames = [Draw(at=t, first_seq=1, last_seq=200, rate=0.2) for t in (1.0, 2.0)]
    means = []
    for seed in range(300):
        order = np.random.default_rng(seed).permutation(200)
        draw, probability = np.full(200, -1), np.full(200, np.nan)
        draw[order[:40]], probability[order[:40]] = 0, 0.2
        draw[order[40:80]], probability[order[40:80]] = 1, 40 / 160
        at = np.where(draw >= 0, draw + 1.5, np.inf)
        design = drawn(seq, at, frames, draw, probability)
        assert design is not None
        assert design.covered.all()
        means.append(proportion(truth[design.rows], None, 0.0, design.sample).mean)
    assert np.mean(means) == pytest.approx(truth.mean(), abs=0.01)


def test_rows_outside_every_draw_are_not_spoken_of() -> None:
    seq, draw = np.arange(10), np.full(10, -1)
    draw[2] = 0
    at = np.where(draw == 0, 5.0, np.inf)
    frame = [Draw(at=1.0, first_seq=0, last_seq=4, rate=0.2)]
    design = drawn(seq, at, frame, draw, np.full(10, 0.2))
    assert design is not None
    assert design.covered.tolist() == [True] * 5 + [False] * 5
    assert drawn(seq, np.full(10, np.inf), frame, draw, np.full(10, 0.2)) is None


def test_macro_f1_covers_and_says_nothing_with_few_labels_for_a_class() -> None:
    rng = np.random.default_rng(8)
    covered = []
    for _ in range(60):
        found, truth = served(rng, 600, worse=0.1)
        hits = [((found.answered == c) & (truth == c)).sum() for c in (0, 1)]
        sizes = [(found.answered == c).sum() + (truth == c).sum() for c in (0, 1)]
        actual = np.mean([2 * hit / size for hit, size in zip(hits, sizes, strict=True)])
        rows = rng.permutation(600)[:80]
        sample = sample_of(np.full(80, 80 / 600), 600)
        told = labelled(found, truth, rows)
        confused = confusion(found.answered[:0], truth[:0], 2)
        measured = macro_f1(found, told, cross_fitted(START, found, told), confused, sample, 0.05)
        assert measured is not None
        assert measured.classes == 2
        covered.append(measured.lower <= actual <= measured.upper)
    assert np.mean(covered) >= 0.95
    few = labelled(found, truth, rows[:10])
    chance = cross_fitted(START, found, few)
    assert macro_f1(found, few, chance, confused, sample_of(np.full(10, 0.1), 600), 0.05) is None


def test_slices_need_labels_and_pay_for_their_number() -> None:
    rng = np.random.default_rng(9)
    found, truth = served(rng, 400)
    truth[::2] = 1 - found.answered[::2]  # the slice "eu" is always wrong
    metadata = [{"region": ("eu", "us")[row % 2], "rare": row < 5, "load": 0.1 * row} for row in range(400)]
    rows = rng.permutation(400)[:150]
    sample = sample_of(np.full(150, 150 / 400), 400)
    told = labelled(found, truth, rows)
    chance = cross_fitted(START, found, told)
    slices = {(one.key, one.value): one for one in measure_slices(metadata, told, chance, sample, 0.05)}
    assert set(slices) == {("region", "eu"), ("region", "us"), ("rare", "False")}
    assert slices["region", "eu"].upper < 0.2 < 0.6 < slices["region", "us"].lower
    alone = measure_slices([{"region": one["region"]} for one in metadata], told, chance, sample, 0.05)
    width = {one.value: one.upper - one.lower for one in alone}
    assert width["us"] < slices["region", "us"].upper - slices["region", "us"].lower


def test_drawn_labels_are_read_back_with_their_probabilities(db: Engine) -> None:
    found, truth = served(np.random.default_rng(10), 600, worse=0.3)
    ids = store(db, found)
    asked = next_labels(db, "router", "v1", 100, 1, now=10.0)
    tell(db, ids, truth, [ids.index(one.id) for one in asked], at=20.0)
    quality = read_quality(db, "router", "v1")
    actual = (truth == found.answered).mean()
    assert (quality.state, quality.basis, quality.rows, quality.labels) == ("ok", "drawn", 600, 100)
    assert quality.lower is not None
    assert quality.upper is not None
    assert quality.lower <= actual <= quality.upper
    assert quality.labels_only is not None
    assert quality.upper - quality.lower < 0.8 * (quality.labels_only[1] - quality.labels_only[0])
    assert {(one.key, one.value) for one in quality.slices} >= {("region", "eu"), ("region", "us")}
    assert quality.macro_f1 is not None
    json.dumps(asdict(quality), allow_nan=False)


def test_labels_before_a_window_make_its_interval_sharper(db: Engine) -> None:
    found, truth = served(np.random.default_rng(23), 700, worse=0.4)
    ids = store(db, found)
    tell(db, ids, truth, np.arange(0, 300, 2), at=5.0)
    asked = next_labels(db, "router", "v1", 40, 1, now=10.0)
    told = sorted({ids.index(one.id) for one in asked} - set(range(300)))
    tell(db, ids, truth, told, at=20.0)
    assert len(read_earlier(db, "router", "v1", until_seq=300)) == 150
    assert len(read_earlier(db, "router", "v1", until_seq=0)) == 0
    taught = read_quality(db, "router", "v1", since_seq=300)
    with db.begin() as connection:
        connection.execute(delete(labels).where(labels.c.at == 5.0))
    alone = read_quality(db, "router", "v1", since_seq=300)
    assert (taught.labels, taught.rows) == (alone.labels, alone.rows)
    assert taught.lower is not None
    assert taught.upper is not None
    assert alone.lower is not None
    assert alone.upper is not None
    assert taught.upper - taught.lower < 0.9 * (alone.upper - alone.lower)
    assert taught.lower <= (truth == found.answered)[300:].mean() <= taught.upper


def test_requests_that_never_come_back_are_said(db: Engine) -> None:
    found, truth = served(np.random.default_rng(11), 300)
    ids = store(db, found)
    asked = next_labels(db, "router", "v1", 60, 1, now=10.0)
    tell(db, ids, truth, [ids.index(one.id) for one in asked[:30]], at=20.0)
    quality = read_quality(db, "router", "v1")
    assert (quality.basis, quality.labels) == ("drawn", 30)
    assert "50%" in str(quality.assumption)


def test_labels_that_merely_arrived_name_their_assumption(db: Engine) -> None:
    found, truth = served(np.random.default_rng(12), 300)
    ids = store(db, found)
    tell(db, ids, truth, np.arange(50), at=20.0)
    quality = read_quality(db, "router", "v1")
    assert (quality.basis, quality.labels, quality.rows) == ("arrived", 50, 300)
    assert "does not depend" in str(quality.assumption)


def test_a_range_holds_its_own_rows_only(db: Engine) -> None:
    found, truth = served(np.random.default_rng(13), 300)
    ids = store(db, found)
    tell(db, ids, truth, np.arange(300), at=20.0)
    quality = read_quality(db, "router", "v1", since_seq=100, until_seq=200)
    assert (quality.first_seq, quality.last_seq, quality.rows, quality.labels) == (101, 200, 100, 100)
    right = (truth == found.answered)[100:200].mean()
    assert quality.accuracy == pytest.approx(right)
    assert quality.lower == quality.upper == quality.accuracy  # every row is known


def test_rows_after_the_draw_are_not_counted(db: Engine) -> None:
    found, truth = served(np.random.default_rng(14), 200)
    ids = store(db, found)
    asked = next_labels(db, "router", "v1", 40, 1, now=10.0)
    tell(db, ids, truth, [ids.index(one.id) for one in asked], at=20.0)
    store(db, served(np.random.default_rng(15), 100)[0], first=200)
    assert read_quality(db, "router", "v1").rows == 200


@pytest.mark.parametrize("told", [0, 19])
def test_few_labels_are_no_number(db: Engine, told: int) -> None:
    found, truth = served(np.random.default_rng(16), 100)
    ids = store(db, found)
    if told:
        tell(db, ids, truth, np.arange(told), at=20.0)
    quality = read_quality(db, "router", "v1")
    assert (quality.state, quality.labels, quality.accuracy) == ("not enough data", told, None)
    assert read_quality(db, "router", "v1", since_seq=10**6).rows == 0


def test_constant_scores_and_no_similarity_and_odd_embeddings_are_measured(db: Engine) -> None:
    found, truth = served(np.random.default_rng(17), 100)
    ids = store(db, found)
    with db.begin() as connection:
        connection.execute(update(predictions).values(score=1.0, similarity=None))
        connection.execute(update(predictions).where(predictions.c.id == ids[3]).values(embedding=b""))
    tell(db, ids, truth, np.arange(40), at=20.0)
    quality = read_quality(db, "router", "v1")
    assert quality.accuracy == pytest.approx((truth == found.answered)[:40].mean(), abs=0.05)


def test_an_unknown_version_is_an_error(db: Engine) -> None:
    with pytest.raises(UnknownModelVersionError, match="v9"):
        read_quality(db, "router", "v9")


def test_a_version_without_a_reference_is_judged_by_its_scores(db: Engine) -> None:
    found, truth = served(np.random.default_rng(18), 100)
    ids = store(db, found)
    with db.begin() as connection:
        connection.exec_driver_sql("delete from reference")
    tell(db, ids, truth, np.arange(50), at=20.0)
    assert read_quality(db, "router", "v1").state == "ok"
