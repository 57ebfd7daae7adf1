from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, create_engine, insert

from exporter.tables import blocks, labels, metadata, predictions, reference, versions
from monitor.errors import NoReferenceError, UnknownModelVersionError
from monitor.windows import Window, read_labelled, read_reference, read_sample


@pytest.fixture
def db(tmp_path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{tmp_path / 'trueup.db'}")
    metadata.create_all(engine)
    with engine.begin() as connection:
        for number in (1, 2):
            connection.execute(
                insert(versions).values(
                    model="router",
                    version=f"v{number}",
                    number=number,
                    state="candidate",
                    path="",
                    created_at=0.0,
                    manifest_sha256="",
                    manifest={"labels": ["billing", "tech"]},
                )
            )
    return engine


def predict(
    db: Engine, count: int, *, version: str = "v1", start: int = 0, similarity: float | None = 0.5
) -> None:
    rows: list[dict[str, object]] = [
        {
            "id": f"{version}-{n}",
            "model": "router",
            "version": version,
            "role": "champion",
            "at": 100.0 + n,
            "text": f"text {n}",
            "label": "tech" if n % 2 else "billing",
            "score": 0.9,
            "scores": [0.1, 0.9],
            "embedding": b"",
            "similarity": similarity,
            "tokens": 3,
            "characters": 9,
            "truncated": False,
            "queue_ms": 0.0,
            "run_ms": 0.0,
            "metadata": {},
        }
        for n in range(start, start + count)
    ]
    with db.begin() as connection:
        connection.execute(insert(predictions), rows)


def label(db: Engine, *pairs: tuple[str, str]) -> None:
    with db.begin() as connection:
        for id_, name in pairs:
            connection.execute(insert(labels).values(prediction_id=id_, label=name, source="test", at=0.0))


def sample(db: Engine, version: str, first_seq: int, last_seq: int) -> Window:
    return read_sample(db, "router", version, first_seq=first_seq, last_seq=last_seq, rows=100, seed=0)


def test_a_window_is_the_rows_from_one_serial_number_to_another(db: Engine) -> None:
    predict(db, 7)
    first = sample(db, "v1", 1, 3)
    assert first.ids == ("v1-0", "v1-1", "v1-2")
    second = sample(db, "v1", first.last_seq + 1, first.last_seq + 3)
    assert second.ids == ("v1-3", "v1-4", "v1-5")
    assert (second.start_at, second.end_at) == (103.0, 105.0)
    assert sample(db, "v1", second.last_seq + 1, second.last_seq + 3).ids == ("v1-6",)


def test_a_window_holds_one_version_only(db: Engine) -> None:
    predict(db, 3)
    predict(db, 3, version="v2")
    window = sample(db, "v2", 1, 6)
    assert set(window.ids) == {"v2-0", "v2-1", "v2-2"}


def test_arrays_have_the_shapes_that_detectors_expect(db: Engine) -> None:
    predict(db, 4, similarity=None)
    label(db, ("v1-1", "tech"), ("v1-2", "tech"), ("v1-3", "nonsense"))
    window = sample(db, "v1", 1, 4)
    assert window.scores.shape == (4, 2)
    assert window.label_index.tolist() == [0, 1, 0, 1]
    assert np.isnan(window.similarity).all()
    assert window.truth == (None, "tech", "tech", "nonsense")
    np.testing.assert_array_equal(window.correct, [np.nan, 1.0, 0.0, 0.0])
    assert window.labelled == 3
    assert window.accuracy == pytest.approx(1 / 3)


def test_labels_are_read_once_in_the_order_in_which_they_came(db: Engine) -> None:
    predict(db, 5)
    label(db, ("v1-4", "billing"), ("v1-0", "tech"))
    first = read_labelled(db, "router", "v1", after_label_seq=0)
    assert first.ids == ("v1-4", "v1-0")
    assert first.accuracy == 0.5
    label(db, ("v1-1", "tech"))
    assert read_labelled(db, "router", "v1", after_label_seq=first.last_seq).ids == ("v1-1",)


def test_without_new_labels_the_window_is_empty_and_the_place_is_kept(db: Engine) -> None:
    predict(db, 2)
    nothing = read_labelled(db, "router", "v1", after_label_seq=17)
    assert (nothing.rows, nothing.last_seq, nothing.accuracy, nothing.start_at) == (0, 17, None, None)
    assert nothing.scores.shape == (0, 2)


def test_the_reference_leaves_out_rows_kept_for_other_tests(db: Engine) -> None:
    common = {
        "model": "router",
        "version": "v1",
        "label": "tech",
        "score": 0.8,
        "scores": [0.2, 0.8],
        "tokens": 2,
        "characters": 4,
        "similarity": 0.4,
    }
    with db.begin() as connection:
        for row, used in enumerate((False, True, True)):
            connection.execute(insert(reference).values(row=row, in_reference=used, truth="tech", **common))
    window = read_reference(db, "router", "v1")
    assert (window.rows, window.first_seq, window.last_seq, window.accuracy) == (2, 1, 2, 1.0)
    assert window.start_at is None


def test_a_version_without_a_reference_is_an_error_that_names_the_mend(db: Engine) -> None:
    with pytest.raises(NoReferenceError, match="register it again"):
        read_reference(db, "router", "v1")


def test_an_unknown_version_is_an_error(db: Engine) -> None:
    with pytest.raises(UnknownModelVersionError, match="v9"):
        read_labelled(db, "router", "v9", after_label_seq=0)


def test_a_sample_is_whole_blocks_of_the_window_and_the_same_in_every_run(db: Engine) -> None:
    predict(db, 500)
    with db.begin() as connection:
        spans = [{"first_seq": 1 + start, "last_seq": 100 + start} for start in range(0, 500, 100)]
        common = {"model": "router", "version": "v1", "rows": 100, "hour": 0, "start_at": 0.0, "end_at": 0.0}
        connection.execute(insert(blocks), [common | span | {"sketch": "", "counts": b""} for span in spans])
    drawn = [
        read_sample(db, "router", "v1", first_seq=51, last_seq=500, rows=200, seed=seed) for seed in (0, 0, 1)
    ]
    assert drawn[0].ids == drawn[1].ids != drawn[2].ids
    assert all(100 < found.rows <= 200 and found.first_seq >= 51 for found in drawn)
    assert read_sample(db, "router", "v1", first_seq=51, last_seq=500, rows=600, seed=0).rows == 450
