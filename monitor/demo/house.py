"""The house format: a mail is answered with the JSON that the ticket system reads, desk and all.

First a small decoder learns it on eight newsgroups. Then nine others write in, and the house is reorganised:
two of its four desks have new names. Both are only seen in what people say was right.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from monitor.demo.mail import Mail
from trainer.generation.rows import Chat, chat
from trainer.generation.settings import GenerationFit
from trainer.rows import Origin

INSTRUCTION = "Desk?"
WORDS, CHARACTERS = 28, 170  # of a mail: about 60 tokens with the template and the answer
DESKS = {"comp": "comp", "rec": "rec", "sci": "sci", "talk": "talk"}
REORGANISED = DESKS | {"comp": "systems", "talk": "society"}
TRAINED, RETRAINED, REPLAYED = 400, 300, 60  # rows
FIT = GenerationFit(max_tokens=128, lora_layers=12, precision="bf16", patience=0)


def answered(mail: Mail, desks: Mapping[str, str] = DESKS, *, origin: Origin = "base") -> Chat:
    """A mail's beginning and the answer that the house wants.

    >>> answered(Mail("my screen is black", "comp")).answer
    '{"desk": "comp"}'
    """
    text = " ".join(mail.text.split()[:WORDS])[:CHARACTERS]
    answer = json.dumps({"desk": desks[mail.desk]})
    return chat(("system", INSTRUCTION), ("user", text), ("assistant", answer), origin=origin)


def rows(mails: Iterable[Mail], desks: Mapping[str, str] = DESKS, *, origin: Origin = "base") -> list[Chat]:
    return [answered(mail, desks, origin=origin) for mail in mails]


def schema(desks: Mapping[str, str] = DESKS) -> dict[str, Any]:
    """What the ticket system accepts.

    >>> schema()["properties"]["desk"]["enum"]
    ['comp', 'rec', 'sci', 'talk']
    """
    return {
        "type": "object",
        "properties": {"desk": {"enum": sorted(desks.values())}},
        "required": ["desk"],
        "additionalProperties": False,
    }
