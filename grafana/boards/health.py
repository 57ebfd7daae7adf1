"""Monitor health: does trueup itself work? No drift told by a dead monitor is worth nothing."""

# ruff: noqa: E501 (queries and sentences stay whole, to be found and pasted)
from __future__ import annotations

from grafana.board import MODEL, Board, Row
from grafana.boards.fleet import stale
from grafana.panels import BAD, OK, WARN, Column, Query, lines, number, rows, states

ONE_IS_FINE = ((None, BAD), (1.0, OK))
JOBS = 'job=~"trueup-.*"'
DISK = f"min by (job, instance) (trueup_disk_free_bytes{{{JOBS}}} / trueup_disk_size_bytes{{{JOBS}}})"

BOARD = Board(
    uid="trueup-health",
    title="trueup / Monitor health",
    meaning="Database, leader, schedule, notifications, ledger, disk and the metrics themselves.",
    rows=(
        Row(
            "Now",
            (
                number("Database", "1 while it answers the monitor.", "min(trueup_database_up)", steps=ONE_IS_FINE),
                number("Leader", "1 while a monitor leads: without one nothing is scheduled.", "max(trueup_leader)", steps=ONE_IS_FINE),
                number("Oldest due slot", "Check or retrain that is due and waits, all models.", "max(trueup_slot_lag_seconds)",
                       unit="s", steps=((None, OK), (60.0, WARN), (300.0, BAD))),
                number("Undelivered", "Changes of episodes that somebody was not told yet.", "max(trueup_notifications_undelivered)",
                       steps=((None, OK), (1.0, BAD))),
                number("Ledger behind", "Since a ledger was wholly in the database, the worst exporter.",
                       "max(trueup_ledger_lag_seconds)", unit="s", steps=((None, OK), (10.0, WARN), (60.0, BAD))),
                number("Disk free", "Where a home lies, the worst.", f"min({DISK})", unit="percentunit",
                       steps=((None, BAD), (0.1, WARN), (0.2, OK))),
            ),
        ),
        Row(
            "Schedule",
            (
                lines("Age of the newest check, over its limit", "Three intervals and a minute are 1: then it is stale.",
                      Query(stale(MODEL), "{{model}}"), Query("vector(1)", "limit"), smallest=0),
                lines("Waiting slots", "Checks and retrains that are due.",
                      Query("max(trueup_slots_waiting)", "waiting"), unit="short", smallest=0),
                lines("Failed slots", "Of the last 24 hours, by kind.",
                      Query("max by (kind) (trueup_slots_failed)", "{{kind}}"), unit="short", smallest=0),
                lines("Changes of the leader", "Each is a monitor that started, ended or died.",
                      Query("max(changes(trueup_leader_changes_total[$__rate_interval]))", "changes"), unit="short", smallest=0),
                lines("From data to check", "From a window's last prediction to its check.",
                      Query(f"max by (model) (trueup_check_delay_seconds{{{MODEL}}})", "{{model}}"), unit="s", smallest=0),
                lines("Deliveries that failed", "Tries so far of changes that are not delivered yet.",
                      Query("max(trueup_notification_tries)", "tries"), unit="short", smallest=0),
            ),
        ),
        Row(
            "Ledger and disk",
            (
                lines("Ledger behind", "Seconds since the whole ledger was in the database; 0 while it is.",
                      Query("max by (instance) (trueup_ledger_lag_seconds)", "{{instance}}"), unit="s", smallest=0),
                lines("Ledger bytes waiting", "On the exporter's disk, not yet in the database.",
                      Query("max by (instance) (trueup_ledger_lag_bytes)", "{{instance}}"), unit="bytes", smallest=0),
                lines("Rows loaded", "From ledgers to the database.",
                      Query("sum by (instance) (rate(trueup_ledger_rows_loaded_total[$__rate_interval]))", "{{instance}}"), unit="cps", smallest=0),
                lines("Refused ledger writes", "Micro-batches that were answered 503 because the ledger could not be written.",
                      Query("sum by (instance) (increase(trueup_ledger_write_errors_total[$__rate_interval]))", "{{instance}}"), unit="short", smallest=0),
                lines("Disk free", "Share of the file system of each home.",
                      Query(DISK, "{{job}} {{instance}}"), unit="percentunit", smallest=0),
                lines("Memory", "Resident set of each process.",
                      Query(f"max by (job, instance) (process_resident_memory_bytes{{{JOBS}}})", "{{job}} {{instance}}"), unit="bytes", smallest=0),
            ),
        ),
        Row(
            "Processes and metrics",
            (
                states("Up", "Which processes answer Prometheus.",
                       Query(f"max by (job, instance) (up{{{JOBS}}})", "{{job}} {{instance}}"), (("down", BAD), ("up", OK)), width=12),
                lines("Processor", "Cores in use.",
                      Query(f"sum by (job, instance) (rate(process_cpu_seconds_total{{{JOBS}}}[$__rate_interval]))", "{{job}} {{instance}}"), unit="none", smallest=0),
                lines("Duration of a scrape", "What it costs to read the metrics.",
                      Query(f"max by (job, instance) (scrape_duration_seconds{{{JOBS}}})", "{{job}} {{instance}}"), unit="s", smallest=0),
                lines("Samples of a scrape", "They stay bounded whatever users send.",
                      Query(f"max by (job, instance) (scrape_samples_scraped{{{JOBS}}})", "{{job}} {{instance}}"), unit="short", smallest=0),
                rows("Label overflow", "Series left out because a limit was reached, in this range.",
                     Column("Left out", "sum by (metric) (increase(trueup_label_overflow_total[$__range]))", "none", ((None, OK), (1.0, WARN)))),
            ),
        ),
    ),
)  # fmt: skip
