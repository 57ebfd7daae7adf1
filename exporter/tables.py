"""Tables that the exporter owns; the monitor adds its own to the same `metadata`.

Every `*_at` column and `at` is seconds since 1970-01-01 UTC, as a double: the same arithmetic on SQLite and
PostgreSQL.
"""

from __future__ import annotations

from typing import Literal

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

Role = Literal["champion", "shadow", "canary"]
SealedState = Literal["marked", "written", "sealed"]
VersionState = Literal["candidate", "challenger", "champion", "retired", "rejected"]

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only where the key's type is INTEGER.
Serial = BigInteger().with_variant(Integer, "sqlite")

versions = Table(
    "versions",
    metadata,
    Column("model", Text, primary_key=True),
    Column("version", Text, primary_key=True),  # "v1", "v2", … per model, in order of registration
    Column("number", Integer, nullable=False),
    Column("parent", Text),
    Column("state", Text, nullable=False),  # VersionState
    Column("path", Text, nullable=False),  # the sealed directory
    Column("manifest_sha256", Text, nullable=False),
    Column("manifest", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("model", "number"),
)

# The hold-out of a version as the exporter's own engine answered it when the version was registered.
reference = Table(
    "reference",
    metadata,
    Column("model", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("row", Integer, primary_key=True, autoincrement=False),  # row number in holdout.parquet
    Column("in_reference", Boolean, nullable=False),  # False: kept for non-inferiority tests only
    Column("truth", Text),
    Column("label", Text, nullable=False),
    Column("score", Double, nullable=False),
    Column("scores", JSON, nullable=False),
    Column("similarity", Double),
    Column("tokens", Integer, nullable=False),
    Column("characters", Integer, nullable=False),
    ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.version"]),
)

deployments = Table(
    "deployments",
    metadata,
    Column("model", Text, primary_key=True),
    Column("champion", Text, nullable=False),
    Column("previous", Text),
    Column("revision", Integer, nullable=False),
    Column("changed_at", Double, nullable=False),
    ForeignKeyConstraint(["model", "champion"], ["versions.model", "versions.version"]),
)

deployment_events = Table(
    "deployment_events",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("model", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("replaced", Text),
    Column("reason", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("at", Double, nullable=False),
    Index(None, "model", "at"),
)

predictions = Table(
    "predictions",
    metadata,
    Column("seq", Serial, primary_key=True),  # order of loading; checks remember how far they read
    Column("id", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("role", Text, nullable=False),  # Role
    Column("at", Double, nullable=False),
    Column("text", Text),  # by the text policy; None where it is not kept
    Column("label", Text, nullable=False),
    Column("score", Double, nullable=False),
    Column("scores", JSON, nullable=False),  # probabilities in the manifest's order of labels
    Column("embedding", LargeBinary, nullable=False),  # pooled, unit length, fp16 little endian
    Column("similarity", Double),  # cosine to the nearest training text, in [-1, 1]
    Column("tokens", Integer, nullable=False),
    Column("characters", Integer, nullable=False),
    Column("truncated", Boolean, nullable=False),
    Column("queue_ms", Double, nullable=False),
    Column("run_ms", Double, nullable=False),
    Column("metadata", JSON, nullable=False),  # the client's own slices, {"name": "value"}
    Column("descriptors", JSON),  # of the raw text, see descriptors.Description.numbers
    Column("words", LargeBinary),  # hashed words of the raw text, where the text policy keeps words
    UniqueConstraint("id"),
    Index(None, "model", "version", "seq"),
    Index("ix_predictions_at", "at", postgresql_using="brin"),
)

# Generated answers: what a prediction of the task text-generation has beside its row in `predictions`.
generations = Table(
    "generations",
    metadata,
    Column("prediction_id", Text, primary_key=True),
    Column("answer", Text),  # by the text policy; None where it is not kept
    Column("prompt_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("finish_reason", Text, nullable=False),  # generation.FinishReason
    Column("first_token_ms", Double, nullable=False),  # since the request arrived
    Column("tokens_per_s", Double),  # after the first token
    Column("mean_logprob", Double, nullable=False),  # of the answer's tokens, natural logarithm
    Column("min_logprob", Double, nullable=False),
    Column("temperature", Double, nullable=False),
    Column("top_p", Double, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("guided", Boolean, nullable=False),  # by a JSON schema
)

labels = Table(
    "labels",
    metadata,
    Column("seq", Serial, primary_key=True),  # order of arrival
    Column("prediction_id", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("at", Double, nullable=False),
    UniqueConstraint("prediction_id"),
)

# Days of a version whose rows were moved into a file, see monitor/lake; rows that came late are another part.
sealed_days = Table(
    "sealed_days",
    metadata,
    Column("model", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("start_at", Double, primary_key=True),  # midnight UTC
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("until_seq", BigInteger, nullable=False),  # the last predictions.seq that may be in it
    Column("state", Text, nullable=False),  # SealedState
    Column("token", Text),  # of the file that was recorded
    Column("sha256", Text),  # of the same
    Column("at", Double, nullable=False),
)

# Labels that came for rows whose version did not know them, see new_classes.py.
new_classes = Table(
    "new_classes",
    metadata,
    Column("model", Text, primary_key=True),
    Column("label", Text, primary_key=True),
    Column("rows", BigInteger, nullable=False),
    Column("first_at", Double, nullable=False),
    Column("last_at", Double, nullable=False),
)

# Whose rows were deleted, and when; rows from before that a ledger still brings are not stored.
forgettings = Table(
    "forgettings",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("key", Text, nullable=False),  # of the client's metadata
    Column("digest", Text, nullable=False),  # of the value, see forgetting.digest
    Column("actor", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("predictions", Integer, nullable=False),  # deleted
    Column("labels", Integer, nullable=False),
    Index(None, "at"),
)

# How far each ledger segment was loaded, written in the same transaction as its rows: exactly once.
ledger_positions = Table(
    "ledger_positions",
    metadata,
    Column("segment", Text, primary_key=True),  # "<exporter id>/<segment file name>"
    Column("position", BigInteger, nullable=False),  # bytes loaded
    Column("sealed", Boolean, nullable=False),  # no more rows will come; the file may go
)

# Mergeable hourly counts, written with the batch: dashboards never scan predictions.
rollups = Table(
    "rollups",
    metadata,
    Column("model", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("hour", BigInteger, primary_key=True, autoincrement=False),  # start of the hour
    Column("series", Text, primary_key=True),  # "label", "confidence", "label_confidence", …
    Column("bin", Text, primary_key=True),
    Column("rows", BigInteger, nullable=False),
)

# The cells in which a version's rows are counted, and its reference in those cells (sketch.to_bytes).
sketches = Table(
    "sketches",
    metadata,
    Column("model", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("name", Text, nullable=False),  # of the content
    Column("content", LargeBinary, nullable=False),
    Column("slices", JSON(none_as_null=True)),  # metadata keys by which rows are counted too, see slices.py
    ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.version"]),
)

# Rows of one version in order of seq, counted: at most a hundred a block, never from two hours. Checks add up
# blocks and read no predictions.
blocks = Table(
    "blocks",
    metadata,
    Column("model", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("first_seq", BigInteger, primary_key=True, autoincrement=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("hour", BigInteger, nullable=False),  # start of the rows' hour
    Column("start_at", Double, nullable=False),
    Column("end_at", Double, nullable=False),
    Column("sketch", Text, nullable=False),  # name of the sketch that has these cells
    Column("counts", LargeBinary, nullable=False),  # uint8 [cells]
    Column("embedding_sum", LargeBinary),  # float32 little endian [hidden], None without embeddings
    Column("slices", JSON(none_as_null=True)),  # that came so far, in order, as "language=de"
    Column("slice_counts", LargeBinary),  # slices.pack: uint8 [slices, cells of sketch.SLICED]
)

# A challenger that answers beside the champion; one a model. Promoting or rolling back ends it.
trials = Table(
    "trials",
    metadata,
    Column("model", Text, primary_key=True),
    Column("champion", Text, nullable=False),  # whom it is compared with
    Column("challenger", Text, nullable=False),
    Column("mode", Text, nullable=False),  # trials.Mode
    Column("share", Double, nullable=False),  # of the keys that a canary answers
    Column("started_at", Double, nullable=False),
    ForeignKeyConstraint(["model", "challenger"], ["versions.model", "versions.version"]),
)

# Keys of callers, by hash (keys.py). A rotated name has two rows that are valid for a while.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False),  # the first letters of the key, which may be shown
    Column("sha256", Text, nullable=False),
    Column("roles", JSON, nullable=False),  # list of keys.AccessRole
    Column("requests_per_minute", Integer),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Column("used_at", Double),
    UniqueConstraint("sha256"),
)
