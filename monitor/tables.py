"""Tables that the monitor owns, on the exporter's `metadata`: one history of migrations for all of them."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from exporter.tables import Serial, metadata

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
EpisodeState = Literal["pending", "firing", "resolved"]
SlotState = Literal["queued", "running", "done", "failed"]
NoticeKind = Literal["firing", "worse", "repeat", "resolved"]
DeliveryState = Literal["waiting", "sending", "sent", "failed", "skipped"]
CheckState = Literal["ok", "drift", "not enough data", "failed"]

# One check judges one window of predictions and the labels that arrived since the check before.
checks = Table(
    "checks",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("model", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("state", Text, nullable=False),  # CheckState
    Column("first_seq", BigInteger),  # predictions.seq of the window, inclusive
    Column("last_seq", BigInteger, nullable=False),
    Column("last_label_seq", BigInteger, nullable=False),
    Column("window_start_at", Double),
    Column("window_end_at", Double),
    Column("rows", Integer, nullable=False),
    Column("labelled", Integer, nullable=False),
    Column("accuracy", Double),  # of the labels that arrived, None without labels
    Column("log_e", Double),  # natural logarithm of the pager's e-value after this window
    Column("log_page_line", Double),  # the page is at log_e >= this
    Column("paged", Boolean, nullable=False),
    Column("decision", JSON),  # {"action", "trigger", "reasons": […]}
    Column("evidently", JSON),  # {"metrics": […], "tests": […], "failed": […]}
    Column("report", Text),  # file name of the HTML report, below <home>/reports
    Column("at", Double, nullable=False),
    Column("quality", JSON),  # quality.Quality of the recent rows, of a call's newest check only
    Column("last_outcome_hour", BigInteger),  # start of the last hour whose requests were judged
    Column("error_rate", Double),  # of the requests that were judged, None without
    Index(None, "model", "id"),
    # What the status page draws of 90 days, read from the index alone.
    Index("ix_checks_course", "model", "at", "log_e", "log_page_line", "paged", "id"),
    Index(
        "ix_checks_measured",
        "model",
        "id",
        postgresql_where=text("quality is not null"),
        sqlite_where=text("quality is not null"),
    ),
)

evidence = Table(
    "evidence",
    metadata,
    Column("check_id", Serial, ForeignKey("checks.id"), primary_key=True, autoincrement=False),
    Column("detector", Text, primary_key=True),
    Column("rows", Integer, nullable=False),
    Column("enough", Boolean, nullable=False),  # False: not enough data, and no number below
    Column("effect", Double),
    Column("p_value", Double),
    Column("log_e", Double),
    Column("detail", JSON, nullable=False),
)

# What a detector's bettor has won so far against one version's reference.
wealth = Table(
    "wealth",
    metadata,
    Column("model", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("detector", Text, primary_key=True),
    Column("state", JSON, nullable=False),
    Column("updated_at", Double, nullable=False),
)

# One pager a version (and one more after each resolved page): each spends its part of the year's budget.
pagers = Table(
    "pagers",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("model", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("alpha", Double, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("slices", JSON(none_as_null=True)),  # metadata keys that share its budget, None: the whole has all
    Index(
        "uq_pagers_one_open",
        "model",
        unique=True,
        postgresql_where=text("ended_at is null"),
        sqlite_where=text("ended_at is null"),
    ),
)

# The first complete season of a version's traffic, counted by stratum: the reference of a seasonal pager.
seasons = Table(
    "seasons",
    metadata,
    Column("model", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("season", Text, primary_key=True),  # settings.Season
    Column("last_seq", BigInteger, nullable=False),  # the last prediction in it; bets begin after it
    Column("sketch", Text, nullable=False),  # name of the sketch that has these cells
    Column("strata", JSON, nullable=False),  # {stratum: rows in each cell of the sketch}
    Column("frozen_at", Double, nullable=False),
)

# A slice's first rows under a version, until they are enough and frozen: the reference of its bettors.
slice_references = Table(
    "slice_references",
    metadata,
    Column("model", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("slice", Text, primary_key=True),  # "language=de"
    Column("season", Text, nullable=False),  # settings.Season
    Column("sketch", Text, nullable=False),  # name of the sketch that has these cells
    Column("strata", JSON, nullable=False),  # {stratum: rows in each cell of sketch.slice_places}
    Column("start_at", Double, nullable=False),  # of its first window
    Column("frozen_at", Double),  # None: it still grows, and nobody bets
)

episodes = Table(
    "episodes",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("model", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("cause", Text, nullable=False),  # "drift", "accuracy", "threshold:<metric>"
    Column("state", Text, nullable=False),  # EpisodeState
    Column("opened_at", Double, nullable=False),
    Column("fired_at", Double),
    Column("resolved_at", Double),
    Column("detail", JSON, nullable=False),
    Index(None, "model", "id"),
    Index(
        "uq_episodes_one_open",
        "model",
        "cause",
        unique=True,
        postgresql_where=text("state <> 'resolved'"),
        sqlite_where=text("state <> 'resolved'"),
    ),
)

# What people must hear of a model, written with the change of its episodes; `follows` makes it a chain.
notices = Table(
    "notices",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("model", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("kind", Text, nullable=False),  # NoticeKind
    Column("group_id", BigInteger, nullable=False),  # episodes.id of the first, until resolved
    Column("causes", JSON, nullable=False),
    Column("dedupe_key", Text, nullable=False, unique=True),  # model and the notice that this one follows
    Column("key", Text, nullable=False, unique=True),  # for receivers: the same at every attempt
    Column("created_at", Double, nullable=False),
    Column("content", JSON),  # notice_facts.read_facts, frozen when it is routed
    Column("routed_at", Double),
    Index(None, "model", "id"),
    Index(
        "ix_notices_unrouted",
        "id",
        postgresql_where=text("routed_at is null"),
        sqlite_where=text("routed_at is null"),
    ),
)

# The outbox: one row a notice and channel, claimed with a lease and fenced by the attempt.
deliveries = Table(
    "deliveries",
    metadata,
    Column("notice_id", Serial, ForeignKey("notices.id"), primary_key=True, autoincrement=False),
    Column("channel", Text, primary_key=True),  # channels.channel_name: never the URL, which holds secrets
    Column("state", Text, nullable=False),  # DeliveryState
    Column("attempt", Integer, nullable=False),
    Column("not_before", Double, nullable=False),  # back-off
    Column("worker", Text),
    Column("lease_until", Double),
    Column("error", Text),
    Column("finished_at", Double),
    Index(None, "state", "not_before"),
)

# Who asked that a model's alerts be held back, until when, and why.
silences = Table(
    "silences",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("model", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("ends_at", Double, nullable=False),
    Column("ended_by", Text),  # None: it ran out by itself
    Index(None, "model", "ends_at"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("model", Text, nullable=False),
    Column("trigger", Text, nullable=False),  # "page", "threshold", "schedule", "manual"
    Column("dedupe_key", Text, nullable=False, unique=True),
    Column("state", Text, nullable=False),  # JobState
    Column("attempt", Integer, nullable=False),  # the fencing number: every write of a worker names it
    Column("max_attempts", Integer, nullable=False),
    Column("not_before", Double, nullable=False),  # back-off
    Column("worker", Text),
    Column("lease_until", Double),
    Column("cancel_requested", Boolean, nullable=False),
    Column("episode_id", BigInteger),
    Column("base_version", Text),  # the champion when the job was made
    Column("candidate", Text),  # the version that it registered
    Column("progress", JSON, nullable=False),  # {"stage", "done", "total", "eta_s"}
    Column("verdict", JSON),
    Column("error", Text),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("finished_at", Double),
    Column("labels", BigInteger),  # that it had to learn from; None: of an earlier release
    Index(None, "model", "id"),
    Index(
        "uq_jobs_one_active",
        "model",
        unique=True,
        postgresql_where=text("state in ('queued','running')"),
        sqlite_where=text("state in ('queued','running')"),
    ),
    Index(None, "state", "not_before"),
)

# A due time of a schedule; the key makes a doubled tick harmless.
due_slots = Table(
    "due_slots",
    metadata,
    Column("schedule", Text, primary_key=True),  # "check:<model>", "retrain:<model>"
    Column("due_at", Double, primary_key=True),
    Column("state", Text, nullable=False),  # SlotState
    Column("attempt", Integer, nullable=False),
    Column("worker", Text),
    Column("lease_until", Double),
    Column("epoch", Integer, nullable=False),  # the leader's reign that inserted it
    Column("error", Text),
    Index(None, "state", "due_at"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("epoch", Integer, nullable=False),  # grows with each new holder: the fencing number
    Column("expires_at", Double, nullable=False),
)

# Labels of a version's predictions, counted up to the label `last_seq`: see monitor/label_counts.py.
label_counts = Table(
    "label_counts",
    metadata,
    Column("model", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("rows", BigInteger, nullable=False),
    Column("right", BigInteger, nullable=False),  # the answer was the label
    Column("readable", BigInteger, nullable=False),  # the text was kept
    Column("last_seq", BigInteger, nullable=False),
    Column("own_seq", BigInteger, nullable=False),  # of the newest that is counted
)

# Processes that may be ended while they stand still with SQLite's write lock: see monitor/stuck.py.
monitors = Table(
    "monitors",
    metadata,
    Column("process", Text, primary_key=True),  # stuck.process_name
    Column("holder", Text, nullable=False),
    Column("started_at", Double, nullable=False),
)

# One record a verdict, promotion or refusal; each holds the hash of the one before of its model.
verdicts = Table(
    "verdicts",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("model", Text, nullable=False),
    Column("version", Text, nullable=False),  # the challenger
    Column("parent", Text, nullable=False),  # the champion
    Column("job", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    Column("record", JSON, nullable=False),  # all that the verdict rests on: see monitor/records.py
    Column("previous_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),  # sha256 of previous_hash and the record
    UniqueConstraint("model", "previous_hash"),  # a chain never forks
)

# Rows drawn for labelling: their probabilities make the accuracy of all rows estimable without bias.
label_requests = Table(
    "label_requests",
    metadata,
    Column("prediction_id", Text, primary_key=True),
    Column("model", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("strategy", Text, nullable=False),  # "uniform", "uncertain", "drift"
    Column("probability", Double, nullable=False),  # with which the draw took this row, in (0, 1]
    Column("draw", Text, nullable=False),  # one name for the rows of one draw
    Column("first_seq", BigInteger, nullable=False),  # predictions.seq of the rows drawn from, inclusive
    Column("last_seq", BigInteger, nullable=False),
    Column("rate", Double, nullable=False),  # rows drawn by rows drawn from
    Column("at", Double, nullable=False),
    Index(None, "model", "version", "at"),
)

# What moved in the rows of a check, and what that resembles: explain.Explanation.
explanations = Table(
    "explanations",
    metadata,
    Column("check_id", Serial, ForeignKey("checks.id"), primary_key=True, autoincrement=False),
    Column("model", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("content", JSON, nullable=False),
    Column("at", Double, nullable=False),
    Index(None, "model", "check_id"),
)

# The metrics of a check's Evidently report, by the names of report_metrics.METRICS; those that failed, too.
report_metrics = Table(
    "report_metrics",
    metadata,
    Column("check_id", Serial, ForeignKey("checks.id"), primary_key=True, autoincrement=False),
    Column("metric", Text, primary_key=True),
    Column("column", Text),  # None: of the whole window
    Column("method", Text),
    Column("value", Double),
    Column("threshold", Double),
    Column("drifted", Boolean, nullable=False),
    Column("failed", Text),  # why there is no value
)

# What people did on the status page; a row is written before the act, its outcome after it.
audit = Table(
    "audit",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("at", Double, nullable=False),
    Column("actor", Text, nullable=False),
    Column("address", Text, nullable=False),  # where the request came from
    Column("action", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("detail", JSON, nullable=False),  # what was confirmed: {"version", "reason", …}
    Column("once", Text, nullable=False, unique=True),  # of the form: a double click acts once
    Column("outcome", Text),  # "done", "refused"; None: it was cut off, and nobody knows
    Column("said", Text),  # the sentence that the person read
    Index(None, "model", "id"),
)

# Who has signed in on the status page. The cookie holds what `digest` is the sha256 of.
sessions = Table(
    "sessions",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("key", BigInteger, nullable=False),  # api_keys.id
    Column("expires_at", Double, nullable=False),
)
