"""What one check of a verdict says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    passed: bool  # False refuses the challenger
    reason: str  # a sentence for people
    numbers: Any = None  # JSON-able
