"""Labels: hand in a file of truths, and draw the rows whose truth would tell the most."""

from __future__ import annotations

import csv
import io
import json
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table

from exporter import registry
from exporter.labels import record_labels
from exporter.redact import keeping
from monitor.asking import database_now
from monitor.commands import Context, Outcome, known
from monitor.errors import MonitorError
from monitor.quality import LabelRequest, next_labels

FIELDS = ("id", "text", "predicted", "label", "why")


class LabelFileError(MonitorError):
    """A label file or a line of it cannot be read."""

    def __init__(self, file: Path, line: int, problem: str) -> None:
        super().__init__(
            f'{file}:{line}: {problem}; each line is {{"id": "p…", "label": "…"}}, '
            "or the file is .csv with the columns id and label."
        )


class WhichModelError(MonitorError):
    """Several models, and none was named."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(f"Name the model with --model, one of: {', '.join(names) or 'none yet'}.")


class NoChampionError(MonitorError):
    """Nobody answers for a model."""

    def __init__(self, model: str) -> None:
        super().__init__(f"Model {model!r} has no champion: `trueup promote {model} VERSION` makes one.")


def labels(context: Context, *, file: Path) -> Outcome:
    """Record a file of labels; report refused rows, keep the rest, skip rows not filled in yet."""
    rows = list(_read_labels(file))
    told = [row for row in rows if row[2]]
    exporter = context.settings.exporter
    outcomes = record_labels(
        context.db,
        [(id_, label) for _, id_, label in told],
        source="file",
        now=time.time(),
        learns=context.settings.learns,
        kept=keeping(exporter.store_text, exporter.redact).label,
    )
    refused = [
        asdict(one) | {"line": line}
        for (line, _, _), one in zip(told, outcomes, strict=True)
        if one.status == "error"
    ]
    new = Counter(
        label for (_, _, label), one in zip(told, outcomes, strict=True) if one.status == "new_label"
    )
    data = {
        "stored": sum(one.status in ("stored", "new_label") for one in outcomes),
        "new_labels": dict(new),
        "duplicates": sum(one.status == "duplicate" for one in outcomes),
        "empty": len(rows) - len(told),
        "errors": refused,
    }
    lines = [f"{data['stored']} stored, {data['duplicates']} already there, {len(refused)} refused"]
    lines += [f"  new label {name!r}: {count} rows" for name, count in new.most_common()]
    lines += [f"  line {one['line']}: {one['message']}" for one in refused[:20]]
    if data["empty"]:
        lines.append(f"{data['empty']} without a label yet")
    return Outcome(data=data, view=tuple(lines), status=int(bool(refused)))


def following(
    context: Context, *, count: int, model: str | None, out: Path | None, seed: int | None
) -> Outcome:
    """Draw the next rows to label and write them into a file to fill in."""
    name = known(context, model) or _only(registry.models(context.db))
    version = registry.champion(context.db, name)
    if version is None:
        raise NoChampionError(name)
    if out is not None:
        _probe(out)  # what is drawn is never drawn again: the file must be writable before
    seed = secrets.randbits(32) if seed is None else seed
    asked = next_labels(context.db, name, version, count, seed, now=database_now(context.db))
    if out is not None:
        out.write_text(_written(asked, out.suffix == ".csv"), encoding="utf-8")
    data = {
        "model": name,
        "version": version,
        "seed": seed,
        "file": None if out is None else str(out),
        "requests": [asdict(one) for one in asked],
    }
    return Outcome(data=data, view=_view(asked, out))


def _view(asked: Sequence[LabelRequest], out: Path | None) -> tuple[Any, ...]:
    counted = Counter(one.strategy for one in asked)
    summary = ", ".join(f"{rows} {strategy}" for strategy, rows in counted.most_common())
    if out is not None:
        return (f"{len(asked)} rows in {out} ({summary}).", f"Fill in `label`, then: trueup labels {out}")
    table = Table("id", "predicted", "why", "text")
    for one in asked:
        table.add_row(one.id, one.predicted, one.why, (one.text or "–")[:80])
    return table, f"{summary}. With --out FILE.csv they come as a file to fill in."


def _written(asked: Sequence[LabelRequest], as_csv: bool) -> str:
    rows = [
        {"id": one.id, "text": one.text, "predicted": one.predicted, "label": "", "why": one.why}
        for one in asked
    ]
    if not as_csv:
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, FIELDS)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _probe(out: Path) -> None:
    try:
        out.open("a", encoding="utf-8").close()
    except OSError as error:
        raise LabelFileError(out, 0, f"cannot be written ({error.strerror})") from error


def _only(names: Sequence[str]) -> str:
    if len(names) != 1:
        raise WhichModelError(names)
    return names[0]


def _read_labels(file: Path) -> Iterator[tuple[int, str, str]]:
    """(line, id, label) of each row; an empty label is a row not filled in."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelFileError(file, 0, f"cannot be read ({error})") from error
    for line, row in _csv_rows(file, text) if file.suffix == ".csv" else _json_rows(file, text):
        if isinstance(row, Mapping) and isinstance(row.get("label"), list):  # the answer is one
            row = {**row, "label": json.dumps(row["label"], ensure_ascii=False)}
        if not isinstance(row, Mapping) or not all(isinstance(row.get(key), str) for key in ("id", "label")):
            raise LabelFileError(file, line, 'has no "id" and "label" that are strings')
        yield line, row["id"], row["label"] if row["label"].strip() else ""


def _csv_rows(file: Path, text: str) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(2**31 - 1)  # texts are longer than the module's 128 KiB
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise LabelFileError(file, reader.line_num, f"is not CSV ({error})") from error


def _json_rows(file: Path, text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            raise LabelFileError(file, number, f"is not JSON ({error.msg})") from error
