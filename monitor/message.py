"""A notice's facts in words: one line, plain text, and HTML for mail. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from typing import Any

import structlog
from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from monitor.assessment import said
from monitor.channels import PICTURE, Message
from monitor.notices import Notice
from monitor.picture import draw

_log = structlog.get_logger("trueup.notices")

_CAUSES = {
    "accuracy": "accuracy fell",
    "drift": "drift that costs accuracy",
    "class_mix": "the mix of classes changed",
}
_TITLES = {"firing": "needs attention", "worse": "got worse", "repeat": "still needs attention"}
_AGAIN = "This may be a repetition: an attempt to send it was interrupted before we knew whether it arrived."
_LONGEST = 6000  # characters of the plain text
_LONGEST_QUOTE = 160
_LIVE = (("<", "‹"), (">", "›"), ("@", "@\u200b"), ("://", ":\u200b//"), ("](", "]\u200b("))


def compose(notice: Notice, facts: Mapping[str, Any], *, doubtful: bool = False) -> Message:
    """The message of a notice; `doubtful`: an attempt before this one may have arrived."""
    sections = paragraphs(facts)
    if doubtful:
        sections.append(("Note", [_AGAIN]))
    heading = title(facts, now=notice.created_at)
    return Message(
        title=heading,
        text=plain(sections, facts["links"]),
        html=_template().render(
            title=heading, sections=sections, links=facts["links"], picture=PICTURE, kind=notice.kind
        ),
        severity="success" if notice.kind == "resolved" else "warning",
        model=notice.model,
        kind=notice.kind,
        key=notice.key,
        thread=f"trueup:{notice.model}:{notice.group_id}",
        at=notice.created_at,
        facts=facts,
        picture=partial(_picture, facts["series"], f"{notice.model} {notice.version}"),
    )


def title(facts: Mapping[str, Any], *, now: float) -> str:
    """One line.

    >>> title({"model": "router", "kind": "firing", "causes": ["class_mix", "drift"]}, now=0.0)
    'trueup: router needs attention: the mix of classes changed, drift that costs accuracy'
    >>> title({"model": "router", "kind": "resolved", "since": 0.0}, now=7200.0)
    'trueup: router recovered after 2 h'
    """
    if facts["kind"] == "resolved":
        return f"trueup: {facts['model']} recovered after {lasted(now - facts['since'])}"
    causes = ", ".join(cause_in_words(cause) for cause in facts["causes"])
    return f"trueup: {facts['model']} {_TITLES[facts['kind']]}: {causes}"


def cause_in_words(cause: str) -> str:
    """What a cause is called outside.

    >>> cause_in_words("drift"), cause_in_words("threshold:share"), cause_in_words("text_length")
    ('drift that costs accuracy', 'share is over its threshold', 'text length changed')
    """
    if cause.startswith("threshold:"):
        return f"{cause.removeprefix('threshold:')} is over its threshold"
    return _CAUSES.get(cause, f"{cause.replace('_', ' ')} changed")


def lasted(seconds: float) -> str:
    """A duration as a person would say it.

    >>> lasted(5.0), lasted(90.0), lasted(7200.0), lasted(200000.0)
    ('5 s', '2 min', '2 h', '2 d')
    """
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def paragraphs(facts: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Headed lists of sentences; empty ones are left out."""
    since = datetime.fromtimestamp(facts["since"], UTC).strftime("%Y-%m-%d %H:%M UTC")
    what = [f"{facts['model']} {facts['version']}, since {since}.", *_sentences(facts["reasons"])]
    if facts["kind"] == "resolved":
        what.insert(1, "It was: " + ", ".join(map(cause_in_words, facts["causes"])) + ".")
    found = [
        ("What happened", what),
        ("What moved", _moved(facts["moved"])),
        ("How sure", _sure(facts["sure"], resolved=facts["kind"] == "resolved")),
        ("What happens next", _sentences(facts["next"])),
    ]
    return [(heading, lines) for heading, lines in found if lines]


def harmless(text: str) -> str:
    """What others wrote, short and on one line, without mentions and links for chat services to act on.

    >>> harmless("hi <!channel> @all").replace(chr(0x200B), "|"), len(harmless("x" * 400))
    ('hi ‹!channel› @|all', 160)
    >>> harmless("[x](https://evil.example)").replace(chr(0x200B), "|")
    '[x]|(https:|//evil.example)'
    """
    text = " ".join(text.split())
    text = text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 1] + "…"
    for found, instead in _LIVE:
        text = text.replace(found, instead)
    return text


def percent(share: float) -> str:
    """A share in [0, 1].

    >>> percent(0.314)
    '31 %'
    """
    return f"{100 * share:.0f} %"


def plain(sections: list[tuple[str, list[str]]], links: list[Mapping[str, str]]) -> str:
    """The same as text, bounded.

    >>> print(plain([("Why", ["A.", "B."])], [{"name": "Page", "url": "http://x"}]))
    Why
    - A.
    - B.
    <BLANKLINE>
    Page: http://x
    """
    blocks = ["\n".join([heading, *(f"- {line}" for line in lines)]) for heading, lines in sections]
    text = "\n\n".join(blocks)
    cut = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return cut + "\n\n" + "\n".join(f"{link['name']}: {link['url']}" for link in links)


def _moved(moved: Mapping[str, Any] | None) -> list[str]:
    if moved is None:
        return []
    lines = []
    if moved["share"] is not None:
        lines.append(
            f"{percent(moved['share'])} of recent texts are unlike the training texts (5 % is normal)."
        )
    for heading, words in (("More often", moved["rising"]), ("Less often", moved["falling"])):
        lines += [f"{heading}: {', '.join(words)}."] if words else []
    lines += [
        f"Slice {harmless(one['key'])} = {harmless(one['value'])}: "
        f"{one['what']} {one['before']:.2f} → {one['now']:.2f}."
        for one in moved["slices"]
    ]
    lines += [
        f"Answered as {harmless(one['label'])}: "
        f"{percent(one['share'])} of what moved, {percent(one['reference_share'])} before."
        for one in moved["classes"]
    ]
    return lines + [_example(one) for one in moved["examples"]]


def _example(found: Mapping[str, Any]) -> str:
    said = f"Example, answered as {harmless(found['label'])}: “{harmless(found['text'])}”"
    if not found["nearest_label"]:
        return said
    text = f": “{harmless(found['nearest_text'])}”" if found["nearest_text"] else ""
    return f"{said} Nearest in training ({harmless(found['nearest_label'])}){text}"


def _sure(sure: Mapping[str, Any], *, resolved: bool) -> list[str]:
    lines = []
    if sure.get("log_e") is not None and not resolved:
        odds = _power(max(0.0, sure["log_e"]))
        lines.append(
            f"Odds of {odds} to 1 against luck: were nothing changed, the evidence would come so far at most "
            f"once in {odds} tries. A page needs {_power(sure['log_page_line'])}."
        )
        lines += [_effect(one) for one in sure["effects"]]
    quality, before = sure.get("quality"), sure.get("holdout_accuracy")
    if quality is not None and quality["state"] == "ok":
        sealed = "" if before is None else f"; {before:.3f} when it was sealed"
        lines.append(f"Accuracy {said(quality)}{sealed}.")
    return lines


def _effect(found: Mapping[str, Any]) -> str:
    measure = str(found["measure"] or "effect").replace("_", " ")
    detector = found["detector"].replace("_", " ")
    return f"{detector}: {measure} {found['effect']:+.2f}, p = {found['p_value']:.2g}."


def _power(log: float) -> str:
    """exp(log), readable at every size.

    >>> _power(math.log(1234.0)), _power(math.log(2e6)), _power(1000.0), _power(math.log(0.5))
    ('1,234', '2×10^6', '2×10^434', '0.5')
    """
    power = math.floor(log / math.log(10))
    if power >= 5:
        return f"{math.exp(log - power * math.log(10)):.0f}×10^{power}"
    value = math.exp(log)
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _sentences(found: list[str]) -> list[str]:
    """Each with a full stop, starting large."""
    ended = (one if one.endswith((".", "…", "?")) else f"{one}." for one in found if one)
    return [one[:1].upper() + one[1:] for one in ended]


def _picture(series: Sequence[Mapping[str, Any]], heading: str) -> bytes | None:
    try:
        return draw(series, title=heading)
    except Exception:  # words without a picture are better than neither
        _log.exception("no picture")
        return None


@cache
def _template() -> Template:
    loader = Environment(loader=PackageLoader("monitor"), autoescape=True, undefined=StrictUndefined)
    return loader.get_template("notice.html")
