"""The int8 engine: chosen by the manifest, and no answer of it depends on batch mates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from exporter.engines import open_engine, usable
from exporter.errors import NoEngineError
from exporter.graph_engine import PADDED, PADDING_FREE_INT8, open_graph
from exporter.packing import ALONE
from exporter.sessions import CPU, open_session
from exporter.speed import bare_run, largest_difference, mixed_texts, read
from tests.benchmarks.int8 import with_int8
from tests.exporter.test_cpu_engine import assert_batch_invariant
from tests.exporter.test_cpu_engine import mixed_texts as mixed
from tests.exporter.versions import HIDDEN, build_version
from trainer.artifact import INT8, Version, open_version
from trainer.errors import VersionRefusedError
from trainer.quantise import quantise


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("int8")
    return with_int8(build_version(folder / "built"), folder / "v")


@pytest.fixture(scope="module")
def version(directory: Path) -> Version:
    return open_version(directory)


def test_the_fastest_engine_that_was_proven_answers(version: Version) -> None:
    assert open_engine(version, threads=1).name == "cpu-int8"
    assert open_engine(version, threads=1, precision="fp32").name == "cpu-fp32"


def test_a_refused_engine_is_passed_over(version: Version) -> None:
    refused = version.manifest.engines["cpu-int8"].model_copy(update={"refused": "labels agree on 99.1 %"})
    engines = version.manifest.engines | {"cpu-int8": refused}
    manifest = version.manifest.model_copy(update={"engines": engines})
    assert open_engine(replace(version, manifest=manifest), threads=1).name == "cpu-fp32"


def test_a_version_of_an_earlier_release_is_served_in_fp32(tmp_path: Path) -> None:
    earlier = open_version(build_version(tmp_path / "v"))
    assert usable(earlier.manifest.engines) == ["cpu-fp32", "cuda-fp32"]
    assert open_engine(earlier, threads=1).name == "cpu-fp32"


def test_no_engine_that_may_serve_is_named(version: Version) -> None:
    manifest = version.manifest.model_copy(
        update={"engines": {"cpu-int8": version.manifest.engines["cpu-int8"]}}
    )
    with pytest.raises(NoEngineError, match="cpu-int8"):
        open_engine(replace(version, manifest=manifest), threads=1, precision="fp32")


def test_a_manifest_that_names_a_graph_which_is_not_there_is_refused(version: Version) -> None:
    with pytest.raises(VersionRefusedError, match=r"no model\.int8"):
        open_engine(replace(version, variants={}), threads=1)


def test_an_int8_answer_never_depends_on_batch_mates(version: Version) -> None:
    engine = open_engine(version, threads=2)
    assert_batch_invariant(engine, mixed(120))
    assert largest_difference(engine, mixed(30)) == 0.0


def test_a_graph_that_mixes_its_rows_is_found_out_and_runs_them_alone(version: Version) -> None:
    assert open_engine(version, threads=1).packing == ALONE


def test_a_graph_with_a_scale_for_each_token_shares_micro_batches(version: Version) -> None:
    ids = [[2, 5, 3, 7], [2, 9, 3], [2, 4, 4, 4, 4, 3]]
    built = quantise(_with_a_product(version.model_bytes), ids, threads=1)
    own = replace(version, variants={INT8: built})
    engine = open_engine(own, threads=2)
    assert (engine.name, engine.packing) == ("cpu-int8", PADDING_FREE_INT8)
    assert_batch_invariant(engine, mixed(120))
    assert largest_difference(engine, mixed(40)) == 0.0


def _with_a_product(content: bytes) -> bytes:
    """The tiny graph with a layer between its embeddings and their mean: something to round."""
    model = onnx.load_model_from_string(content)
    model.opset_import[0].version = 20
    model.opset_import.add(domain="com.microsoft", version=1)
    weight = np.random.default_rng(0).normal(size=(HIDDEN, HIDDEN)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "layer"))
    model.graph.node[0].output[0] = "looked_up"
    model.graph.node.insert(1, onnx.helper.make_node("MatMul", ["looked_up", "layer"], ["states"]))
    return bytes(model.SerializeToString())


def test_the_same_graph_in_batches_would_depend_on_them(version: Version) -> None:
    """Otherwise the test above could not fail."""
    batched = open_graph(version, name="x", provider=CPU, threads=1, file=INT8, packing=PADDED)
    assert largest_difference(batched, mixed(60)) > 0.0


def test_the_bare_session_and_the_mixed_texts_that_it_is_timed_on(version: Version) -> None:
    texts = mixed_texts(version, 40)
    assert texts == mixed_texts(version, 40)
    ids = read(version, texts)
    assert 2 < len({len(one) for one in ids}) <= version.manifest.max_tokens
    found = bare_run(version, ids, threads=2)()
    assert isinstance(found, list)
    logits = np.concatenate([one[0] for one in found])
    assert sorted(logits.argmax(1)) == sorted(
        version.manifest.labels.index(one.label)
        for one in open_engine(version, threads=1, precision="fp32").run(texts)
    )


def test_sessions_do_not_spin(version: Version) -> None:
    options = open_session(version, CPU, 1, INT8).get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.intra_op_num_threads == 1
