"""Every alert with its runbook: what it means, what it costs, what to do. Rules and README come from here.

Thresholds are metrics where users set them (page line, schedule): a change needs no reload of the rules.
"""

# ruff: noqa: E501 (queries and sentences stay whole, to be found and pasted)
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["page", "warning", "info"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One rule; `summary` may use Prometheus' templates."""

    name: str
    expr: str
    wait: str  # how long the expression must hold
    severity: Severity
    summary: str
    meaning: str
    steps: tuple[str, ...]
    board: str = "trueup-health"


EXPORTERS, MONITORS = 'job="trueup-exporter"', 'job="trueup-monitor"'
_MODEL = "{{ $labels.model }}"
_STALE = (
    "time() - max by (model) (trueup_check_run_timestamp_seconds)"
    " > 3 * max by (model) (trueup_check_interval_seconds) + 60"
)
_NO_TRAFFIC = (
    "max by (model, version) (trueup_version_serving) == 1 unless on (model)"
    " (sum by (model) (increase(trueup_predictions_total[1h])) > 0)"
)
_ERRORS = 'sum(rate(trueup_requests_total{status=~"5.."}[5m])) / sum(rate(trueup_requests_total[5m])) > 0.05'

DRIFT = (
    Alert(
        name="TrueupPage",
        expr='max by (model, cause) (trueup_episode_opened_timestamp_seconds{state="firing"}) > 0',
        wait="0s", severity="page", board="trueup-drift",
        summary=f"{_MODEL}: an alert episode fires, cause: {{{{ $labels.cause }}}}",
        meaning="The pager has proven a change within its budget of false pages, or a configured threshold is "
        "exceeded. A retrain may be queued already: the decision with its reasons is on the status page.",
        steps=(
            "Look at `trueup / Drift`: which detector won, since when, how large is the effect?",
            "Open the report of the window (table `Newest reports`, or the status page).",
            "`trueup alerts MODEL` shows the episode and what comes next; `trueup jobs MODEL` the retrain.",
            "Is it waiting for labels? Send them (`POST /v1/labels`, `trueup labels FILE`).",
            "Was the champion itself wrong from the start? `trueup rollback MODEL`.",
        ),
    ),
    Alert(
        name="TrueupRetrainFailed",
        expr='max by (model) (increase(trueup_retrains_total{outcome="failed"}[1h])) > 0',
        wait="0s", severity="warning", board="trueup-retraining",
        summary=f"{_MODEL}: a retrain failed; the champion serves on",
        meaning="A retrain ended without a verdict, after all its attempts. Nothing was promoted.",
        steps=(
            "`trueup jobs MODEL` names the error; the child's log lies in `<home>/jobs/<id>/<attempt>/trainer.log`.",
            "Killed by signal 9: memory. Give the monitor more, or a smaller `[fit]`.",
            "Mend, then `trueup retrain MODEL`.",
        ),
    ),
    Alert(
        name="TrueupChallengerRejected",
        expr='max by (model) (increase(trueup_retrains_total{outcome="rejected"}[1h])) > 0',
        wait="0s", severity="info", board="trueup-retraining",
        summary=f"{_MODEL}: a challenger was not proven better",
        meaning="The verdict refused a challenger; the champion serves on. After `max_rejected` in a row no "
        "retrain starts by itself.",
        steps=(
            "`trueup jobs MODEL` shows the verdict and its numbers.",
            "Too few rows? Send more labels; the refusal names how many are missing.",
        ),
    ),
)  # fmt: skip

DATA = (
    Alert(
        name="TrueupNotEnoughData",
        expr="max by (model) (trueup_model_state) <= 1",
        wait="1d", severity="warning", board="trueup-fleet",
        summary=f"{_MODEL}: no window could be judged for a day; that is not the same as no drift",
        meaning="The model was never checked, or its window holds too few rows. Nothing is known about drift.",
        steps=(
            "Does it get traffic? See `trueup / Serving`.",
            "Is `window` larger than a day's traffic? Lower it in `[models.NAME]`.",
        ),
    ),
    Alert(
        name="TrueupNoTraffic",
        expr=_NO_TRAFFIC,
        wait="30m", severity="warning", board="trueup-serving",
        summary=f"{_MODEL}: serves, but nobody asked for an hour",
        meaning="A version is loaded and answers nothing. Its clients may have gone, or cannot reach it.",
        steps=("Ask it yourself: `curl -d '{…}' http://EXPORTER/v1/predict`.", "Look at the client and at the proxy."),
    ),
    Alert(
        name="TrueupNoLabels",
        expr="max by (model) (trueup_champion) unless on (model) (max by (model) (trueup_accuracy))",
        wait="7d", severity="info", board="trueup-quality",
        summary=f"{_MODEL}: no accuracy for a week, for want of labels",
        meaning="Without labels changed meanings of classes cannot be seen, and nothing can be retrained.",
        steps=("Send a few hundred labels, old ones count too: `trueup labels FILE`.",),
    ),
    Alert(
        name="TrueupCheckStale",
        expr=_STALE,
        wait="1m", severity="page",
        summary=f"{_MODEL}: the newest scheduled check is {{{{ $value | humanizeDuration }}}} old",
        meaning="Checks are due and do not end. Drift would go unseen.",
        steps=(
            "Is there a leader, do slots wait or fail? See `trueup / Monitor health`.",
            "The monitor's log says why (`\"event\": \"failed\"`, with the slot's id).",
            "Restart the monitor: due times are kept, none is lost.",
        ),
    ),
    Alert(
        name="TrueupSlotsFailing",
        expr="max by (kind) (trueup_slots_failed) > 3",
        wait="5m", severity="warning",
        summary="{{ $value }} scheduled {{ $labels.kind }}s failed in 24 hours",
        meaning="A check or retrain raises an error again and again.",
        steps=("The monitor's log has the error with the slot's id; so has the table `due_slots`.",),
    ),
)  # fmt: skip

PROCESSES = (
    Alert(
        name="TrueupExporterDown",
        expr=f"up{{{EXPORTERS}}} == 0 or absent(up{{{EXPORTERS}}})",
        wait="1m", severity="page", board="trueup-serving",
        summary="exporter {{ $labels.instance }} does not answer",
        meaning="Predictions are refused, or the exporter is no longer scraped.",
        steps=(
            "`curl http://EXPORTER/healthz` and `/readyz`; its log ends with the reason.",
            "Start it again (`trueup serve`): what it had answered is in the ledger and is loaded at the start.",
        ),
    ),
    Alert(
        name="TrueupMonitorDown",
        expr=f"up{{{MONITORS}}} == 0 or absent(up{{{MONITORS}}})",
        wait="2m", severity="page",
        summary="monitor {{ $labels.instance }} does not answer",
        meaning="Nothing is checked and nobody is told of drift. Serving goes on.",
        steps=("Start it again (`trueup monitor`). Open episodes are kept and told then.",),
    ),
    Alert(
        name="TrueupDatabaseDown",
        expr="max(trueup_database_up) == 0",
        wait="1m", severity="page",
        summary="the monitor cannot read the database",
        meaning="Serving goes on and the ledger keeps every answer; checks, labels and retrains stand still.",
        steps=("`trueup doctor` says what is wrong.", "Bring the database back: the ledger is loaded by itself."),
    ),
    Alert(
        name="TrueupNoLeader",
        expr="max(trueup_leader) == 0",
        wait="1m", severity="page",
        summary="no monitor leads: nothing is scheduled, nobody is told",
        meaning="Monitors answer but none holds the lease.",
        steps=("See the monitors' logs for errors of the loop `lead`.", "Is the database read-only or its disk full?"),
    ),
    Alert(
        name="TrueupScheduleBehind",
        expr="max(trueup_slot_lag_seconds) > 300",
        wait="5m", severity="warning",
        summary="a due check or retrain has waited {{ $value | humanizeDuration }}",
        meaning="More is due than the monitors can work off.",
        steps=("Start one more monitor on the same database, or check less often (`[monitor] check`).",),
    ),
    Alert(
        name="TrueupErrors",
        expr=_ERRORS,
        wait="5m", severity="page", board="trueup-serving",
        summary="{{ $value | humanizePercentage }} of the requests fail",
        meaning="Exporters answer 5xx: the ledger cannot be written, an engine fails, or requests time out.",
        steps=(
            "By status in `trueup / Serving`: 503 is ledger, deadline or shutdown, 500 an engine.",
            "The exporter's log names the model, version and kind of error.",
            "Since a promotion? `trueup rollback MODEL`.",
        ),
    ),
    Alert(
        name="TrueupVersionRefused",
        expr="sum by (model) (increase(trueup_versions_refused_total[15m])) > 0",
        wait="0s", severity="page", board="trueup-serving",
        summary=f"{_MODEL}: an exporter cannot load the deployed version; the one before serves",
        meaning="A file of the version is missing or differs from its seal, or memory does not suffice.",
        steps=("The exporter's log says which file.", "Restore the folder, or `trueup rollback MODEL`."),
    ),
)  # fmt: skip

STORAGE = (
    Alert(
        name="TrueupLedgerLag",
        expr="max by (instance) (trueup_ledger_lag_seconds) > 60",
        wait="2m", severity="warning",
        summary="{{ $labels.instance }}: answered predictions wait {{ $value | humanizeDuration }} for the database",
        meaning="Nothing is lost, but checks see old data and the ledger fills the disk.",
        steps=("Does the database answer (`trueup doctor`)?", "Watch `Ledger bytes waiting` and `Disk free`."),
    ),
    Alert(
        name="TrueupLedgerRefused",
        expr="sum by (instance) (increase(trueup_ledger_write_errors_total[5m])) > 0",
        wait="0s", severity="page",
        summary="{{ $labels.instance }}: the ledger cannot be written; requests are answered 503",
        meaning="An answer that cannot be recorded is not given.",
        steps=("Is the disk of the home full or read-only?", "It goes on by itself once there is room."),
    ),
    Alert(
        name="TrueupUnrecorded",
        expr="sum by (instance) (increase(trueup_predictions_unrecorded_total[5m])) > 0",
        wait="0s", severity="page",
        summary="{{ $labels.instance }}: predictions are answered that no record is kept of",
        meaning='The ledger cannot be written and `[exporter] on_full = "answer"` lets requests go on without it.',
        steps=("Is the disk of the home full or read-only?", "What was answered meanwhile is lost to every check."),
    ),
    Alert(
        name="TrueupLedgerDamaged",
        expr='sum by (instance) (increase(trueup_ledger_damages_total{kind="damaged"}[15m])) > 0',
        wait="0s", severity="page",
        summary="{{ $labels.instance }}: bytes of the ledger hold no predictions any more",
        meaning="Something other than the exporter wrote into the ledger, or the disk fails. "
        "Answered predictions may be missing from the database.",
        steps=(
            "The exporter's log names the segment (`ledger_damaged`); its bytes are kept in `<home>/ledger/.damaged`.",
            "Examine the disk (`dmesg`, SMART).",
        ),
    ),
    Alert(
        name="TrueupDiskLow",
        expr="min by (job, instance) (trueup_disk_free_bytes / trueup_disk_size_bytes) < 0.1",
        wait="5m", severity="warning",
        summary="{{ $labels.instance }}: {{ $value | humanizePercentage }} of the disk is free",
        meaning="A full disk stops the ledger, and with it predictions.",
        steps=(
            "Reports have a budget (`report_budget_mb`); versions and snapshots lie in `<home>/versions` and `<home>/data`.",
            "Is the ledger growing (`TrueupLedgerLag`)? Then mend the database first.",
        ),
    ),
    Alert(
        name="TrueupNotificationFailing",
        expr="max(trueup_notifications_undelivered) > 0",
        wait="10m", severity="warning",
        summary="{{ $value }} changes of alert episodes are not delivered",
        meaning="A channel of `[monitor] notify` refuses. Deliveries are tried again for a week.",
        steps=(
            "`trueup alerts deliveries` names the channel and its error; so does the monitor's log (`not delivered`).",
            "`trueup alerts test` tries every channel; after a mended URL restart the monitor: what fires is sent there.",
            "Until then this alert is the only word.",
        ),
    ),
    Alert(
        name="TrueupSeriesLeftOut",
        expr="sum by (metric) (increase(trueup_label_overflow_total[1h])) > 0",
        wait="1h", severity="info",
        summary="{{ $labels.metric }} is not complete: too many series",
        meaning="A limit of models, versions or series was reached. Pages do not depend on it: the monitor decides "
        "from the database.",
        steps=("Run one monitor per group of models, or do without that metric.",),
    ),
)  # fmt: skip

GROUPS: dict[str, tuple[Alert, ...]] = {
    "trueup-drift": DRIFT,
    "trueup-data": DATA,
    "trueup-processes": PROCESSES,
    "trueup-storage": STORAGE,
}

# Recording rules: what dashboards of others and long ranges want cheap.
RECORDED: dict[str, str] = {
    "model:trueup_predictions:rate5m": "sum by (model, version) (rate(trueup_predictions_total[5m]))",
    "model:trueup_engine_run_seconds:p95_5m": "histogram_quantile(0.95, sum by (le, model) "
    "(rate(trueup_engine_run_seconds_bucket[5m])))",
    "route:trueup_request_seconds:p95_5m": "histogram_quantile(0.95, sum by (le, route) "
    "(rate(trueup_request_seconds_bucket[5m])))",
    "trueup:errors:ratio_rate5m": '(sum(rate(trueup_requests_total{status=~"5.."}[5m])) or vector(0))'
    " / sum(rate(trueup_requests_total[5m]))",
    "model:trueup_evidence:page_line_ratio": "max by (model, version) (trueup_evidence_powers)"
    " / max by (model, version) (trueup_page_line_powers)",
    "model:trueup_accuracy:lost": "max by (model, version) (trueup_holdout_accuracy)"
    " - max by (model, version) (trueup_accuracy)",
}
