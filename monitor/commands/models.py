"""Versions: train one, list them, choose which one answers."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from exporter import registry
from monitor import switch, verification
from monitor.commands import Context, Outcome, errors, known
from monitor.commands.figures import figures
from monitor.training import train_version
from trainer.report import read_report
from trainer.spec import load_spec


def train(context: Context, *, spec: Path, promote_first: bool, quiet: bool) -> Outcome:
    """Train in a child process, seal, register; the first version of a model serves at once."""
    loaded = load_spec(spec, os.environ)
    with stages(quiet) as show:
        version, manifest = train_version(
            context.db,
            context.home,
            loaded,
            spec,
            trainer=context.settings.trainer,
            device=context.settings.exporter.device,
            precision=context.settings.exporter.precision,
            progress=show,
        )
    model = loaded.model.name
    promoted = promote_first and registry.champion(context.db, model) is None
    if promoted:
        registry.promote(context.db, model, version, expected=None, reason="first version", actor="train")
    path = registry.version_path(context.db, model, version)
    report = read_report(path)
    data = {
        "model": model,
        "version": version,
        "champion": registry.champion(context.db, model),
        "path": str(path),
        "metrics": manifest.metrics,
        "parity": manifest.parity,
        "report": report,
        "findings": manifest.findings,
    }
    table = Table("", "", box=None, show_header=False)
    for key in ("model", "version", "champion", "path", "parity"):
        table.add_row(key, str(data[key]))
    for one in manifest.findings:
        table.add_row(one["kind"], f"{one['message']} ({one['action']})")
    found = figures(report) if report is not None else ()
    return Outcome(data=data, view=(table, *found, f"Next: trueup serve answers as {model}."))


def models(context: Context, *, name: str | None) -> Outcome:
    """List versions with their state, accuracy on the hold-out, and age."""
    rows = registry.list_versions(context.db, known(context, name))
    champions = {model: registry.champion(context.db, model) for model in registry.models(context.db)}
    data = [
        {
            "model": row.model,
            "version": row.version,
            "state": row.state,
            "parent": row.parent,
            "rung": row.manifest["rung"],
            "metrics": row.manifest["metrics"],
            "created_at": row.created_at,
            "path": row.path,
        }
        for row in rows
    ]
    table = Table("model", "version", "state", "rung", "accuracy", "age", "parent")
    for entry in data:
        accuracy = entry["metrics"].get("accuracy")
        table.add_row(
            entry["model"], entry["version"], entry["state"], entry["rung"],
            "–" if accuracy is None else f"{accuracy:.3f}", age(entry["created_at"]), entry["parent"] or "–",
        )  # fmt: skip
    return Outcome(data={"versions": data, "champions": champions}, view=(table,))


def verify(context: Context, *, name: str | None) -> Outcome:
    """Prove the records of one model or of all; status 1 when something differs."""
    chosen = known(context, name)
    names = registry.models(context.db) if chosen is None else [chosen]
    found = [verification.verify(context.db, model) for model in names]
    table = Table("model", "verdicts", "versions", "problems")
    for one in found:
        table.add_row(one.model, str(one.records), str(one.versions), str(len(one.problems)))
    heads = [f"Newest record of {one.model}: {one.head}" for one in found if one.head is not None]
    problems = [problem for one in found for problem in one.problems]
    data = {"models": [asdict(one) for one in found], "problems": len(problems)}
    return Outcome(data=data, view=(table, *heads, *problems), status=int(bool(problems)))


def promote(context: Context, *, name: str, version: str, reason: str) -> Outcome:
    """Compare-and-set the champion."""
    champion = registry.champion(context.db, name)
    switch.promote(context.db, name, version, expected=champion, reason=reason, actor="cli")
    return Outcome(
        data={"model": name, "champion": version, "replaced": champion},
        view=(f"{name}: {champion or 'nothing'} → {version}",),
    )


def rollback(context: Context, *, name: str, reason: str) -> Outcome:
    """Back to the champion before."""
    replaced = registry.champion(context.db, name)
    version = switch.roll_back(context.db, name, expected=replaced, reason=reason, actor="cli")
    return Outcome(
        data={"model": name, "champion": version, "replaced": replaced},
        view=(f"{name}: {replaced} → {version}",),
    )


def age(at: float) -> str:
    """Time since `at`, as a person would say it."""
    seconds = max(0.0, time.time() - at)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


class stages:  # noqa: N801 -- used like a function, `with stages(quiet) as show`
    """A progress bar per stage of the trainer; silent without a terminal."""

    def __init__(self, quiet: bool) -> None:
        self._bar = Progress(
            TextColumn("{task.description:<8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("{task.fields[message]}"), console=errors, disable=quiet or not sys.stderr.isatty(),
        )  # fmt: skip
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Any:
        self._bar.start()
        return self._show

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _show(self, progress: dict[str, Any]) -> None:
        stage = progress["stage"]
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(stage, total=progress.get("total"), message="")
        self._bar.update(
            self._tasks[stage],
            completed=progress.get("done"),
            total=progress.get("total"),
            message=progress.get("message", ""),
        )
