from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, insert, select, update
from starlette.testclient import TestClient

from exporter.blocks import catch_up
from exporter.database import open_database
from exporter.engines import open_engine
from exporter.labels import record_labels
from exporter.redact import kept_text
from exporter.registration import register
from exporter.tables import predictions, versions
from monitor.errors import SealedFileError, UnknownModelVersionError
from monitor.explain import Explanation, explain
from monitor.explain.classes import absorbing, two_proportion_p
from monitor.explain.examples import choose_examples
from monitor.explain.page import write_page
from monitor.explain.rows import Rows, sample_rows
from monitor.explain.sealed import Sealed, find_sealed, training_rows, with_texts
from monitor.explain.slices import moved_slices
from monitor.explain.store import newest_explanation, write_explanation
from monitor.explain.words import moved_words
from monitor.migrate import upgrade
from monitor.tables import checks, explanations
from monitor.web import status_app
from monitor.windows import read_reference
from tests.exporter.versions import build_version, sentence
from trainer.artifact import DataPrint, open_version
from trainer.known import of_parent
from trainer.rows import Row, write_snapshot

Loop = tuple[Engine, Path, str, int]
ROW: dict[str, Any] = {
    "model": "router",
    "role": "champion",
    "score": 0.5,
    "scores": [0.5, 0.3, 0.2],
    "tokens": 3,
    "characters": 9,
    "truncated": False,
    "queue_ms": 0.0,
    "run_ms": 1.0,
    "metadata": {},
}


def rows(
    similarity: Sequence[float] | np.ndarray[Any, Any],
    metadata: Sequence[dict[str, Any]] = (),
    right: Sequence[bool | None] | None = None,
) -> Rows:
    n = len(similarity)
    truth = [None if good is None else ("a" if good else "b") for good in right or [None] * n]
    return Rows(
        ids=tuple(map(str, range(n))),
        text=(None,) * n,
        label=("a",) * n,
        truth=tuple(truth),
        score=np.ones(n),
        similarity=np.array(similarity, dtype=float),
        embedding=None,
        metadata=tuple(metadata) or ({},) * n,
    )


# Words


def zipf_texts(rng: np.random.Generator, count: int) -> list[str]:
    """Texts of 12 words, of which few are frequent and most are rare."""
    letters = "abcdefghijklmnop"
    chosen = np.minimum(rng.zipf(1.3, (count, 12)), 4000)
    return [" ".join("w" + "".join(letters[int(d, 16)] for d in f"{w:03x}") for w in row) for row in chosen]


def test_words_of_clean_windows_are_called_moved_in_few_of_them() -> None:
    rng = np.random.default_rng(1)
    found = [moved_words(zipf_texts(rng, 300), zipf_texts(rng, 300)) for _ in range(40)]
    assert all(one.enough for one in found)
    assert sum(bool(one.rising or one.falling) for one in found) <= 5


def test_a_new_word_in_a_tenth_of_the_texts_is_found() -> None:
    rng = np.random.default_rng(2)
    before, now = zipf_texts(rng, 300), zipf_texts(rng, 300)
    now = [f"crypto {text}" if row % 10 == 0 else text for row, text in enumerate(now)]
    found = moved_words(before, now)
    assert [word.word for word in found.rising] == ["crypto"]
    assert found.rising[0].current_share == pytest.approx(0.1)


def test_a_text_that_repeats_a_word_does_not_lead() -> None:
    rng = np.random.default_rng(3)
    now = [*zipf_texts(rng, 299), "spam " * 90]
    assert not moved_words(zipf_texts(rng, 300), now).rising


def test_redaction_is_not_a_moved_word() -> None:
    raw = [f"mail me at ann{row}@example.org about my card" for row in range(60)]
    stored = [kept_text(text, "redacted") or "" for text in raw]
    found = moved_words(raw, stored)
    assert (found.rising, found.falling) == ((), ())


# Slices and classes


def test_the_share_of_a_slice_that_grew_and_the_similarity_that_fell_are_found() -> None:
    rng = np.random.default_rng(4)
    before = rows(rng.normal(0.7, 0.1, 400), [{"desk": "ab"[row % 10 == 0]} for row in range(400)])
    desks = ["ab"[row % 2] for row in range(400)]
    lower = [rng.normal(0.7 - 0.3 * (desk == "b"), 0.1) for desk in desks]
    found = moved_slices(before, rows(lower, [{"desk": desk} for desk in desks]), before.similarity)
    assert {(one.value, one.what) for one in found} == {("a", "share"), ("b", "share"), ("b", "similarity")}
    grown = next(one for one in found if (one.value, one.what) == ("b", "share"))
    assert (grown.before, grown.now, grown.rows) == (0.1, 0.5, 200)


def test_the_accuracy_of_a_slice_that_fell_is_found_and_one_that_rose_is_not() -> None:
    metadata = [{"desk": "ab"[row % 2]} for row in range(400)]
    good = [row % 10 != 0 for row in range(400)]
    mixed = [row % 4 != 0 if row % 2 == 0 else True for row in range(400)]
    before = rows([0.7] * 400, metadata, good)
    now = rows([0.7] * 400, metadata, [row % 3 != 0 if row % 2 == 0 else True for row in range(400)])
    found = moved_slices(before, now, before.similarity)
    assert [(one.value, one.what) for one in found] == [("a", "accuracy")]
    assert moved_slices(rows([0.7] * 400, metadata, mixed), before, before.similarity) == ()


def test_slices_of_clean_windows_are_called_moved_in_few_of_them() -> None:
    rng = np.random.default_rng(5)

    def clean() -> Rows:
        fields = [{"desk": str(rng.integers(10)), "site": str(rng.integers(3))} for _ in range(500)]
        return rows(rng.normal(0.7, 0.1, 500), fields, list(rng.random(500) < 0.9))

    windows = [(clean(), clean()) for _ in range(60)]
    assert sum(bool(moved_slices(before, now, before.similarity)) for before, now in windows) <= 15


def test_small_slices_and_real_numbers_are_not_tested() -> None:
    before = rows([0.7] * 100, [{"ms": 0.1 * row} for row in range(100)])
    assert (
        moved_slices(before, rows([0.1] * 100, [{"desk": str(row)} for row in range(100)]), before.similarity)
        == ()
    )


def test_no_class_absorbs_nothing() -> None:
    assert absorbing([], ["a"] * 9) == ()
    assert absorbing(["a"] * 9, []) == ()
    assert two_proportion_p(0, 10, 0, 10, two_sided=True) == 1.0


# Examples


def test_examples_stand_for_groups_and_not_for_copies() -> None:
    rng = np.random.default_rng(6)
    centres = np.eye(8)[:3]
    near = centres[rng.choice(3, 90, p=[0.6, 0.3, 0.1])] + rng.normal(0, 0.02, (90, 8))
    vectors = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)
    chosen = choose_examples(rng.uniform(0.1, 0.3, 90), vectors, moved=90, most=3)
    assert sorted(int(vectors[one.row].argmax()) for one in chosen) == [0, 1, 2]
    assert sum(one.stands_for for one in chosen) == 90
    copies = np.tile(vectors[:1], (30, 1))
    assert len(choose_examples(np.full(30, 0.2), copies, moved=30, most=5)) == 1


def test_rows_without_similarity_or_embedding_give_what_can_be_given() -> None:
    unknown = np.array([np.nan, 0.3, 0.1])
    assert [one.row for one in choose_examples(unknown, None, moved=2, most=5)] == [2, 1]
    assert choose_examples(np.array([np.nan]), None, moved=0, most=5) == []


# The whole, on a loop with real parts


NEW = ("crypto", "wallet", "ledger", "staking", "yield", "mining")


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    """v1 with its snapshot of 50 training rows; 300 known texts, then 45 of new words from a new site."""
    home = tmp_path_factory.mktemp("explain")
    db = open_database(f"sqlite:///{home}/t.db")
    upgrade(db)
    version = register(db, home, build_version(home / "built", holdout_rows=200), threads=1, now=1e9)
    training = [Row(text=f"training text {row}", label="yes") for row in range(50)]
    _, digest = write_snapshot(training, home / "data")
    sealed = find_sealed(db, "router", version)
    trained = {"data": {"sha256": digest, "rows": 50}, "spec": {"fit": {"rung": "head"}}}
    rng = np.random.default_rng(7)
    texts = [sentence(rng) for _ in range(300)] + [" ".join(rng.choice(NEW, 5)) for _ in range(45)]
    engine = open_engine(open_version(sealed.path), threads=1)
    try:
        answers = engine.run(texts)
    finally:
        engine.close()
    rows = [
        {
            **ROW,
            "id": f"p{number}",
            "version": version,
            "at": 1.7e9 + number,
            "text": text,
            "label": "yes",
            "embedding": one.embedding,
            "similarity": one.similarity,
            "metadata": {"site": "new" if number >= 300 else "old"},
        }
        for number, (text, one) in enumerate(zip(texts, answers, strict=True))
    ]
    with db.begin() as connection:
        connection.execute(update(versions).values(manifest={**sealed.manifest, **trained}))
        connection.execute(insert(predictions), rows)
    catch_up(db, "router", version)
    return db, home, version, 200


def explained(loop: Loop, **changes: Any) -> Explanation:
    db, home, version, since = loop
    with db.connect() as connection:
        last = (
            connection.execute(select(predictions.c.seq).order_by(predictions.c.seq.desc())).scalars().first()
        )
    span: dict[str, Any] = {"since_seq": since + 1, "until_seq": last} | changes
    return explain(db, home, "router", version, **span)


def test_an_explanation_names_words_slices_examples_and_classes(loop: Loop) -> None:
    found = explained(loop)
    assert found.rows == 145
    rising = {word.word for word in found.words.rising}
    assert rising == set(NEW)
    assert {("new", "share"), ("old", "share")} <= {(one.value, one.what) for one in found.slices}
    assert found.moved_share is not None
    assert len(found.examples) == 5
    assert found.notes == ()
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["model"] == "router"


def test_the_nearest_training_texts_are_those_of_the_sealed_embeddings(loop: Loop) -> None:
    db, _, version, _ = loop
    nearest = open_version(find_sealed(db, "router", version).path).nearest.astype(np.float32)
    example = explained(loop).examples[0]
    with db.connect() as connection:
        own = select(predictions.c.embedding).where(predictions.c.id == example.id)
        vector = np.frombuffer(connection.execute(own).scalar_one(), dtype="<f2").astype(np.float32)
    order = np.argsort(-(nearest @ vector))[:3]
    assert [one.text for one in example.nearest] == [f"training text {row}" for row in order]
    assert example.nearest[0].similarity == pytest.approx(float((nearest @ vector).max()), abs=1e-4)
    assert {one.label for one in example.nearest} == {"yes"}


def test_training_rows_are_those_that_the_trainer_reads_back(tmp_path: Path) -> None:
    rows = [Row(text=f"text {n}", label="ab"[n % 2], origin="base") for n in range(2100)]
    _, digest = write_snapshot(rows, tmp_path / "data")
    built = open_version(build_version(tmp_path / "built"))
    for limit, held in ((None, 2000), (30, 30)):
        spec = {"fit": {"rung": "head", "replay_rows": limit}}
        data = DataPrint(sha256=digest, rows=2100)
        version = replace(
            built,
            manifest=built.manifest.model_copy(update={"data": data, "spec": spec}),
            nearest=np.zeros((held, 4), dtype=np.float16),
        )
        theirs = list(of_parent(version, tmp_path / "data"))
        sealed = Sealed("router", "v1", built.path, version.manifest.model_dump())
        ours = training_rows(sealed, tmp_path / "data", range(held), sealed_rows=held)
        assert ours is not None
        assert [text for text, _ in ours] == theirs
        assert training_rows(sealed, tmp_path / "data", [0], sealed_rows=held + 1) is None


def test_the_sample_is_bounded_and_drawn_by_its_seed(loop: Loop) -> None:
    found = [explained(loop, since_seq=1, limit=50, seed=seed) for seed in (0, 0, 1)]
    assert [one.rows for one in found] == [50, 50, 50]
    assert found[0] == found[1]


def test_an_empty_or_tiny_window_is_not_enough_data(loop: Loop) -> None:
    none = explained(loop, since_seq=10**9, until_seq=10**9)
    assert (none.rows, none.moved_share, none.examples, none.classes) == (0, None, (), ())
    assert any("not enough data" in note for note in none.notes)
    one = explained(loop, since_seq=5, until_seq=5)
    assert (one.rows, one.moved_share, one.words.enough) == (1, None, False)


def test_without_texts_it_says_so_and_the_rest_stands(loop: Loop) -> None:
    db = loop[0]
    with db.connect() as connection, connection.begin() as undone:
        kept = {row.id: row.text for row in connection.execute(select(predictions.c.id, predictions.c.text))}
        undone.rollback()
    with db.begin() as connection:
        connection.execute(update(predictions).values(text=kept_text("x", "hash")))
    try:
        found = explained(loop)
    finally:
        with db.begin() as connection:
            for id_, text in kept.items():
                connection.execute(update(predictions).where(predictions.c.id == id_).values(text=text))
    assert any("No texts are kept" in note for note in found.notes)
    assert (found.words.rising, {one.text for one in found.examples}) == ((), {None})
    assert found.examples[0].nearest[0].text


def test_a_sealed_file_that_was_altered_is_named_and_not_believed(loop: Loop) -> None:
    db, _, version, _ = loop
    sealed = find_sealed(db, "router", version)
    path = sealed.path / "holdout.parquet"
    content = path.read_bytes()
    path.write_bytes(content + b"x")
    try:
        with pytest.raises(SealedFileError, match=r"holdout\.parquet"):
            sealed.holdout()
        found = explained(loop)
        reference = read_reference(db, "router", version)
        assert with_texts(db, reference) == reference
    finally:
        path.write_bytes(content)
    assert any("holdout.parquet" in note for note in found.notes)
    assert found.examples


def test_the_reference_has_its_sealed_texts(loop: Loop) -> None:
    db, _, version, _ = loop
    held = find_sealed(db, "router", version).holdout()
    reference = with_texts(db, read_reference(db, "router", version))
    assert reference.text == tuple(row.text for row in held if row.in_reference)


def test_an_unknown_version_is_refused(loop: Loop) -> None:
    with pytest.raises(UnknownModelVersionError):
        explain(loop[0], loop[1], "router", "v9", since_seq=1, until_seq=2)


# Both databases


def test_rows_are_sampled_by_block_on_both_databases(db: Engine, home: Path, tmp_path: Path) -> None:
    version = register(db, home, build_version(tmp_path / "made"), threads=1, now=1e9)
    vector = np.ones(16, dtype="<f2").tobytes()
    row = {**ROW, "version": version, "label": "yes", "embedding": vector}
    with db.begin() as connection:
        many = [row | {"id": f"p{n}", "at": 1e9 + n, "similarity": n / 1e3} for n in range(950)]
        connection.execute(insert(predictions), many)
        first = connection.execute(select(predictions.c.seq).order_by(predictions.c.seq)).scalars().first()
        assert first is not None
        span = {"since_seq": first + 50, "until_seq": first + 899}
        uncounted = sample_rows(connection, "router", version, **span, limit=30, seed=0)
    assert uncounted.ids[-1] == "p899"
    catch_up(db, "router", version)
    record_labels(db, [("p60", "yes"), ("p61", "no")], source="test", now=2e9)
    with db.connect() as connection:
        every = sample_rows(connection, "router", version, **span, limit=2000, seed=0)
        some = sample_rows(connection, "router", version, **span, limit=250, seed=0)
    assert (every.ids[0], every.ids[-1], every.rows) == ("p50", "p899", 850)
    assert every.correct[[10, 11]].tolist() == [1.0, 0.0]
    assert np.isnan(every.correct[12])
    assert some.rows == 250
    assert some.embedding is not None
    assert some.embedding.shape == (250, 16)


def test_an_explanation_is_kept_with_its_check_and_the_newest_of_a_model_is_shown(
    db: Engine, home: Path, tmp_path: Path
) -> None:
    version = register(db, home, build_version(tmp_path / "made"), threads=1, now=1e9)
    found = explain(db, home, "router", version, since_seq=1, until_seq=9)
    check = {
        "model": "router",
        "version": version,
        "state": "ok",
        "last_seq": 1,
        "last_label_seq": 0,
        "rows": 1,
    }
    with db.begin() as connection:
        for id_ in (1, 2):
            values = check | {"id": id_, "labelled": 0, "paged": True, "at": 0.0}
            connection.execute(insert(checks).values(**values))
            write_explanation(connection, id_, found, now=float(id_))
        write_explanation(connection, 2, found, now=5.0)
        kept = dict(connection.execute(select(explanations.c.check_id, explanations.c.content)).all())
    assert kept[1] == json.loads(json.dumps(found.to_json()))
    assert 3 not in kept
    with db.connect() as connection:
        newest = newest_explanation(connection, "router")
    assert newest is not None
    assert (newest["check"], newest["at"]) == (2, 5.0)


def test_its_page_is_small_whole_and_escaped(loop: Loop, tmp_path: Path) -> None:
    db, _, version, _ = loop
    nasty = "<script>alert(1)</script>"
    with db.begin() as connection:
        id_ = explained(loop).examples[0].id
        kept = connection.execute(select(predictions.c.text).where(predictions.c.id == id_)).scalar_one()
        connection.execute(update(predictions).where(predictions.c.id == id_).values(text=nasty))
    try:
        write_page(explained(loop), tmp_path / "7.explanation.html")
    finally:
        with db.begin() as connection:
            connection.execute(update(predictions).where(predictions.c.id == id_).values(text=kept))
    html = (tmp_path / "7.explanation.html").read_text()
    assert nasty not in html
    assert "&lt;script&gt;alert(1)" in html
    assert len(html) < 50_000
    assert [path.name for path in tmp_path.iterdir()] == ["7.explanation.html"]
    assert version in html


def test_the_status_page_shows_the_newest_explanation_and_links_its_page(loop: Loop) -> None:
    db, home, version, _ = loop
    found = explained(loop)
    check = {"model": "router", "version": version, "state": "drift", "last_seq": 345, "last_label_seq": 0}
    values = check | {
        "id": 7,
        "rows": 145,
        "labelled": 0,
        "paged": True,
        "at": 0.0,
        "report": "router-v1-345.html",
    }
    with db.begin() as connection:
        connection.execute(insert(checks).values(**values))
        write_explanation(connection, 7, found, now=1.7e9)
    write_page(found, home / "reports" / "router-v1-345.explanation.html")
    client = TestClient(status_app(db, home, hosts=["testserver"]))
    page = client.get("/models/router").text
    assert "What moved: check 7" in page
    assert found.words.rising[0].word in page
    assert str(found.examples[0].nearest[0].text) in page
    assert 'href="/reports/7/explanation"' in page
    alone = client.get("/reports/7/explanation")
    assert alone.headers["content-security-policy"].startswith("sandbox")
    assert found.words.rising[0].word in alone.text
    assert client.get("/reports/7/other").status_code == 404
    assert client.get("/reports/7/quality").status_code == 404
