"""A LoRA adapter as a file that onnxruntime-genai loads and unloads while it serves: does it answer as torch
does, and how long is a swap?

Usage: python -m tests.benchmarks.adapter_swap BASE ADAPTER [--asked N] [--swaps N]
BASE is a Transformers folder, ADAPTER a folder of `trainer.generation.decoder.save_adapter` (LoRA, not DoRA).
One JSON line. genai's builder keeps the adapter as MatMuls of their own; their weights are made inputs of the
graph whose defaults are zero, so that no adapter is the base.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from monitor.demo import house
from monitor.demo.mail import load_streams
from trainer.generation.decoder import load_adapter, load_decoder
from trainer.generation.generate import greedy
from trainer.settings import default_cache

NEW_TOKENS = 12
Weights = dict[str, np.ndarray[Any, np.dtype[Any]]]


def main() -> None:
    """Build, compare, swap."""
    parser = argparse.ArgumentParser()
    parser.add_argument("base", type=Path)
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--asked", type=int, default=8)
    parser.add_argument("--swaps", type=int, default=50)
    given = parser.parse_args()
    mails = load_streams(default_cache(), seed=0).clean[: given.asked]
    rows = house.rows(house.wanted(mails, house.OLD))
    bare = load_decoder(given.base)
    template, prompts = bare.template, [bare.template.prompt(row) for row in rows]
    without = greedy(bare, rows, new_tokens=NEW_TOKENS)
    wanted = greedy(load_adapter(bare, given.adapter), rows, new_tokens=NEW_TOKENS)
    with tempfile.TemporaryDirectory() as folder:
        hot, file = hot_loadable(given.base, given.adapter, Path(folder))
        server = Served(hot)
        loads = [server.swap(file) for _ in range(given.swaps)]
        adapted, plain = (
            [template.decode(server.answer(one, on)) for one in prompts] for on in (True, False)
        )
        found = {
            "asked": len(rows),
            "as_torch_with_adapter": sum(a == b for a, b in zip(adapted, wanted, strict=True)),
            "as_torch_without": sum(a == b for a, b in zip(plain, without, strict=True)),
            "changed_by_adapter": sum(a != b for a, b in zip(adapted, plain, strict=True)),
            "adapter_mb": round(file.stat().st_size / 1e6, 2),
            "swaps": len(loads),
            "swap_ms_median": round(float(np.median(loads)), 3),
            "swap_ms_max": round(max(loads), 3),
        }
    print(json.dumps(found))


def hot_loadable(base: Path, adapter: Path, out: Path) -> tuple[Path, Path]:
    """(genai folder of the base, file of the adapter), both below `out`."""
    built, hot, file = out / "built", out / "hot", out / "house.onnx_adapter"
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(base), "-o", str(built)]
    command += ["-p", "fp32", "-e", "cpu", "-c", str(out / "cache")]
    command += ["--extra_options", f"adapter_path={adapter}"]
    subprocess.run(command, check=True, capture_output=True)
    shutil.copytree(built, hot, ignore=shutil.ignore_patterns("model.onnx*"))
    write_adapter(promoted(built / "model.onnx", hot / "model.onnx"), file)
    shutil.rmtree(built)
    return hot, file


def promoted(path: Path, out: Path) -> Weights:
    """Write the graph with its adapter's weights as inputs that default to zero; returns those weights."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(path)
    weights: Weights = {}
    for one in model.graph.initializer:
        if ".lora_" in one.name:
            value = numpy_helper.to_array(one)
            weights[one.name] = value.copy()
            model.graph.input.append(helper.make_tensor_value_info(one.name, one.data_type, list(one.dims)))
            one.CopyFrom(numpy_helper.from_array(np.zeros_like(value), one.name))
    onnx.save(model, out, save_as_external_data=True, location=f"{out.name}.data", size_threshold=2**20)
    return weights


def write_adapter(weights: Mapping[str, Any], file: Path) -> None:
    """Write weights in ONNX Runtime's adapter format."""
    import onnxruntime

    adapter = onnxruntime.AdapterFormat()
    adapter.set_adapter_version(1)
    adapter.set_model_version(1)
    values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(value) for name, value in weights.items()}
    adapter.set_parameters(values)
    adapter.export_adapter(str(file))


class Served:
    """A genai model with one adapter at a time; `answer` is greedy."""

    def __init__(self, folder: Path) -> None:
        self._genai: Any = importlib.import_module("onnxruntime_genai")  # has no type information
        self._model = self._genai.Model(str(folder))
        self._adapters = self._genai.Adapters(self._model)
        self._name = 0

    def swap(self, file: Path) -> float:
        """Load the file as the next adapter and let the one before go; milliseconds."""
        began = time.perf_counter()
        self._adapters.load(str(file), str(self._name + 1))
        if self._name:
            self._adapters.unload(str(self._name))
        self._name += 1
        return 1000 * (time.perf_counter() - began)

    def answer(self, prompt: list[int], adapted: bool) -> list[int]:
        """Token numbers answered to a prompt, with the adapter or without."""
        options = self._genai.GeneratorParams(self._model)
        options.set_search_options(max_length=len(prompt) + NEW_TOKENS, do_sample=False)
        generator = self._genai.Generator(self._model, options)
        if adapted:
            generator.set_active_adapter(self._adapters, str(self._name))
        generator.append_tokens(prompt)
        found: list[int] = []
        while not generator.is_done():
            generator.generate_next_token()
            found.append(int(generator.get_next_tokens()[0]))
        return found


if __name__ == "__main__":
    main()
