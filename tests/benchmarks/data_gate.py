"""What the data gate finds in Banking77: labels that were flipped, hold-out rows that training rows repeat.

Usage: python -m tests.benchmarks.data_gate
prints one JSON document. Of the training rows 5 % get another label, drawn at random; "near" are pairs whose
words have a Jaccard similarity of .7 or more.
"""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np

from tests.benchmarks.texts import embedded, read
from trainer.duplicates import plain
from trainer.findings import Data, Finding, examine
from trainer.rows import HoldoutRow, Row

FLIPPED = 0.05


def found(kind: str, data: Data) -> tuple[Finding, float]:
    """The finding, and the CPU seconds that it took."""
    began = time.process_time()
    (finding,) = examine(data, {}, only=[kind])
    return finding, round(time.process_time() - began, 2)


def label_errors(rows: list[Row]) -> dict[str, Any]:
    labels = sorted({row.label for row in rows})
    rng = np.random.default_rng(0)
    flipped = set(rng.choice(len(rows), round(FLIPPED * len(rows)), replace=False).tolist())
    wrong = [
        replace(row, label=str(rng.choice([label for label in labels if label != row.label])))
        if place in flipped
        else row
        for place, row in enumerate(rows)
    ]
    embeddings = embedded([row.text for row in rows]).astype(np.float32)
    finding, cpu_s = found("label_errors", Data(rows=wrong, embeddings=embeddings))
    caught = len(flipped & set(finding.rows))
    return {
        "flipped": len(flipped),
        "named": len(finding.rows),
        "recall": round(caught / len(flipped), 3),
        "precision": round(caught / len(finding.rows), 3),
        "cpu_s": cpu_s,
    }


def leaks(rows: list[Row], holdout: list[HoldoutRow]) -> dict[str, Any]:
    finding, cpu_s = found("leakage", Data(rows=rows, holdout=holdout))
    named = {plain(rows[place].text) for place in finding.rows}
    exact = {plain(row.text) for row in rows} & {plain(row.text) for row in holdout}
    backwards, _ = found(
        "leakage",
        Data(
            rows=[Row(text=row.text, label=str(row.label)) for row in holdout],
            holdout=[HoldoutRow(text=row.text, label=row.label) for row in rows],
        ),
    )
    return {
        "exact": len(exact),
        "exact_found": len(exact & named),
        "training_rows_named": len(finding.rows),
        "holdout_rows_with_a_near_duplicate_found": len(backwards.rows),
        "cpu_s": cpu_s,
    }


def main() -> None:
    every = read("banking77")
    rows = [Row(text=row["text"], label=row["label"]) for row in every if row["split"] == "train"]
    held = [HoldoutRow(text=row["text"], label=row["label"]) for row in every if row["split"] == "test"]
    document = {
        "benchmark": "data_gate",
        "data": f"Banking77: {len(rows)} training rows, {len(held)} held out",
        "aims": {"recall": 0.8, "precision": 0.5, "exact": 25, "near_duplicates": 350},
        "label_errors": label_errors(rows),
        "leakage": leaks(rows, held),
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in ("numpy", "scipy", "cleanlab")},
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
