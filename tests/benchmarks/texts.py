"""Real texts for the benchmarks, and their embeddings, made once and kept outside the repository."""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.benchmarks.clinc import data_folder
from trainer.encoder import embed, load_encoder
from trainer.robustness import mistyped
from trainer.sources import ENCODER, resolve_base

Embeddings = npt.NDArray[np.float16]
MAX_TOKENS = 64


def read(name: str) -> list[dict[str, Any]]:
    """The rows of a public data set."""
    lines = (data_folder() / name / "data.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def with_typos(texts: Sequence[str], share: float, *, seed: int = 0) -> list[str]:
    """Each letter is replaced, doubled, left out or swapped with the next with probability `share`."""
    draw = random.Random(seed)
    return [mistyped(text, share, draw) for text in texts]


def embedded(texts: Sequence[str]) -> Embeddings:
    """Unit embeddings of the frozen encoder, from the cache where these texts were embedded before."""
    name = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:24]
    path = Path(os.environ.get("TRUEUP_BENCH_CACHE", tempfile.gettempdir())) / f"d_{name}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = _embed(texts)
        beside = path.with_suffix(f".{os.getpid()}.npy")
        np.save(beside, made)
        beside.rename(path)
    found: Embeddings = np.load(path)
    return found


def _embed(texts: Sequence[str]) -> Embeddings:
    from tokenizers import Tokenizer

    folder = resolve_base(ENCODER, Path.home() / ".cache" / "trueup")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.no_padding()
    ids = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    sys.stderr.write(f"embedding {len(texts)} texts …\n")
    return embed(load_encoder(folder), ids, layer=None, tick=lambda *_: None).embeddings.astype(np.float16)
