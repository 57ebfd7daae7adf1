"""Several policies over one past: what each would have won back, and what it would have cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from pydantic import ValidationError

from monitor.backtest.first import MODEL, Plan, prepare
from monitor.backtest.past import Event
from monitor.backtest.replay import replay
from monitor.config import Settings
from monitor.errors import MonitorError
from monitor.settings import ModelSettings

MOST = 48  # policies of one sweep
KEYS = (
    "min_labels", "label_growth", "new_labels", "new_classes", "min_class_rows", "recover", "cooldown",
    "retrains_per_day", "max_rejected", "verdict_share", "margin", "false_pages_per_year", "replay_rows",
    "approval",
)  # fmt: skip
Progress = Callable[[str, int, int, str], None]  # policy, rows done, rows in all, message


class SweepError(MonitorError):
    """A grid that cannot be replayed: what is wrong and what to write instead."""

    def __init__(self, given: str, problem: str) -> None:
        super().__init__(
            f"--grid {given}: {problem}. Write KEY=VALUE,VALUE with a key out of {', '.join(KEYS)}."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Changes to [models.NAME] under a name."""

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)


PRESETS = (
    Policy(name="configured"),
    Policy(name="eager", changes={"min_labels": 100, "label_growth": 0.5, "cooldown": 0.0}),
    Policy(name="patient", changes={"min_labels": 500, "label_growth": 2.0}),
    Policy(name="pages only", changes={"recover": False}),
    Policy(name="every 1000 labels", changes={"new_labels": 1000}),
    Policy(name="a fifth to prove", changes={"verdict_share": 0.2}),
)


def grid(given: Sequence[str]) -> tuple[Policy, ...]:
    """Every combination of "KEY=VALUE,VALUE" arguments; SweepError names the first that is wrong.

    >>> [policy.name for policy in grid(["min_labels=100,200", "cooldown=1h"])]
    ['min_labels=100 cooldown=1h', 'min_labels=200 cooldown=1h']
    """
    axes = [_axis(one) for one in given]
    found = tuple(
        Policy(name=" ".join(f"{key}={value}" for key, value in chosen), changes=dict(chosen))
        for chosen in product(*axes)
    )
    if len(found) > MOST:
        raise SweepError(" ".join(given), f"that makes {len(found)} policies, at most {MOST} are replayed")
    for policy in found:
        changed(ModelSettings(), policy)
    return found


def changed(settings: ModelSettings, policy: Policy) -> ModelSettings:
    """`settings` with a policy's changes, validated; SweepError."""
    try:
        return ModelSettings.model_validate(settings.model_dump() | dict(policy.changes))
    except ValidationError as error:
        first = error.errors()[0]
        raise SweepError(policy.name, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def sweep(
    events: Sequence[Event],
    plan: Plan,
    settings: Settings,
    policies: Sequence[Policy],
    *,
    progress: Progress,
) -> dict[str, Any]:
    """Replay the past once for each policy, below `settings.home`; v1 is trained and embeds once for all.

    Raises SweepError, HistoryError, TrainerError.
    """
    models = [changed(settings.model(MODEL), policy) for policy in policies]
    first = settings.model_copy(update={"home": settings.home / "first"})
    shared = prepare(events, plan, first, progress=_named(progress, "v1"))
    runs: list[dict[str, Any]] = []
    for number, (policy, model) in enumerate(zip(policies, models, strict=True)):
        own = {"home": settings.home / str(number), "models": {MODEL: model}}
        told = replay(
            events,
            plan,
            settings.model_copy(update=own),
            progress=_named(progress, policy.name),
            shared=shared,
        )
        runs.append({"policy": policy.name, "changes": dict(policy.changes), **told})
    for run in runs:
        run["pareto"] = not any(_dominates(other["summary"], run["summary"]) for other in runs)
    return {"runs": runs, "shared_cpu_seconds": round(shared.cpu_seconds, 1)}


def _dominates(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether a run is as accurate as another for no more retrains and labels, and better in one of them."""
    gains = [
        one["mean_accuracy"] - other["mean_accuracy"],
        other["retrains"] - one["retrains"],
        other["labels_used"] - one["labels_used"],
    ]
    return bool(min(gains) >= 0 and max(gains) > 0)


def _named(progress: Progress, name: str) -> Callable[[int, int, str], None]:
    return lambda done, total, message: progress(name, done, total, message)


def _axis(given: str) -> list[tuple[str, str]]:
    key, _, values = given.partition("=")
    if key not in KEYS:
        raise SweepError(given, f"{key!r} is not a key of a policy")
    chosen = [value.strip() for value in values.split(",") if value.strip()]
    if not chosen:
        raise SweepError(given, "it has no value")
    return [(key, value) for value in chosen]
