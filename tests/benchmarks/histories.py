"""Histories for `trueup backtest` from public labelled text, each with one change that somebody named before.

python -m tests.benchmarks.histories [--quick] [--only WORD]      a JSON line for each history
python -m tests.benchmarks.histories --write FOLDER               only write them

Loop, frozen model and oracle on the same rows: means, the loop's share of the oracle's mean, retrains and
pages, those before the change apart. One row a minute, labels an hour late, windows of 100 rows.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.clinc import OLD_INTENTS, START, data_folder

TRAIN, CLEAN, CHANGED, WINDOW = 1500, 1200, 3000, 100
Pair = tuple[str, str]  # text, label
Built = tuple[list[Pair], list[Pair]]  # before the change, and after it
BUILDERS: dict[str, tuple[str, Callable[[list[dict[str, Any]], random.Random], Built]]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A file for `trueup backtest`; `changed_at` is the time of the first changed row."""

    name: str
    file: Path
    changed_at: float


def history(dataset: str, name: str) -> Callable[[Any], Any]:
    """Register what builds a history of a data set."""

    def register(build: Any) -> Any:
        BUILDERS[name] = dataset, build
        return build

    return register


def write(name: str, folder: Path, *, seed: int = 0) -> History:
    """Write TRAIN + CLEAN rows from before the change, then at most CHANGED from after it."""
    dataset, build = BUILDERS[name]
    lines = (data_folder() / dataset / "data.jsonl").read_text(encoding="utf-8").split("\n")
    before, after = build([json.loads(line) for line in lines if line.strip()], random.Random(seed))
    before = before[: TRAIN + CLEAN]
    file = folder / f"{name.replace(' ', '_')}.jsonl"
    with file.open("w", encoding="utf-8") as out:
        for minute, (text, label) in enumerate(before + after[:CHANGED]):
            out.write(json.dumps({"at": START + 60 * minute, "text": text, "label": label}) + "\n")
    return History(name=name, file=file, changed_at=START + 60.0 * len(before))


def run(given: History, *options: str) -> dict[str, Any]:
    """Replay a history through the whole loop and sum it up."""
    command = [sys.executable, "-m", "monitor", "backtest", str(given.file), "--train-rows", str(TRAIN)]
    command += ["--window", str(WINDOW), "--label-delay", "1h", "--json", *options]
    told = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return figures(given, told)


def figures(given: History, told: dict[str, Any]) -> dict[str, Any]:
    """What a replay says about the promises."""
    summary, windows = told["summary"], len(told["windows"])
    loop, oracle = summary["mean_accuracy"], summary["oracle_mean_accuracy"]
    early = [page["cause"] for page in told["pages"] if page["at"] < given.changed_at]
    causes = sorted({page["cause"] for page in told["pages"]})
    triggers = [f"{one['trigger']} {one['verdict']}" for one in told["retrains"]]
    return {
        "history": given.name,
        "rows": summary["rows"],
        "windows": windows,
        "loop": loop,
        "frozen": summary["frozen_mean_accuracy"],
        "oracle": oracle,
        "share_of_oracle": round(loop / oracle, 4),
        "retrains": summary["retrains"],
        "share_of_oracle_retrains": round(summary["retrains"] / windows, 3),
        "triggers": triggers,
        "pages": summary["pages"],
        "causes": causes,
        "pages_before_change": early,
        "labels_used": summary["labels_used"],
        "labels_refused": summary["labels_refused"],
        "cpu_seconds": summary["cpu_seconds"],
    }


def shuffled(rows: Iterable[Pair], lots: random.Random) -> list[Pair]:
    """The rows in random order."""
    mixed = list(rows)
    lots.shuffle(mixed)
    return mixed


def _clinc(
    rows: list[dict[str, Any]], lots: random.Random
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the first eight intents of every domain, and of its other ones."""
    inside = [row for row in rows if row["domain"] != "oos"]
    intents: dict[str, set[str]] = {}
    for row in inside:
        intents.setdefault(row["domain"], set()).add(row["intent"])
    first = {intent for names in intents.values() for intent in sorted(names)[:OLD_INTENTS]}
    lots.shuffle(inside)
    known = [row for row in inside if row["intent"] in first]
    return known, [row for row in inside if row["intent"] not in first]


def _domains(rows: Iterable[dict[str, Any]]) -> list[Pair]:
    return [(row["text"], row["domain"]) for row in rows]


@history("clinc150", "clinc abrupt")
def _abrupt(rows: list[dict[str, Any]], lots: random.Random) -> Built:
    known, new = _clinc(rows, lots)
    return _domains(known), _domains(new)


@history("clinc150", "clinc gradual")
def _gradual(rows: list[dict[str, Any]], lots: random.Random) -> Built:
    known, new = (_domains(part) for part in _clinc(rows, lots))
    mixed = []
    later = iter(known[TRAIN + CLEAN :])
    for share in (0.1, 0.25, 0.5, 0.75, 1.0):
        fresh = round(CHANGED / 5 * share)
        stale = [next(later) for _ in range(CHANGED // 5 - fresh)]
        mixed += shuffled(stale + [new.pop() for _ in range(fresh)], lots)
    return known, mixed


@history("clinc150", "clinc prior x12")
def _prior(rows: list[dict[str, Any]], lots: random.Random) -> Built:
    known, _ = _clinc(rows, lots)
    often = set(sorted({row["domain"] for row in known})[:3])
    later = known[TRAIN + CLEAN :]
    rare = [
        row
        for number, row in enumerate(row for row in later if row["domain"] not in often)
        if number % 12 == 0
    ]
    return _domains(known), shuffled(_domains([row for row in later if row["domain"] in often] + rare), lots)


@history("clinc150", "clinc labels remapped")
def _remapped(rows: list[dict[str, Any]], lots: random.Random) -> Built:
    known, _ = _clinc(rows, lots)
    moved = {"banking": "credit_cards", "work": "utility"}
    told = _domains(known)
    return told, [(text, moved.get(label, label)) for text, label in told[TRAIN + CLEAN :]]


@history("vader_domains", "vader tweet to movie")
def _tweet_to_movie(rows: list[dict[str, Any]], lots: random.Random) -> Built:
    return _opinions(rows, "tweet", lots), _opinions(rows, "movie_review", lots)


@history("vader_domains", "vader movie to tweet")
def _movie_to_tweet(rows: list[dict[str, Any]], lots: random.Random) -> Built:
    return _opinions(rows, "movie_review", lots), _opinions(rows, "tweet", lots)


def _opinions(rows: list[dict[str, Any]], domain: str, lots: random.Random) -> list[Pair]:
    told = [row for row in rows if row["domain"] == domain and row["label"] != "neutral"]
    return shuffled([(row["text"], row["label"]) for row in told], lots)


@history("xlmt_sentiment_en_es_de", "xlmt english to spanish")
def _spanish(rows: list[dict[str, Any]], lots: random.Random) -> Built:
    spoken = [[row for row in rows if row["language"] == name] for name in ("english", "spanish")]
    before, after = (shuffled([(row["text"], row["label"]) for row in part], lots) for part in spoken)
    return before, after


@history("banking77", "banking77 17 new classes")
def _new_classes(rows: list[dict[str, Any]], lots: random.Random) -> Built:
    late = set(sorted({row["label"] for row in rows})[::4][:17])
    told = shuffled([(row["text"], row["label"]) for row in rows], lots)
    old = [pair for pair in told if pair[1] not in late]
    new = [pair for pair in told if pair[1] in late][:CHANGED]
    later = old[TRAIN + CLEAN :][: len(new) * 7 // 3]
    return old, shuffled(later + new, lots)


@history("crisislex_t6", "crisislex t6 dated")
def _crises(rows: list[dict[str, Any]], lots: random.Random) -> Built:
    dated = sorted(rows, key=lambda row: str(row["timestamp"]))
    events = list(dict.fromkeys(row["event"] for row in dated))
    first = [row for row in dated if row["event"] == events[0]][: TRAIN + CLEAN]
    later = [row for row in dated if row["event"] != events[0]]
    chosen = sorted(lots.sample(range(len(later)), min(CHANGED, len(later))))
    told = [[(row["text"], row["label"]) for row in part] for part in (first, [later[n] for n in chosen])]
    return told[0], told[1]


@history("crisislex_t26", "crisislex t26 dated")
def _informative(rows: list[dict[str, Any]], lots: random.Random) -> Built:
    dated = sorted(rows, key=lambda row: str(row["timestamp"]))
    told = [(row["text"], str(row["informativeness"] == "Related and informative")) for row in dated]
    first = sum(str(row["timestamp"]) < "2013-02" for row in dated)
    chosen = sorted(lots.sample(range(first), min(first, TRAIN + CLEAN)))
    after = sorted(lots.sample(range(first, len(told)), min(CHANGED, len(told) - first)))
    return [told[number] for number in chosen], [told[number] for number in after]


QUICK = ("clinc abrupt", "clinc prior x12")


def main() -> None:
    """Replay what this machine has the data for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--only", default="", help="histories whose name holds this word")
    parser.add_argument("--write", type=Path, help="write the histories into this folder and stop")
    asked, options = parser.parse_known_args()
    names = [name for name in (QUICK if asked.quick else BUILDERS) if asked.only in name]
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            if not (data_folder() / BUILDERS[name][0]).exists():
                print(json.dumps({"history": name, "skipped": f"no {BUILDERS[name][0]} under TRUEUP_DATA"}))
                continue
            made = write(name, asked.write or Path(scratch))
            if asked.write is None:
                print(json.dumps(run(made, *options)), flush=True)


if __name__ == "__main__":
    main()
