"""What a user may set for the monitor and for one model; unknown keys are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, field_validator

from exporter.settings import Mode
from monitor.report_metrics import known_thresholds

_HOUR_S = 3600.0
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def seconds(duration: str | float) -> float:
    """Seconds of a duration such as "90s", "1.5h" or a plain number; ValueError on anything else.

    >>> seconds("2h"), seconds("500ms"), seconds(3)
    (7200.0, 0.5, 3.0)
    """
    if not isinstance(duration, str):
        return float(duration)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|[smhdw]?)\s*", duration)
    if match is None:
        raise ValueError(
            f'{duration!r} is not a duration: write a number and a unit, such as "90s", "5m", "7d"'
        )
    number, unit = match.groups()
    return float(number) * (0.001 if unit == "ms" else _SECONDS[unit or "s"])


Seconds = Annotated[float, BeforeValidator(seconds), Field(ge=0)]
Thresholds = Annotated[dict[str, float], AfterValidator(known_thresholds)]


Season = Literal["none", "hour-of-day", "hour-of-week"]
SliceKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class MonitorSettings(BaseModel):
    """The table [monitor]."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8001, ge=0, le=65535)
    check: str = "*/5 * * * *"  # 5-field cron, or "every 30s"; "" never
    retrain: str = "0 3 * * 0"
    clean: str = "30 4 * * *"  # what follows is thrown away then
    keep_slots: Seconds = Field(default=2_592_000.0, gt=0)  # due times that were worked, 30 days
    keep_candidates: Seconds = Field(default=7_776_000.0, gt=0)  # of failed jobs, and their files: 90 days
    keep_notices: Seconds = Field(default=7_776_000.0, gt=0)  # and silences that ended: 90 days
    keep_audit: Seconds = Field(default=63_072_000.0, gt=0)  # what people did: 2 years
    lake: Path | None = None  # a folder, below `home` if relative: old predictions move there
    keep_predictions: Seconds = Field(
        default=7_776_000.0, gt=0
    )  # in the database, where there is a lake: 90 days
    keep_rows: int = Field(default=0, ge=0)  # likewise: of them, whole days beyond move too. 0: any number
    time_zone: str = "UTC"
    lease_s: Seconds = Field(default=3.0, gt=0)  # the leader's; a takeover lasts about as long
    job_lease_s: Seconds = Field(default=60.0, gt=0)
    max_attempts: int = Field(default=3, ge=1)
    evidently: bool = True
    # Between what takes longer than a check: report, explanation, accuracy's interval. A new page has them.
    report_every: Seconds = 60.0
    evidently_rows: int = Field(default=2000, ge=1)
    evidently_workspace: Path | None = None  # below `home`; every report also becomes a run in it
    report_budget_mb: float = Field(default=200.0, gt=0)  # of the reports, and again of the workspace
    notify: tuple[str, ...] = Field(default=("log",), repr=False)  # channel URLs: they hold secrets
    notify_by: Literal["apprise", "alertmanager"] = "apprise"  # one, so that nobody hears twice
    notify_texts: bool = True  # False: no words and example texts leave the house
    repeat_every: Seconds = Field(default=86400.0, gt=0)  # of what still fires
    public_url: str = Field(default="", pattern="^(https?://.*[^/])?$")  # of the status page, for links
    runbook_url: str = Field(default="", pattern="^(https?://.*)?$")  # "#TrueupPage" is added
    webhook_secret: SecretStr | None = None  # "whsec_…", signs webhook+https://
    allow_private: bool = False  # webhooks to private addresses


class ModelSettings(BaseModel):
    """The table [models.NAME]."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    spec: Path | None = None
    window: int = Field(default=500, ge=1)  # rows that one check judges
    period: Seconds | None = None  # judge whole hours such as "1h" or "1d" instead of `window` rows
    rolling: int = Field(default=1, ge=1)  # windows that effect and p-value look back on; bets never do
    season: Season = "none"  # compare like hours; the first day or week of traffic becomes the reference
    slices: tuple[SliceKey, ...] = Field(default=(), max_length=4)  # metadata keys, judged by value too
    min_window: int = Field(default=30, ge=1)  # fewer rows than this are never evidence
    error_rate: float = Field(default=0.01, ge=1e-5, le=0.5)  # share of requests that may fail
    false_pages_per_year: float = Field(default=0.02, gt=0, le=1)
    min_labels: int = Field(default=200, ge=1)  # labels since the drift began, before a retrain may start
    label_growth: float = Field(default=0.5, gt=0, le=100)  # so much larger before a loss is answered again
    new_labels: int | None = Field(default=None, ge=1)  # so many new labels retrain by themselves
    new_classes: Literal["learn", "refuse"] = "learn"  # labels outside the label set
    min_class_rows: int = Field(default=5, ge=2)  # labelled rows from which a new class is learnt
    recover: bool = True  # a loss asks for retrains until it is proven won back
    cooldown: Seconds = 3600.0  # between retrains
    retrains_per_day: int = Field(default=4, ge=0)
    max_rejected: int = Field(
        default=3, ge=1
    )  # so many rejected candidates in a row stop the automatic retrains
    approval: bool = False  # True: a retrain waits for `trueup retrain`, said by a person
    verdict_share: float = Field(
        default=0.3, gt=0, lt=1
    )  # of recent labels, kept out of training for the verdict
    reference_rows: int = Field(default=1000, ge=1)
    margin: float = Field(default=0.03, gt=0, lt=1)
    rollout: tuple[Mode, ...] = ()  # "shadow", "canary": stages between a good verdict and the champion
    canary_share: float = Field(default=0.1, gt=0, le=1)  # of the keys that a canary answers
    trial: Seconds = 7 * 86400.0  # a stage that has not proven the challenger by then rejects it
    retrain_rung: Literal["same", "head", "adapter"] = "same"
    replay_rows: int | None = Field(default=None, ge=1)
    thresholds: Thresholds = Field(default_factory=dict)  # Evidently metric -> lower limit

    @field_validator("rollout")
    @classmethod
    def _in_order(cls, rollout: tuple[Mode, ...]) -> tuple[Mode, ...]:
        if rollout not in ((), ("shadow",), ("canary",), ("shadow", "canary")):
            raise ValueError('rollout is ["shadow"], ["canary"], ["shadow", "canary"] or []')
        return rollout

    @field_validator("slices")
    @classmethod
    def _each_once(cls, slices: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(slices)) < len(slices):
            raise ValueError("slices names a metadata key twice")
        return tuple(sorted(slices))

    @field_validator("period")
    @classmethod
    def _whole_hours(cls, period: float | None) -> float | None:
        if period is not None and (period < _HOUR_S or period % _HOUR_S):
            raise ValueError('period must be whole hours, such as "1h" or "1d": rows are counted by the hour')
        return period
