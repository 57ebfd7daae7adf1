"""The padding-free engine: the code that runs on a GPU, here over the executable reference of its graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

from exporter.buckets import Bucket, Buckets, buckets
from exporter.engines import device_problem, open_engine
from exporter.errors import DeviceError
from exporter.gpu import devices
from exporter.graph_engine import open_graph
from exporter.packed_engine import PackedEngine
from exporter.packing import micro_batches
from exporter.sessions import CPU
from exporter.speed import largest_difference
from tests.exporter.test_cpu_engine import assert_batch_invariant
from tests.exporter.versions import HIDDEN, MAX_TOKENS, build_version, sentence
from trainer.artifact import PACKED, EngineFile, Version, open_version
from trainer.export import export_packed
from trainer.fit import Fitted
from trainer.head import Head
from trainer.packed_reference import PackedReference


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """A tiny version that has a padding-free graph of a real BERT of random weights as well."""
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("packed")
    plain = open_version(build_version(folder / "v"))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=300, hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=32, max_position_embeddings=MAX_TOKENS, initializer_range=0.3,
    )  # fmt: skip
    encoder = transformers.BertModel(config).eval().requires_grad_(False)
    head = Head(weight=np.random.default_rng(0).normal(size=(3, HIDDEN)).astype("f4"), bias=np.ones(3, "f4"))
    made = Fitted(encoder=encoder, head=head, labels=plain.manifest.labels, embeddings=np.zeros((1, HIDDEN)))
    export_packed(made, folder / PACKED)
    engines = {"cuda-fp16-packed": EngineFile(file=PACKED, precision="fp16"), **plain.manifest.engines}
    manifest = plain.manifest.model_copy(update={"engines": engines})
    return replace(plain, manifest=manifest, variants={PACKED: (folder / PACKED).read_bytes()})


@pytest.fixture(scope="module")
def engine(version: Version) -> Iterator[PackedEngine]:
    made = open_graph(
        version, name="cuda-fp16-packed", provider=CPU, threads=2, file=PACKED, kind=PackedEngine
    )
    assert isinstance(made, PackedEngine)
    yield made
    made.close()


def texts(count: int) -> list[str]:
    draw = np.random.default_rng(5)
    return ["", "x", "é" * 500, "\ufffd", *(sentence(draw, longest=14) for _ in range(count - 4))]


def test_answers_are_those_of_the_graph(version: Version, engine: PackedEngine) -> None:
    asked = texts(60)
    encoded = engine.encode(asked)
    logits, embedding = PackedReference(version.variants[PACKED], threads=1).run([one.ids for one in encoded])
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    nearest = version.nearest.astype("f4")
    for answer, share, own, tokens in zip(engine.run(asked), shares, embedding, encoded, strict=True):
        assert np.allclose(answer.scores, share, atol=2e-3)
        assert answer.similarity == pytest.approx(float((nearest @ own).max()), abs=2e-3)
        assert (answer.tokens, answer.truncated) == (len(tokens.ids), tokens.truncated)


def test_an_answer_never_depends_on_batch_mates(engine: PackedEngine) -> None:
    assert_batch_invariant(engine, texts(80))
    assert largest_difference(engine, texts(30)) == 0.0


def test_buckets_that_round_differently_are_not_used_together(
    version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where another number of tokens may mean another kernel."""

    def rounding(run: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda given: [part + np.float32(1e-6) for part in run(given)]

    class Rounding(PackedEngine):
        def _load(self, *given: Any) -> str:
            found = super()._load(*given)
            for size, bound in self._graphs[0]._bound.items():
                if size.tokens > 128:
                    monkeypatch.setattr(bound, "run", rounding(bound.run))
            return found

    made = open_graph(version, name="x", provider=CPU, threads=1, file=PACKED, kind=Rounding)
    assert isinstance(made, Rounding)
    assert {one.tokens > 128 for one in made._graphs[0].sizes} == {True}
    assert_batch_invariant(made, texts(20))
    made.close()


@pytest.mark.parametrize("max_tokens", [16, 128, 300])
def test_any_micro_batch_has_a_bucket(max_tokens: int) -> None:
    sizes = buckets(max_tokens, budget=2048)
    engine = object.__new__(PackedEngine)
    engine._graphs = []
    engine.allow(sizes)
    draw = np.random.default_rng(0)
    for longest in (1, 3, max_tokens):
        for count in (1, 7, 900):
            lengths = draw.integers(1, longest + 1, count).tolist()
            for batch in micro_batches(lengths, engine.packing):
                own = [lengths[place] for place in batch]
                size = next(one for one in sizes if one.holds(own))
                given = size.laid_out([[5] * length for length in own])
                assert given["input_ids"].shape == given["position_ids"].shape == (size.tokens,)
                assert given["token_offset"].shape == (size.texts, size.longest)
                assert sorted(given["token_offset"].ravel()) == list(range(size.texts * size.longest))
                ends = given["cu_seqlens"]
                assert ends.shape == (size.texts + 1,)
                assert np.diff(ends)[: len(own)].tolist() == own
                assert 0 <= np.diff(ends).min() <= np.diff(ends).max() <= size.longest
                assert ends[:-1].max() < ends[-1] == size.tokens  # each text begins at a token


def test_a_bucket_for_which_there_is_no_memory_is_left_out() -> None:
    class Session:
        """Has room for 256 tokens."""

        def io_binding(self) -> Session:
            return self

        def bind_ortvalue_input(self, name: str, value: Any) -> None:
            if name == "input_ids":
                self.tokens = value.shape()[0]

        def bind_ortvalue_output(self, name: str, value: Any) -> None:
            pass

        def run_with_iobinding(self, binding: object, options: object) -> None:
            if self.tokens > 256:
                raise MemoryError

    widths: Mapping[str, int] = {"logits": 3, "embedding": 4, "similarity": 0}
    made = Buckets(Session(), buckets(64, budget=1024), widths, device="cpu")
    assert made.sizes == [Bucket(128, 64), Bucket(256, 64)]
    made.close()
    with pytest.raises(MemoryError):
        Buckets(Session(), [Bucket(512, 64)], widths, device="cpu")


def test_every_node_of_the_graph_has_a_kernel_that_a_cuda_graph_can_capture(version: Version) -> None:
    """What computes shapes or branches would run on the processor, and CUDA graphs would be refused."""
    graph = onnx.load_model_from_string(version.variants[PACKED]).graph
    kinds = {node.op_type for node in graph.node}
    assert not kinds & {"If", "Loop", "Scan", "NonZero", "Range", "Where", "ConstantOfShape"}
    shapes = {name for node in graph.node if node.op_type == "Shape" for name in node.output}
    readers = {node.op_type for node in graph.node if shapes & set(node.input)}
    assert readers <= {"Expand", "Reshape"}  # kernels on the GPU that take a shape from the processor


def test_a_gpu_that_is_not_there_is_told_with_the_mend(version: Version) -> None:
    if device_problem("cuda") is None:
        assert devices() >= 1
        assert_batch_invariant(open_engine(version, threads=1, device="cuda"), texts(60))
        return
    assert devices() == 0
    with pytest.raises(DeviceError, match=r"trueup\[gpu\]"):
        open_engine(version, threads=1, device="cuda")
