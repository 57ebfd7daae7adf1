"""The `[trainer]` table of trueup.toml."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


def default_cache() -> Path:
    """Return the one folder that downloads go to; deleting it is safe."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trueup"


class TrainerSettings(BaseModel):
    """Where the trainer keeps downloads and how many threads it may use."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cache: Path = Field(default_factory=default_cache, description="Folder of downloaded models and data.")
    threads: int = Field(default=2, ge=1, description="Threads of a training process.")
