"""`trueup backtest`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from monitor.backtest.past import read_history
from monitor.backtest.replay import MODEL, Plan, replay
from monitor.commands import Context, Outcome, errors
from monitor.config import ConfigError, Settings
from monitor.settings import seconds
from monitor.story import powers
from trainer.spec import parse_spec

RUNGS = ("head", "adapter")


def backtest(
    context: Context,
    *,
    history: Path,
    train_rows: int,
    window: int,
    label_delay: str,
    label_rate: float,
    rung: str,
    base: str,
    seed: int,
    quiet: bool,
) -> Outcome:
    """Replay the history in a scratch folder and print what would have happened."""
    if rung not in RUNGS:
        raise ConfigError("--rung", f"{rung!r} is not one of {', '.join(RUNGS)}")
    try:
        delay = seconds(label_delay)
    except ValueError as error:
        raise ConfigError("--label-delay", str(error)) from error
    events = read_history(history)
    threads = context.settings.trainer.threads
    tables = {
        "model": {"name": MODEL, "base": base},
        "data": {"train": history},
        "fit": {"rung": rung, "seed": seed, "threads": threads},
    }
    plan = Plan(
        history=history,
        train_rows=train_rows,
        window=window,
        label_delay=delay,
        label_rate=label_rate,
        spec=parse_spec(tables),
        seed=seed,
    )
    with tempfile.TemporaryDirectory(prefix="trueup-backtest-") as scratch, _bar(quiet) as bar:
        task = bar.add_task("replay", total=None, message="")

        def show(done: int, total: int, message: str) -> None:
            bar.update(task, completed=done, total=total, message=message)

        data = replay(events, plan, _scratch(context.settings, Path(scratch), window), progress=show)
    return Outcome(data=data, view=_view(data))


def _scratch(settings: Settings, folder: Path, window: int) -> Settings:
    """The user's settings on a database of its own; Evidently's report of every window would cost hours."""
    known = settings.model(MODEL)
    model = known.model_copy(update={"window": window, "spec": None})
    exporter = settings.exporter.model_copy(update={"database_url": ""})
    monitor = settings.monitor.model_copy(update={"evidently": bool(known.thresholds)})
    changes = {"home": folder, "models": {MODEL: model}, "exporter": exporter, "monitor": monitor}
    return settings.model_copy(update=changes)


def _bar(quiet: bool) -> Progress:
    hidden = quiet or not sys.stderr.isatty()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TextColumn("{task.fields[message]}"), console=errors, disable=hidden)


def _view(data: dict[str, Any]) -> tuple[Any, ...]:
    table = Table("window", "accuracy", "frozen", "oracle", "version", "evidence", "", box=None)
    for number, one in enumerate(data["windows"], 1):
        shown = (f"{one[name]:.3f}" for name in ("accuracy", "frozen_accuracy", "oracle_accuracy"))
        powers_of_ten = powers(one["evidence"]["log_e"])
        evidence = "–" if powers_of_ten is None else f"10^{powers_of_ten:+.1f}"
        mark = "PAGE" if one["page"] else ""
        table.add_row(str(number), *shown, one["version"], evidence, mark)
    summary = data["summary"]
    line = "  ".join(f"{name} {value}" for name, value in summary.items())
    retrains = (
        f"retrain: {one['trigger']}, {one['verdict']} ({one['labels_used']} labels)"
        for one in data["retrains"]
    )
    return (table, *retrains, line)
