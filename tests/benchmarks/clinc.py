"""CLINC150 as "new intents, same desks": ten domains answer eight intents each, then seven others arrive.

Usage: python -m tests.benchmarks.clinc [OUT.jsonl]
writes a history for `trueup backtest`, one row a minute.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections import defaultdict
from pathlib import Path

START = 1_700_000_000
OLD_INTENTS = 8


def data_folder() -> Path:
    """Where the public data sets lie: TRUEUP_DATA, or `shared/data` beside the repository."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(os.environ.get("TRUEUP_DATA", beside))


def write_history(out: Path, *, clean: int = 2700, drifted: int = 3000, seed: int = 0) -> Path:
    """Write `clean` rows of old intents, then `drifted` rows of new ones; labels are domains."""
    lines = (data_folder() / "clinc150" / "data.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if row["domain"] != "oos"]
    intents = defaultdict(set)
    for row in rows:
        intents[row["domain"]].add(row["intent"])
    old = {intent for names in intents.values() for intent in sorted(names)[:OLD_INTENTS]}
    random.Random(seed).shuffle(rows)
    known = [row for row in rows if row["intent"] in old][:clean]
    new = [row for row in rows if row["intent"] not in old][:drifted]
    with out.open("w", encoding="utf-8") as file:
        for minute, row in enumerate(known + new):
            event = {"at": START + 60 * minute, "text": row["text"], "label": row["domain"]}
            file.write(json.dumps(event | {"intent": row["intent"]}) + "\n")
    return out


if __name__ == "__main__":
    write_history(Path(sys.argv[1] if len(sys.argv) > 1 else "clinc.jsonl"))
