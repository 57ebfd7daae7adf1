from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from tokenizers import Tokenizer, processors

from exporter.engines import Engine, device_problem, open_engine
from exporter.errors import DeviceError, NoEngineError
from tests.exporter.versions import HIDDEN, MAX_TOKENS, build_version, sentence
from trainer.artifact import MODEL, EngineFile, Version, open_version
from trainer.errors import VersionRefusedError
from trainer.settings import default_cache


@pytest.fixture
def version(tmp_path: Path) -> Version:
    return open_version(build_version(tmp_path / "v"))


def mixed_texts(count: int) -> list[str]:
    rng = np.random.default_rng(3)
    return ["", "x", "é" * 500, "\ufffd", *(sentence(rng, longest=40) for _ in range(count - 4))]


def assert_batch_invariant(engine: Engine, texts: list[str]) -> None:
    """Bit for bit: alone, all together, and in another order among half of the others."""
    alone = [engine.run([text])[0] for text in texts]
    assert engine.run(texts) == alone
    shuffled = np.random.default_rng(0).permutation(len(texts))[: len(texts) // 2]
    assert engine.run([texts[n] for n in shuffled]) == [alone[n] for n in shuffled]


@pytest.mark.parametrize(("pooling", "reach"), [("matmul", 4), ("sum", 4), ("padded", 0)])
def test_an_answer_never_depends_on_batch_mates(
    tmp_path: Path, pooling: Literal["matmul", "sum", "padded"], reach: int
) -> None:
    """Texts of unlike length share a micro-batch only where the graph's bits do not show the padding."""
    built = open_version(build_version(tmp_path / "built", pooling=pooling))
    engine = open_engine(built, threads=2)
    assert engine.packing.reach == reach
    assert_batch_invariant(engine, mixed_texts(200))


def test_an_answer_of_the_real_encoder_never_depends_on_batch_mates() -> None:
    directory = Path(os.environ.get("TRUEUP_REAL_VERSION", default_cache() / "bench-version"))
    if not (directory / "manifest.json").exists():
        pytest.skip("no trained version in the cache: `make bench` makes one")
    assert_batch_invariant(open_engine(open_version(directory), threads=2), mixed_texts(48))


def test_an_answer_is_complete(version: Version) -> None:
    (answer,) = open_engine(version, threads=1).run(["where is my card"])
    assert sum(answer.scores) == pytest.approx(1.0, abs=1e-6)
    assert answer.score == max(answer.scores)
    embedding = np.frombuffer(answer.embedding, dtype="<f2").astype(np.float32)
    assert embedding.shape == (HIDDEN,)
    assert np.linalg.norm(embedding) == pytest.approx(1.0, abs=1e-2)
    assert answer.similarity == pytest.approx((version.nearest @ embedding).max(), abs=1e-2)
    assert answer.tokens == len("where is my card") + 2
    assert not answer.truncated


def test_a_long_text_is_cut_and_says_so(version: Version) -> None:
    (answer,) = open_engine(version, threads=1).run(["x" * 1000])
    assert (answer.tokens, answer.truncated) == (MAX_TOKENS, True)


def test_a_text_of_no_tokens_at_all_is_answered(version: Version) -> None:
    """As of a tokenizer that adds no special tokens."""
    plain = Tokenizer.from_str(version.tokenizer_bytes.decode())
    plain.post_processor = processors.Sequence([])
    bare = replace(version, tokenizer_bytes=plain.to_str().encode())
    engine = open_engine(bare, threads=1)
    (answer,) = engine.run([""])
    assert (answer.tokens, answer.truncated) == (0, False)
    assert sum(answer.scores) == pytest.approx(1.0, abs=1e-6)
    assert engine.run(["a card", "", "a card"]) == [*engine.run(["a card"]), answer, *engine.run(["a card"])]


@pytest.mark.parametrize("text", ["x" * 100_000, "é\u200b" * 50_000, "word " * 20_000, "\ufffd" * 100_000])
def test_a_hundred_thousand_characters_are_cut_and_say_so(version: Version, text: str) -> None:
    engine = open_engine(version, threads=1)
    (answer,) = engine.run([text])
    assert (answer.tokens, answer.truncated) == (MAX_TOKENS, True)
    assert engine.run(["a card", text])[1] == answer


@pytest.mark.parametrize("max_tokens", [4, 7, 8, 63, 64])
def test_any_limit_of_tokens_keeps_answers_apart(version: Version, max_tokens: int) -> None:
    """Odd limits too: the longest text then has an odd length, beside shorter ones that are padded to it."""
    manifest = version.manifest.model_copy(update={"max_tokens": max_tokens})
    assert_batch_invariant(open_engine(replace(version, manifest=manifest), threads=1), mixed_texts(60))


def test_bytes_that_no_engine_can_run_are_a_refused_version(version: Version) -> None:
    for broken in (
        replace(version, model_bytes=version.model_bytes[:-50]),
        replace(version, tokenizer_bytes=b"{}"),
        replace(version, nearest=np.zeros((3, HIDDEN + 1), dtype=np.float16)),
        replace(version, manifest=version.manifest.model_copy(update={"labels": ["only", "two"]})),
    ):
        with pytest.raises(VersionRefusedError):
            open_engine(broken, threads=1)


def test_an_engine_that_is_not_here_is_named(version: Version) -> None:
    wanted = version.manifest.model_copy(
        update={"engines": {"quantum": EngineFile(file=MODEL, precision="fp32")}}
    )
    with pytest.raises(NoEngineError, match="quantum"):
        open_engine(replace(version, manifest=wanted), threads=1)


def test_cuda_is_refused_with_the_mend_where_it_does_not_come_up(version: Version) -> None:
    problem = device_problem("cuda")
    if problem is None:
        assert_batch_invariant(open_engine(version, threads=1, device="cuda"), mixed_texts(40))
    else:
        with pytest.raises(DeviceError, match=r"trueup\[gpu\]"):
            open_engine(version, threads=1, device="cuda")
