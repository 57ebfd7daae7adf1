"""A real loop in miniature: a random BERT of 32 dimensions, two desks with two vocabularies."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sqlalchemy import Engine, insert

from exporter import registry
from exporter.engines import open_engine
from exporter.labels import record_labels
from exporter.prediction import Prediction, columns
from exporter.tables import predictions
from trainer.artifact import open_version
from trainer.rows import HoldoutRow, Row, write_holdout, write_snapshot
from trainer.spec import TrainSpec, parse_spec
from trainer.train import write_request

DESKS = {
    "money": ("invoice", "refund", "salary", "bank", "loan", "tax", "fee", "rent"),
    "sport": ("goal", "match", "team", "score", "coach", "race", "ball", "league"),
}
NEW = {
    "money": ("crypto", "token", "wallet", "ledger", "staking", "yield", "mining", "swap"),
    "sport": ("esports", "stream", "lobby", "patch", "ranked", "clan", "speedrun", "loot"),
}
FILLER = ("please", "about", "my", "the", "today", "a", "question", "on", "help", "with")

BUILD = """
import sys
from pathlib import Path
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel
folder, words = Path(sys.argv[1]), sys.argv[2].split()
folder.mkdir(parents=True)
vocabulary = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
marks = [("[CLS]", 2), ("[SEP]", 3)]
tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=marks)
tokenizer.save(str(folder / "tokenizer.json"))
torch.manual_seed(0)
config = BertConfig(vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=2)
config.intermediate_size, config.max_position_embeddings = 64, 64
model = BertModel(config)
model.embeddings.word_embeddings.weight.data *= 50  # words weigh more than places: a head can tell them
model.save_pretrained(folder)
"""


def build_base(folder: Path) -> Path:
    """Write the tiny encoder."""
    words = sorted({*FILLER, *(word for desk in (DESKS, NEW) for names in desk.values() for word in names)})
    subprocess.run([sys.executable, "-W", "ignore", "-c", BUILD, str(folder), " ".join(words)], check=True)
    return folder


def mail(rng: np.random.Generator, rows: int, *, new: bool = False) -> list[tuple[str, str]]:
    """(text, desk) pairs, all texts different."""
    vocabulary, found = NEW if new else DESKS, dict[str, str]()
    while len(found) < rows:
        desk = str(rng.choice(sorted(vocabulary)))
        words = [*rng.choice(vocabulary[desk], 4), *rng.choice(FILLER, 2)]
        found[" ".join(rng.permutation(words))] = desk
    return list(found.items())


def spec(base: Path, folder: Path, **fit: object) -> TrainSpec:
    return parse_spec(
        {
            "model": {"name": "desks", "base": str(base), "max_tokens": 16},
            "data": {"train": str(folder / "unused.jsonl")},
            "fit": {"rung": "head", "threads": 1, **fit},
            "gate": {"parity_max_abs": 0.01},
        }
    )


def train_first(db: Engine, home: Path, base: Path, *, seed: int = 0) -> str:
    """Train, register and promote v1."""
    rng = np.random.default_rng(seed)
    rows = [Row(text=text, label=desk) for text, desk in mail(rng, 300)]
    known = {row.text for row in rows}
    held = [HoldoutRow(text=text, label=desk) for text, desk in mail(rng, 300) if text not in known]
    snapshot, digest = write_snapshot(rows, home / "data")
    work = home / "first"
    work.mkdir(parents=True)
    write_holdout(held, work / "holdout.parquet")
    write_request(
        work / "request.json",
        spec(base, work),
        train=snapshot,
        holdout=work / "holdout.parquet",
        sha256=digest,
        parent=None,
        cache=home / "cache",
    )
    command = [sys.executable, "-m", "trainer", str(work / "request.json"), str(work / "version")]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    version = registry.register(db, home, work / "version", threads=1, now=1.7e9)
    assert registry.promote(db, "desks", version, expected=None, reason="first", actor="test")
    return version


def answer(db: Engine, version: str, texts: Sequence[str], *, first: int, at: float) -> list[str]:
    """Answer texts with a registered version and record them as the loader would; returns the ids."""
    opened = open_version(registry.version_path(db, "desks", version))
    engine = open_engine(opened, threads=1)
    try:
        answers = engine.run(list(texts))
    finally:
        engine.close()
    rows = [
        Prediction(
            id=f"p{first + number}",
            model="desks",
            version=version,
            role="champion",
            at=at + number,
            text=text,
            label=found.label,
            score=found.score,
            scores=tuple(found.scores),
            embedding=found.embedding,
            similarity=found.similarity,
            tokens=found.tokens,
            characters=len(text),
            truncated=found.truncated,
            queue_ms=0.0,
            run_ms=1.0,
            metadata={},
        )
        for number, (text, found) in enumerate(zip(texts, answers, strict=True))
    ]
    with db.begin() as connection:
        connection.execute(insert(predictions), [columns(row) for row in rows])
    return [row.id for row in rows]


def tell_truth(db: Engine, ids: Sequence[str], desks: Sequence[str], *, now: float) -> None:
    outcomes = record_labels(db, list(zip(ids, desks, strict=True)), source="test", now=now)
    assert {outcome.status for outcome in outcomes} == {"stored"}
