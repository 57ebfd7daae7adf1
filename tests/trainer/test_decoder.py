"""A language model becomes a sealed version: proved, opened from the bytes that were hashed, or refused."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import pytest

from exporter.engines import device_problem, open_engine
from exporter.errors import DeviceError, NoEngineError
from tests.decoders import CONTEXT, PROMPTS, tiny_llama
from tests.trainer.generation.conftest import build
from trainer.artifact import open_version
from trainer.decoder.errors import (
    BuilderError,
    PerplexityError,
    ProofTextsError,
    TokensDifferError,
    UnrunnableError,
)
from trainer.decoder.export import export
from trainer.decoder.graph import SCORED, DecoderGraph, greedy, prompt_logits, prompt_logprobs, spoken
from trainer.decoder.keys import Keys
from trainer.decoder.make import exported, make_decoder
from trainer.decoder.proof import Gate, prove
from trainer.decoder.sealed import open_decoder, open_sealed, template_of
from trainer.errors import VersionRefusedError

IDS = [list(prompt.encode()) for prompt in PROMPTS]


@pytest.fixture
def copied(tiny_decoder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_decoder, tmp_path / "copied"))


@pytest.fixture(scope="module")
def graph(tiny_decoder: Path) -> DecoderGraph:
    version = open_decoder(tiny_decoder)
    return DecoderGraph(version.path, version.files, threads=1, rows=4)


def test_a_version_says_what_was_proved(tiny_decoder: Path) -> None:
    manifest = open_sealed(tiny_decoder).manifest
    assert (manifest.task, manifest.labels, manifest.max_tokens) == ("text-generation", [], CONTEXT)
    assert list(manifest.engines) == ["decoder-cpu"]
    assert (manifest.parity.label_agreement, manifest.parity.rows) == (1.0, len(PROMPTS))
    assert manifest.parity.max_abs < 1e-3
    assert manifest.metrics["perplexity"] == pytest.approx(manifest.metrics["torch_perplexity"], rel=1e-4)
    assert set(manifest.files) >= {"model.onnx", "model.onnx.data", "genai_config.json", "tokenizer.json"}


def test_answers_in_a_batch_are_those_of_a_prompt_alone_to_the_last_bit(graph: DecoderGraph) -> None:
    graph.reserve(64)
    alone = []
    for ids in IDS:
        first = int(prompt_logits(graph, 0, ids).argmax())
        alone.append((first, np.array(graph.step([first], [len(ids) + 1])[0])))
    for row, ids in enumerate(IDS):
        prompt_logits(graph, row, ids)
    together = graph.step([first for first, _ in alone], [len(ids) + 1 for ids in IDS])
    for (_, logits), row in zip(alone, together, strict=True):
        assert np.array_equal(logits, row)


def test_a_prompt_is_scored_alike_in_parts_and_as_a_whole_and_at_few_places() -> None:
    rng = np.random.default_rng(0)
    ids, logits = rng.integers(0, 7, 300).tolist(), rng.normal(size=(300, 7))
    whole = prompt_logprobs(logits, ids, 0)
    parts = [prompt_logprobs(logits[start : start + 64], ids, start) for start in range(0, 300, 64)]
    assert [one for part in parts for one in part] == whole
    assert len(whole) == SCORED
    assert prompt_logprobs(logits[:1], [3], 0) == []


def test_what_was_spoken_is_as_likely_in_a_batch_as_alone_to_the_last_bit(graph: DecoderGraph) -> None:
    together = spoken(graph, IDS, 4)
    assert together == [spoken(graph, [ids], 4)[0] for ids in IDS]
    for one, ids in zip(together, IDS, strict=True):
        assert len(one.ids) == len(one.logprobs) > 0
        assert len(one.prompt_logprobs) == min(SCORED, len(ids) - 1)
        assert max(one.logprobs + one.prompt_logprobs) < 0


def test_a_row_that_moved_goes_on_as_before(graph: DecoderGraph) -> None:
    graph.reserve(64)
    for row, ids in enumerate(IDS):
        prompt_logits(graph, row, ids)
    expected = graph.step([5, 5, 5], [len(ids) + 1 for ids in IDS])[2].copy()
    graph.move(2, 0, len(IDS[2]))
    assert np.array_equal(graph.step([5], [len(IDS[2]) + 1])[0], expected)


def test_room_for_a_longer_row_keeps_the_others(tiny_decoder: Path) -> None:
    version = open_decoder(tiny_decoder)
    made = DecoderGraph(version.path, version.files, threads=1, rows=2)
    made.reserve(20)
    prompt_logits(made, 1, IDS[0])
    prompt_logits(made, 0, IDS[1][:8])
    expected = made.step([5, 5], [9, len(IDS[0]) + 1]).copy()
    keys = made._keys
    assert isinstance(keys, Keys)
    keys.length = 20  # as if it had begun so small
    keys._past = [np.ascontiguousarray(past[:, :, :20]) for past in keys._past]
    made.reserve(200)
    assert np.array_equal(made.step([5, 5], [9, len(IDS[0]) + 1]), expected)


@pytest.fixture(scope="module")
def fixed(tiny_decoder: Path) -> DecoderGraph:
    """As a GPU runs it: buffers of one length, steps of fixed shapes, rows that are left over."""
    version = open_decoder(tiny_decoder)
    return DecoderGraph(version.path, version.files, threads=1, rows=4, fixed=64)


def test_steps_of_fixed_shapes_give_the_same_bits(graph: DecoderGraph, fixed: DecoderGraph) -> None:
    assert (fixed.rows, fixed.context) == (4, 64)
    graph.reserve(64)
    for count in (1, 2, 3, 4):
        prompts = [ids[:40] for ids in (IDS * 2)[:count]]
        tokens = []
        for made in (graph, fixed):
            firsts = [int(prompt_logits(made, row, ids).argmax()) for row, ids in enumerate(prompts)]
            tokens.append((firsts, made.step(firsts, [len(ids) + 1 for ids in prompts])))
        assert tokens[0][0] == tokens[1][0]
        assert np.array_equal(tokens[0][1], tokens[1][1])


def test_a_row_beside_those_that_are_left_over_keeps_every_token(fixed: DecoderGraph) -> None:
    """Three rows are decoded as four; the fourth is being filled meanwhile."""
    ids = (IDS[0] * 3)[:30]
    expected = np.array(prompt_logits(fixed, 3, ids))
    fixed.fill(3, ids[:10])
    for row in range(3):
        fixed.fill(row, (IDS[1] * 3)[:20])
    fixed.step([5, 6, 7], [21, 21, 21])
    assert np.array_equal(fixed.fill(3, ids[10:], 10)[-1], expected)


def test_a_row_of_fixed_length_moves_whole(fixed: DecoderGraph) -> None:
    ids = (IDS[0] * 3)[:30]
    fixed.fill(2, ids[:-1])
    expected = np.array(fixed.fill(2, ids[-1:], 29)[-1])
    fixed.move(2, 0, 29)
    assert np.array_equal(fixed.fill(0, ids[-1:], 29)[-1], expected)
    assert greedy(fixed, IDS[:5], 8) == greedy(fixed, IDS[:5], 8)


def test_more_prompts_than_rows_are_answered_in_turn(graph: DecoderGraph) -> None:
    assert greedy(graph, [*IDS, *IDS], 4) == 2 * greedy(graph, IDS, 4)


def test_an_export_of_another_model_is_refused(tmp_path: Path, graph: DecoderGraph) -> None:
    other = tiny_llama(tmp_path / "other", seed=1)
    with pytest.raises(TokensDifferError, match="3 of 3"):
        prove(graph, other, IDS, Gate(tokens=4), "fp32")


def test_answers_that_part_at_a_tie_are_equal(tiny_base: Path, graph: DecoderGraph, tmp_path: Path) -> None:
    """Torch's second likeliest token becomes its likeliest: once by a hair, once by far."""
    import torch
    from transformers import LlamaForCausalLM

    *_, second, best = prompt_logits(graph, 0, IDS[0]).argsort().tolist()
    for factor in (1 + 1e-5, 1.5):
        model = LlamaForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
        with torch.no_grad():
            model.lm_head.weight[second] = model.lm_head.weight[best] * factor
        model.save_pretrained(tmp_path / str(factor))
    proof = prove(graph, tmp_path / str(1 + 1e-5), [IDS[0]] * 3, Gate(tokens=1), "fp32")
    assert proof.equal == 3
    with pytest.raises(TokensDifferError):
        prove(graph, tmp_path / "1.5", [IDS[0]] * 3, Gate(tokens=1), "fp32")


def test_a_precision_that_costs_too_much_is_refused_with_its_number(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(PerplexityError, match=r"int4 is refused: its perplexity is [\d.]+, torch's [\d.]+"):
        make_decoder(
            tiny_base, tmp_path / "out", model="writer", precision="int4", prompts=PROMPTS, now=0.0,
            gate=Gate(tokens=2, perplexity_rise=-0.99),
        )  # fmt: skip
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_half_precision_for_a_gpu_is_proved_with_the_kernels_of_a_processor(
    tiny_base: Path, tmp_path: Path
) -> None:
    made = make_decoder(
        tiny_base, tmp_path / "v", model="writer", precision="fp16", prompts=PROMPTS, now=0.0, threads=1
    )
    version = open_decoder(made)
    assert {name: one.precision for name, one in version.manifest.engines.items()} == {"decoder-cuda": "fp16"}
    assert 0 < version.manifest.parity.max_abs < 0.1
    rise = version.manifest.metrics["perplexity"] / version.manifest.metrics["torch_perplexity"]
    assert rise == pytest.approx(1.0, abs=0.01)
    operators = [node.op_type for node in onnx.load_model_from_string(version.files["model.onnx"]).graph.node]
    assert operators.count("GroupQueryAttention") == 2
    with pytest.raises(NoEngineError, match="decoder-cuda"):
        open_engine(version, threads=1)
    if device_problem("cuda") is not None:
        with pytest.raises(DeviceError, match=r"trueup\[gpu\]"):
            open_engine(version, threads=1, device="cuda")


def test_a_shape_that_the_runtime_cannot_run_is_told(tmp_path: Path) -> None:
    narrow = build(tmp_path / "narrow")  # heads of 8 numbers
    with pytest.raises(UnrunnableError, match=r"cannot run what was exported of narrow: .*16"):
        exported(narrow, tmp_path / "out", "fp32", threads=1)


def test_a_few_tokens_prove_nothing(tiny_base: Path, graph: DecoderGraph) -> None:
    with pytest.raises(ProofTextsError, match="not enough data"):
        prove(graph, tiny_base, [[5, 6]], Gate(), "fp32")


def test_a_folder_that_is_no_model_is_refused_by_the_builder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["Nothing"]}')
    with pytest.raises(BuilderError, match="cannot export"):
        export(tmp_path, tmp_path / "out", "fp32")


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "genai_config.json", "tokenizer.json"])
def test_a_changed_file_is_refused(copied: Path, name: str) -> None:
    with (copied / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(VersionRefusedError, match="sha256 differs"):
        open_sealed(copied)


def test_links_strange_files_and_other_tasks_are_refused(copied: Path, tmp_path: Path) -> None:
    (copied / "tokenizer.json").rename(tmp_path / "elsewhere.json")
    (copied / "tokenizer.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(VersionRefusedError, match="link"):
        open_sealed(copied)
    (copied / "tokenizer.json").unlink()
    shutil.copy(tmp_path / "elsewhere.json", copied / "tokenizer.json")
    open_sealed(copied)
    (copied / "run.py").touch()
    with pytest.raises(VersionRefusedError, match=r"run\.py"):
        open_sealed(copied)
    (copied / "run.py").unlink()
    with pytest.raises(VersionRefusedError, match="should hold"):
        open_version(copied)
    manifest = json.loads((copied / "manifest.json").read_text())
    (copied / "manifest.json").write_text(json.dumps(manifest | {"task": "classification"}))
    with pytest.raises(VersionRefusedError, match="its task"):
        open_sealed(copied)


@pytest.mark.parametrize("location", ["../elsewhere.bin", "/etc/passwd", "model.onnx.data"])
def test_a_graph_whose_weights_nobody_hashed_is_refused(copied: Path, location: str) -> None:
    graph = onnx.load(copied / "model.onnx", load_external_data=False)
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    (copied / "model.onnx").write_bytes(graph.SerializeToString())
    (copied / "model.onnx.data").unlink()
    manifest = json.loads((copied / "manifest.json").read_text())
    del manifest["files"]["model.onnx.data"]
    manifest["files"]["model.onnx"] = sha256((copied / "model.onnx").read_bytes()).hexdigest()
    (copied / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(VersionRefusedError, match="keeps weights in"):
        open_sealed(copied)


def test_a_configuration_of_something_else_is_refused(tiny_decoder: Path) -> None:
    version = open_decoder(tiny_decoder)
    with pytest.raises(VersionRefusedError, match="none of a decoder"):
        DecoderGraph(version.path, version.files | {"genai_config.json": b"{}"}, threads=1)


def test_a_folder_may_have_no_chat_template() -> None:
    assert template_of({"tokenizer_config.json": b"{}"}) is None
