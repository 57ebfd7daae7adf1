"""The real encoder with a head taught on mail, and texts to ask it: what `make bench-serving` serves."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from trainer.settings import default_cache
from trainer.sources import newsgroups, read_newsgroups

GROUPS = ("comp.graphics", "rec.autos", "sci.med", "talk.politics.guns")
TRAIN, ASKED = 1200, 512


def make(folder: Path, *, max_tokens: int = 128, engines: Sequence[str] = ()) -> tuple[Path, Path]:
    """(version directory, texts.jsonl), made by `trueup init` and `trueup train`, with graphs for `engines`.

    Texts have 2 to some 200 words, most of them about 30: mail cut at a log-normal length.
    """
    draw = random.Random(0)
    mail = [(text, group) for text, group in read_newsgroups(newsgroups(default_cache())) if group in GROUPS]
    draw.shuffle(mail)
    rows = [{"text": text[:800], "label": group.split(".")[0]} for text, group in mail[:TRAIN]]
    _write(folder / "mail.jsonl", rows)
    asked = []
    for text, _ in mail[TRAIN : TRAIN + ASKED]:
        words = text.split()
        asked.append({"text": " ".join(words[: max(2, int(draw.lognormvariate(3.4, 0.8)))])})
    _write(folder / "texts.jsonl", asked)
    _trueup(folder, "init", "mail.jsonl", "--model", "router")
    spec = folder / "router.toml"
    text = spec.read_text(encoding="utf-8").replace('rung = "adapter"', 'rung = "head"')
    text = text.replace("max_tokens = 128", f"max_tokens = {max_tokens}")
    if engines:
        text += f"\n[export]\nengines = {json.dumps(engines)}\n"
    spec.write_text(text, "utf-8")
    _trueup(folder, "train", "router.toml")
    return folder / ".trueup" / "versions" / "router" / "v1", folder / "texts.jsonl"


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def _trueup(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "monitor", *arguments, "--json"]
    root = Path(__file__).resolve().parents[2]
    given = os.environ | {"PYTHONPATH": str(root)}
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, env=given)
