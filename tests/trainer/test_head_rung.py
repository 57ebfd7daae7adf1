"""A new head on the parent's graph: no encoder pass where embeddings are known, no torch, no export."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainer.artifact import Version, open_version
from trainer.graph import Graph
from trainer.head import Head
from trainer.known import PROBES, of_parent, read_known, trusted, write_known
from trainer.rows import HoldoutRow, Row, write_holdout, write_snapshot
from trainer.spec import EvaluateTable, TrainSpec
from trainer.splice import splice
from trainer.tokens import encode, tokenizer
from trainer.train import DataRef, Parent, Progress, train, write_request

SpecFor = Callable[..., TrainSpec]
NEW = [Row(text=f"brass {word} bell", label="brass", origin="traffic") for word in ("the", "a", "of", "was")]


def _train(
    spec: TrainSpec, rows: list[Row], out: Path, *, parent: Parent | None, seen: list[Progress] | None = None
) -> Version:
    snapshot, digest = write_snapshot(rows, out.parent / "data")
    made = train(
        spec,
        train_rows=rows,
        holdout=[HoldoutRow(text=row.text, label=row.label) for row in rows[-10:]],
        data=DataRef(sha256=digest, rows=len(rows), path=snapshot),
        out=out,
        cache=out.parent / "cache",
        parent=parent,
        progress=(seen if seen is not None else []).append,
        now=0.0,
    )
    return open_version(made)


@pytest.fixture(scope="module", params=["head", "adapter"])
def parent(
    request: pytest.FixtureRequest, base: Path, rows: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> Version:
    spec = TrainSpec.model_validate(
        {
            "model": {"name": "toy", "base": str(base), "max_tokens": 16},
            "data": {"train": "toy.jsonl"},
            "fit": {"rung": request.param, "threads": 1, "batch_size": 8},
        }
    )
    return _train(spec, rows, tmp_path_factory.mktemp("made") / "parent", parent=None)


def _ids(base: Path, rows: list[Row]) -> list[list[int]]:
    return encode(tokenizer(base / "tokenizer.json", 16), [row.text for row in rows])


def test_a_retrained_head_keeps_the_parents_encoder_and_learns_what_the_labels_mean_now(
    parent: Version, spec_for: SpecFor, rows: list[Row], base: Path, tmp_path: Path
) -> None:
    swapped = [replace(row, label={"fruit": "metal", "metal": "fruit"}[row.label]) for row in rows]
    child = _train(
        spec_for(rung="head"),
        [*swapped, *NEW],
        tmp_path / "child",
        parent=Parent(name="v1", folder=parent.path),
    )
    assert (child.manifest.labels, child.manifest.parent) == (["brass", "fruit", "metal"], "v1")
    ids = _ids(base, rows)
    before, after = (Graph(version.model_bytes, threads=1).answers(ids) for version in (parent, child))
    assert np.array_equal(before[1], after[1])  # the same embeddings, to the last bit
    said = [child.manifest.labels[number] for number in after[0].argmax(axis=1)]
    assert np.mean([label == row.label for label, row in zip(said, swapped, strict=True)]) >= 0.9
    assert child.manifest.parity.max_abs < 1e-4


def test_known_texts_are_not_embedded_again(
    parent: Version, spec_for: SpecFor, rows: list[Row], tmp_path: Path
) -> None:
    graph = Graph(parent.model_bytes, threads=1)
    cut = tokenizer(Path(parent.path) / "tokenizer.json", 16)
    embeddings = graph.answers(encode(cut, [row.text for row in NEW]))[1]
    known = tmp_path / "known.parquet"
    write_known(
        [(row.text, one.astype("<f2").tobytes()) for row, one in zip(NEW, embeddings, strict=True)], known
    )
    spec = spec_for(rung="head").model_copy(update={"evaluate": EvaluateTable(tokens=0)})
    seen: dict[bool, list[Progress]] = {}
    made = {}
    for told in (False, True):
        seen[told] = []
        made[told] = _train(
            spec,
            [*rows, *NEW],
            parent.path.parent / f"child-{told}",  # beside its snapshot
            parent=Parent(name="v1", folder=parent.path, known=known if told else None),
            seen=seen[told],
        )
    embedded = {
        told: sum(one.done for one in found if one.stage == "fit" and one.done == one.total)
        for told, found in seen.items()
    }
    assert embedded == {False: PROBES + len(NEW), True: PROBES}
    heads = [
        Graph(one.model_bytes, threads=1).answers(encode(cut, ["apple the zinc"]))[0] for one in made.values()
    ]
    assert np.abs(heads[0] - heads[1]).max() < 0.05  # float16 instead of float32 embeddings of four rows


def test_embeddings_of_another_encoder_are_not_trusted(parent: Version, rows: list[Row], base: Path) -> None:
    graph = Graph(parent.model_bytes, threads=1)

    def embed(texts: object) -> np.ndarray:
        return graph.answers(encode(tokenizer(base / "tokenizer.json", 16), list(texts)))[1]  # type: ignore[call-overload]

    snapshots = parent.path.parent / "data"
    known = of_parent(parent, snapshots)
    assert len(known) == len({row.text for row in rows})
    assert trusted(known, embed) == known
    assert trusted({text: np.roll(one, 1) for text, one in known.items()}, embed) == {}
    assert trusted({text: one[:4] for text, one in known.items()}, embed) == {}
    assert of_parent(parent, snapshots / "gone") == {}


def test_known_embeddings_survive_the_file(tmp_path: Path) -> None:
    vector = np.array([0.5, -0.25], dtype="<f2")
    write_known([("a", b"\0\0\0\0"), ("a", vector.tobytes())], tmp_path / "known.parquet")
    assert read_known(tmp_path / "known.parquet")["a"].tolist() == [0.5, -0.25]


def test_a_spliced_graph_has_one_head_whatever_was_there(parent: Version) -> None:
    import onnx

    head = Head(weight=np.eye(5, 32, dtype=np.float32), bias=np.arange(5, dtype=np.float32))
    once = splice(parent.model_bytes, head)
    assert splice(once, head) == once
    graph = onnx.load_model_from_string(once).graph
    assert [output.name for output in graph.output] == ["logits", "embedding"]
    assert sum(tensor.name.startswith("head.") for tensor in graph.initializer) == 2
    logits, embedding = Graph(once, threads=1).run([[2, 5, 3]])
    assert np.allclose(logits, embedding[:, :5] + np.arange(5), atol=1e-6)


def test_a_parent_of_another_length_is_not_built_on(
    spec_for: SpecFor, rows: list[Row], tmp_path: Path
) -> None:
    parent = _train(spec_for(rung="head"), rows, tmp_path / "parent", parent=None)
    spec = spec_for(rung="head")
    longer = spec.model_copy(update={"model": spec.model.model_copy(update={"max_tokens": 20})})
    child = _train(longer, rows, tmp_path / "child", parent=Parent(name="v1", folder=parent.path))
    assert child.manifest.max_tokens == 20


def test_a_damaged_graph_in_the_cache_is_exported_again(
    spec_for: SpecFor, rows: list[Row], tmp_path: Path
) -> None:
    first = _train(spec_for(rung="head"), rows, tmp_path / "first", parent=None)
    (graph,) = (tmp_path / "cache" / "graphs").glob("*/model.onnx")
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    again = _train(spec_for(rung="head"), rows, tmp_path / "again", parent=None)
    assert again.manifest.files["model.onnx"] == first.manifest.files["model.onnx"]


def test_a_head_on_a_parent_needs_no_torch(spec_for: SpecFor, rows: list[Row], tmp_path: Path) -> None:
    parent = _train(spec_for(rung="head"), rows, tmp_path / "parent", parent=None)
    snapshot, digest = write_snapshot([*rows, *NEW], tmp_path / "data")
    write_holdout([HoldoutRow(text=row.text, label=row.label) for row in rows], tmp_path / "h.parquet")
    write_request(
        tmp_path / "request.json",
        spec_for(rung="head"),
        train=snapshot,
        holdout=tmp_path / "h.parquet",
        sha256=digest,
        parent=Parent(name="v1", folder=parent.path),
        cache=tmp_path / "cache",
    )
    code = (
        "import sys; from trainer.__main__ import main; status = main(sys.argv[1:]); "
        "heavy = {'torch', 'transformers', 'peft'} & set(sys.modules); "
        "print(status, sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "request.json"), str(tmp_path / "child")],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.stderr.splitlines()[-1] == "0 []", done.stdout
    assert json.loads(done.stdout.splitlines()[-1])["stage"] == "done"


def test_rows_that_the_data_gate_drops_are_not_learnt_and_the_manifest_says_so(
    spec_for: SpecFor, rows: list[Row], tmp_path: Path
) -> None:
    spec = spec_for(rung="head")
    dropping = spec.model_copy(
        update={"data": spec.data.model_copy(update={"on_finding": {"conflicting_labels": "drop"}})}
    )
    stale = [Row(text=row.text, label="brass", at=1.0) for row in rows[:2]]
    wrong = [*stale, *(replace(row, at=2.0) for row in rows)]
    made = _train(dropping, wrong, tmp_path / "made", parent=None)
    assert made.manifest.dropped == [0, 1]
    assert "brass" not in made.manifest.labels
    assert {one["kind"]: one["action"] for one in made.manifest.findings}["conflicting_labels"] == "drop"
    assert of_parent(made, tmp_path / "data").keys() == {row.text for row in rows}
    for text, embedding in of_parent(made, tmp_path / "data").items():
        fresh = Graph(made.model_bytes, threads=1).answers(
            encode(tokenizer(tmp_path / "made" / "tokenizer.json", 16), [text])
        )[1][0]
        assert float(fresh @ embedding.astype(np.float32)) > 0.999
