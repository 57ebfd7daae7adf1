"""Versions that differ in their heads alone have one session together, and each answers by its own head."""

from __future__ import annotations

import gc
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest

from exporter.engines import Engine, open_engine
from exporter.memory import held_bytes
from exporter.sessions import CPU, open_session
from tests.exporter.versions import build_version
from trainer.artifact import MODEL, Manifest, Version, open_version, seal
from trainer.head import Head
from trainer.splice import read_head, splice, without_head

TEXTS = ["where is my card", "refund", "a lost account " * 9, ""]


def grown(parent: Path, folder: Path, head: Head, labels: list[str]) -> Version:
    """A version with another head, as a head retrain makes it."""
    shutil.copytree(parent, folder)
    manifest = Manifest.model_validate_json((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").unlink()
    (folder / MODEL).write_bytes(splice((parent / MODEL).read_bytes(), head))
    seal(folder, manifest.model_copy(update={"labels": labels, "files": {}}))
    return open_version(folder)


@pytest.fixture
def first(tmp_path: Path) -> Version:
    """Its graph has the head that `splice` makes."""
    built = build_version(tmp_path / "built")
    width = open_version(built).nearest.shape[1]
    head = Head(weight=np.eye(3, width, dtype=np.float32), bias=np.zeros(3, dtype=np.float32))
    return grown(built, tmp_path / "v1", head, ["yes", "no", "maybe"])


@pytest.fixture
def second(first: Version, tmp_path: Path) -> Version:
    head = read_head(first.graph(MODEL))
    weight = np.vstack([-2 * head.weight, head.weight[:1]]).astype(np.float32)
    return grown(
        first.path, tmp_path / "v2", Head(weight=weight, bias=np.arange(4, dtype=np.float32)), list("abcd")
    )


def opened(version: Version) -> Engine:
    return open_engine(version, threads=1)


def test_one_session_answers_by_the_head_of_each_as_its_sealed_graph_does(
    first: Version, second: Version
) -> None:
    engines = [opened(first), opened(second)]
    assert engines[0].encoder is engines[1].encoder
    for version, engine in zip((first, second), engines, strict=True):
        assert set(engine.labels) == set(version.manifest.labels)
        session = open_session(version, CPU, 1, MODEL)
        for text, answer in zip(TEXTS, engine.run(TEXTS), strict=True):
            ids = np.array([engine.encode([text])[0].ids or [0]])
            given = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
            logits, _ = session.run(("logits", "embedding"), given)
            assert answer.label == version.manifest.labels[int(logits[0].argmax())]
            assert engine.run([text]) == [answer]


def test_another_encoder_is_another_session_and_one_goes_with_its_last_version(
    first: Version, second: Version, tmp_path: Path
) -> None:
    other = opened(open_version(build_version(tmp_path / "other", seed=1)))
    engines = [opened(first), opened(second)]
    assert other.encoder is not engines[0].encoder
    engines.pop(0).close()
    kept = engines[0].encoder
    gc.collect()
    again = opened(first)
    assert again.encoder is kept
    assert kept is not None
    seen = weakref.ref(kept)
    del kept
    for engine in (again, engines.pop()):
        engine.close()
    gc.collect()
    assert seen() is None


def test_a_graph_whose_logits_are_made_otherwise_stays_whole(tmp_path: Path) -> None:
    built = open_version(build_version(tmp_path / "v"))
    assert without_head(built.graph(MODEL)) is None
    assert opened(built).encoder is not opened(built).encoder


def test_what_several_have_in_common_counts_once(first: Version, second: Version) -> None:
    engines = [opened(first), opened(second)]
    assert engines[0].encoder is not None
    engines[0].encoder.memory_bytes = 100
    assert held_bytes((5, engine.encoder) for engine in engines) == 110
