"""What a decoder does on this processor, beside transformers' generate and onnxruntime-genai's Generator.

    python -m tests.benchmarks.decoder BASE FOLDER…   (BASE of Transformers; model folders, sealed or not)

Every figure is the median of three interleaved rounds over the same four prompts of 100 tokens, greedy.
Tokens a second are those after the first: what the prompts took is subtracted.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.kept import keep
from trainer.decoder.graph import CONFIG, MODEL, WEIGHTS, DecoderGraph, greedy, prompt_logits

PROMPTS, PROMPT_TOKENS, TOKENS, ROUNDS, THREADS = 4, 100, 24, 3, 2


def main(base: Path, folders: list[Path]) -> None:
    """Print one JSON line a runner: tokens a second, milliseconds to the first token of 100; keep them."""
    prompts = np.random.default_rng(0).integers(5, 40_000, (PROMPTS, PROMPT_TOKENS)).tolist()
    runners = {"transformers": transformers(base)}
    for folder in folders:
        runners[f"genai {folder.name}"] = genai(folder)
        runners[f"ours {folder.name}"], runners[f"ours {folder.name}, 8 at a time"] = ours(folder)
    seconds: dict[str, list[float]] = defaultdict(list)
    firsts: dict[str, list[float]] = defaultdict(list)
    said: dict[str, Any] = {}
    for _ in range(ROUNDS):
        for name, run in runners.items():
            began = time.perf_counter()
            run(prompts[:1], 1)
            firsts[name].append(time.perf_counter() - began)
            began = time.perf_counter()
            said[name] = run(prompts, TOKENS)
            spent = time.perf_counter() - began
            seconds[name].append(spent - len(said[name]) * firsts[name][-1])
    found = []
    for name in runners:
        rows = len(said[name])
        told = {
            "runner": name,
            "tokens_per_s": round(rows * (TOKENS - 1) / statistics.median(seconds[name]), 1),
            "first_token_ms": round(statistics.median(firsts[name]) * 1e3, 1),
            "equal_to_transformers": sum(
                mine == theirs for mine, theirs in zip(said[name], said["transformers"], strict=False)
            ),
        }
        print(json.dumps(told), flush=True)
        found.append(told)
    keep("decoder", {"rows": found}, threads=THREADS)


Run = Callable[[list[list[int]], int], list[list[int]]]


def transformers(base: Path) -> Run:
    """Its generate, one prompt at a time."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(THREADS)
    model = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32).eval()

    def run(prompts: list[list[int]], tokens: int) -> list[list[int]]:
        with torch.inference_mode():
            return [
                model.generate(
                    torch.tensor([ids]), max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False
                )[0, len(ids) :].tolist()
                for ids in prompts
            ]

    return run


def genai(folder: Path) -> Run:
    """A Generator for each prompt, interleaved token by token."""
    onnxruntime_genai = import_module("onnxruntime_genai")  # it has no types
    model = onnxruntime_genai.Model(str(folder))

    def run(prompts: list[list[int]], tokens: int) -> list[list[int]]:
        made = []
        for ids in prompts:
            given = onnxruntime_genai.GeneratorParams(model)
            given.set_search_options(max_length=len(ids) + tokens, do_sample=False)
            one = onnxruntime_genai.Generator(model, given)
            one.append_tokens(np.array(ids, dtype=np.int32))
            made.append(one)
        for _ in range(tokens):
            for one in made:
                if not one.is_done():
                    one.generate_next_token()
        return [one.get_sequence(0)[PROMPT_TOKENS:].tolist() for one in made]

    return run


def ours(folder: Path) -> tuple[Run, Run]:
    """One answer at a time, and eight (every prompt twice)."""
    files = {name: (folder / name).read_bytes() for name in (CONFIG, MODEL, WEIGHTS)}
    graph = DecoderGraph(folder, files, threads=THREADS)
    graph.ends = frozenset()

    def alone(prompts: list[list[int]], tokens: int) -> list[list[int]]:
        if tokens == 1:
            graph.reserve(PROMPT_TOKENS)
            return [[int(prompt_logits(graph, 0, prompts[0]).argmax())]]
        return [greedy(graph, [ids], tokens)[0] for ids in prompts]

    def together(prompts: list[list[int]], tokens: int) -> list[list[int]]:
        return alone(prompts, tokens) if tokens == 1 else greedy(graph, [*prompts, *prompts], tokens)

    return alone, together


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(given) for given in sys.argv[2:]])
