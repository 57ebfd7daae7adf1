"""The `[exporter]` table of trueup.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

Device = Literal["cpu", "cuda"]
Mode = Literal["shadow", "canary"]  # of a trial, see trials.py
Durability = Literal["process", "power"]
TextPolicy = Literal["none", "hash", "redacted", "full"]


class ExporterSettings(BaseModel):
    """Read once by the command line; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)  # 0: any free port
    database_url: str = ""  # empty: SQLite in the home folder
    device: Device = "cpu"  # "cuda": refused at the start where CUDA does not come up
    threads: int = Field(default=2, ge=1)  # processor threads of one inference
    max_texts: int = Field(default=256, ge=1)  # texts per request
    max_characters: int = Field(default=20_000, ge=1)  # characters per text
    max_body_bytes: int = Field(default=4 * 1024 * 1024, ge=1024)
    read_timeout_s: float = Field(default=30.0, gt=0)  # for a request's head, and again for its body
    requests_per_minute: int = Field(default=0, ge=0)  # of each key, in each exporter; 0: no limit
    metrics_token: SecretStr = SecretStr("")  # what /metrics asks for; empty: a key with the role read
    tls_cert: Path | None = None  # PEM, with its chain
    tls_key: Path | None = None
    queue_limit: int = Field(default=4096, ge=1)  # texts waiting; more are answered 429
    durability: Durability = "process"  # "power" also survives a power cut (one fdatasync per micro-batch)
    sticky_key: str = "user"  # metadata by which a canary draws; a request without it draws by its first text
    store_text: TextPolicy = "redacted"
    poll_s: float = Field(default=0.5, gt=0)  # how often the deployed version is looked up
    segment_bytes: int = Field(default=64 * 1024 * 1024, ge=4096)
    load_interval_s: float = Field(default=0.2, gt=0)  # ledger to database
    deadline_s: float = Field(default=30.0, gt=0)
