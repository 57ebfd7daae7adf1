"""Banking77, head rung: accuracy, and what its scores are worth before and after the sealed temperature.

Usage: python -m tests.benchmarks.head_quality
prints one JSON document. The head learns four fifths of the training rows, the temperature is fitted on
labelled rows of the other fifth as a training does it, and everything is measured on the whole test set.
"""

from __future__ import annotations

import json
import os
import platform
import time
from importlib.metadata import version
from typing import Any

import numpy as np

from tests.benchmarks.texts import embedded, read
from trainer.calibrate import ece, nll, temperature
from trainer.head import fit_head
from trainer.penalty import choose
from trainer.report import asked
from trainer.rows import HoldoutRow, Row
from trainer.spec import EvaluateTable
from trainer.split import stratified
from trainer.tasks.classification import decode

HELD = 0.2


def main() -> None:
    rows = read("banking77")
    train = [Row(text=row["text"], label=row["label"]) for row in rows if row["split"] == "train"]
    test = [Row(text=row["text"], label=row["label"]) for row in rows if row["split"] != "train"]
    labels = sorted({row.label for row in train})
    learnt, held = stratified(train, HELD, seed=0)
    everything = [*learnt, *held, *test]
    found = embedded([row.text for row in everything]).astype(np.float32)
    by_text = {row.text: one for row, one in zip(everything, found, strict=True)}
    numbers = {label: number for number, label in enumerate(labels)}

    def part(of: list[Row]) -> tuple[Any, Any]:
        return np.stack([by_text[row.text] for row in of]), np.array([numbers[row.label] for row in of])

    began = time.process_time()
    strength = choose(*part(learnt), classes=len(labels), seed=0)
    chosen = time.process_time() - began
    head = fit_head(*part(learnt), classes=len(labels), strength=strength)
    spent = time.process_time() - began
    embeddings, truth = part(test)
    logits = head.logits(embeddings)
    asked_rows = asked(
        [HoldoutRow(text=row.text, label=row.label) for row in held], labels, EvaluateTable().rows
    )
    fitted = {
        f"{len(some)} hold-out rows": temperature(head.logits(one), truths)
        for some in ([Row(text=row.text, label=str(row.label)) for row in asked_rows], held)
        for one, truths in [part(some)]
    }
    scales = {"unscaled": 1.0, **fitted}
    document = {
        "benchmark": "head_quality",
        "data": f"Banking77: {len(learnt)} rows learnt, {len(held)} held out, {len(test)} tested",
        "accuracy": float((logits.argmax(axis=1) == truth).mean()),
        "all_training_rows_accuracy": float(
            (
                fit_head(*part(train), classes=len(labels), strength=strength)
                .logits(embeddings)
                .argmax(axis=1)
                == truth
            ).mean()
        ),
        "aims": {"accuracy": 0.93, "ece": 0.03},
        "calibration": {
            name: {
                "temperature": heat,
                "ece": ece(decode(logits, heat), truth),
                "nll": nll(decode(logits, heat), truth),
            }
            for name, heat in scales.items()
        },
        "strength": strength,
        "choose_cpu_s": round(chosen, 2),
        "fit_cpu_s": round(spent - chosen, 2),
        "machine": platform.platform(),
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in ("numpy", "scipy")},
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
