"""A causal language model of Transformers as a model folder of onnxruntime-genai."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from trainer.decoder.errors import BuilderError

Precision = Literal["fp32", "int4", "fp16"]
PROVIDERS: dict[Precision, str] = {"fp32": "cpu", "int4": "cpu", "fp16": "cuda"}


def export(folder: Path, out: Path, precision: Precision) -> None:
    """Write the model folder `out`: graph, weights, configuration, tokenizer. Raises BuilderError.

    By `onnxruntime_genai.models.builder` in a child process: it keeps the whole model in memory and prints.
    fp16 is for CUDA; it is written without a GPU, too. Source: github.com/microsoft/onnxruntime-genai.
    """
    shutil.rmtree(out, ignore_errors=True)
    with TemporaryDirectory(prefix="trueup-builder-") as cache:
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
        command += ["-i", str(folder), "-o", str(out), "-c", cache]
        command += ["-p", precision, "-e", PROVIDERS[precision]]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode or not (out / "genai_config.json").is_file():
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise BuilderError(folder, lines[-1])
