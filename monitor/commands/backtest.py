"""`trueup backtest`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from monitor.backtest import sweep as sweeps
from monitor.backtest.first import MODEL, Plan
from monitor.backtest.past import read_history
from monitor.backtest.plot import chart_of, check_file, draw
from monitor.backtest.replay import replay
from monitor.commands import Context, Outcome, errors
from monitor.config import ConfigError, Settings
from monitor.settings import ModelSettings, seconds
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
    sweep: bool,
    grid: Sequence[str],
    plot: Path | None,
    quiet: bool,
) -> Outcome:
    """Replay the history in a scratch folder and print what would have happened."""
    if plot is not None:
        check_file(plot)
    policies = sweeps.grid(grid) if grid else sweeps.PRESETS if sweep else ()
    plan = _plan(context, history, train_rows, window, label_delay, label_rate, rung, base, seed)
    events = read_history(history)
    with tempfile.TemporaryDirectory(prefix="trueup-backtest-") as scratch, _bar(quiet) as bar:
        task = bar.add_task("replay", total=None, message="")

        def show(policy: str, done: int, total: int, message: str) -> None:
            bar.update(task, description=policy, completed=done, total=total, message=message)

        settings = _scratch(context.settings, Path(scratch), window)
        if policies:
            data = sweeps.sweep(events, plan, settings, policies, progress=show)
        else:
            data = replay(events, plan, settings, progress=partial(show, "replay"))
    if plot is not None:
        draw(chart_of(data, f"Backtest of {history.name}"), plot)
    return Outcome(data=data, view=_runs(data) if policies else _view(data))


def _plan(
    context: Context,
    history: Path,
    train_rows: int,
    window: int,
    label_delay: str,
    label_rate: float,
    rung: str,
    base: str,
    seed: int,
) -> Plan:
    if rung not in RUNGS:
        raise ConfigError("--rung", f"{rung!r} is not one of {', '.join(RUNGS)}")
    try:
        delay = seconds(label_delay)
    except ValueError as error:
        raise ConfigError("--label-delay", str(error)) from error
    tables = {
        "model": {"name": MODEL, "base": base},
        "data": {"train": history},
        "fit": {"rung": rung, "seed": seed, "threads": context.settings.trainer.threads},
    }
    return Plan(
        history=history,
        train_rows=train_rows,
        window=window,
        label_delay=delay,
        label_rate=label_rate,
        spec=parse_spec(tables),
        seed=seed,
    )


def _scratch(settings: Settings, folder: Path, window: int) -> Settings:
    """The user's settings on a database of its own, without what a replay cannot wait for.

    Evidently's report of every window would cost hours; a rollout needs requests while it lasts.
    """
    known = settings.model(MODEL)
    changes: dict[str, Any] = {"window": window, "spec": None}
    if "rollout" in ModelSettings.model_fields:
        changes["rollout"] = ()
    model = known.model_copy(update=changes)
    exporter = settings.exporter.model_copy(update={"database_url": ""})
    monitor = settings.monitor.model_copy(update={"evidently": bool(known.thresholds), "report_every": 1e12})
    own = {"home": folder, "models": {MODEL: model}, "exporter": exporter, "monitor": monitor}
    return settings.model_copy(update=own)


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


def _runs(data: dict[str, Any]) -> tuple[Any, ...]:
    """A row for each policy; a star where no other is as good for less."""
    columns = ("mean_accuracy", "pages", "retrains", "promotions", "labels_used", "cpu_seconds")
    table = Table("policy", *(name.replace("_", " ") for name in columns), "", box=None)
    for run in data["runs"]:
        shown = (str(run["summary"][name]) for name in columns)
        table.add_row(run["policy"], *shown, "*" if run["pareto"] else "")
    summary = data["runs"][0]["summary"]
    peers = "  ".join(f"{name} {summary[f'{name}_mean_accuracy']}" for name in ("frozen", "oracle"))
    cost = f"v1 and its embeddings, once for all: {data['shared_cpu_seconds']} CPU-seconds"
    return (table, peers, cost, "* no other policy is as accurate for fewer retrains and labels")
