"""The `[exporter]` table of trueup.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from exporter.machine import cores

Device = Literal["cpu", "cuda"]
Precision = Literal["auto", "fp32"]
Mode = Literal["shadow", "canary"]  # of a trial, see trials.py
Durability = Literal["process", "power"]
TextPolicy = Literal["none", "hash", "redacted", "full"]
OnFull = Literal["refuse", "answer"]


class ExporterSettings(BaseModel):
    """Read once by the command line; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)  # 0: any free port
    database_url: str = ""  # empty: SQLite in the home folder
    device: Device = "cpu"  # "cuda": refused at the start where CUDA does not come up
    precision: Precision = "auto"  # the fastest that a version's export has proven, or never below fp32
    threads: int = Field(default_factory=cores, ge=1)  # sessions at a time, a processor thread each
    max_texts: int = Field(default=256, ge=1)  # texts per request
    max_characters: int = Field(default=20_000, ge=1)  # characters per text
    max_body_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    read_timeout_s: float = Field(default=30.0, gt=0)  # for a head, a body, an answer to be taken
    requests_per_minute: int = Field(default=0, ge=0)  # of each key, in each exporter; 0: no limit
    metrics_token: SecretStr = SecretStr("")  # what /metrics asks for; empty: a key with the role read
    tls_cert: Path | None = None  # PEM, with its chain
    tls_key: Path | None = None
    queue_limit: int = Field(default=4096, ge=1)  # texts waiting; more are answered 429
    durability: Durability = "process"  # "power" also survives a power cut (one fdatasync per micro-batch)
    sticky_key: str = "user"  # metadata by which a canary draws; a request without it draws by its first text
    store_text: TextPolicy = "redacted"
    redact: dict[str, str] = Field(default_factory=dict)  # name: regular expression; it is kept as "[name]"
    poll_s: float = Field(default=0.5, gt=0)  # how often the deployed version is looked up
    memory_limit_mb: int = Field(default=0, ge=0)  # of loaded champions; the longest unused go. 0: no limit
    segment_bytes: int = Field(default=64 * 1024 * 1024, ge=4096)
    segment_age_s: float = Field(default=3600.0, gt=0)  # an older one is closed, loaded and removed
    ledger_budget_mb: int = Field(default=0, ge=0)  # of what waits for the database. 0: as the disk allows
    on_full: OnFull = "refuse"  # "answer": without a record, counted and told; a disk that is full, or gone
    load_interval_s: float = Field(default=0.5, gt=0)  # ledger to database; each time costs some 5 ms
    deadline_s: float = Field(default=30.0, gt=0)  # of a request; its client may ask for less (x-timeout-ms)
    drain_s: float = Field(default=0.5, ge=0)  # after SIGTERM: not ready, still answering
    otlp_endpoint: str = ""  # such as "http://127.0.0.1:4318/v1/traces"; needs the extra `otel`
    trace_share: float = Field(default=1.0, ge=0, le=1)  # of the traces that begin here

    @model_validator(mode="after")
    def _budget_holds_two_segments(self) -> Self:
        """A segment is removed once the next one has begun: with room for one only it would never be."""
        if 0 < self.ledger_budget_mb * 1_000_000 < 2 * self.segment_bytes:
            least = -(-2 * self.segment_bytes // 1_000_000)
            raise ValueError(f"ledger_budget_mb must be 0 or at least {least}: two segments of segment_bytes")
        return self
