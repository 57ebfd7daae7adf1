"""What is thrown away so that a home folder stays as large as its settings say."""

from __future__ import annotations

from pathlib import Path

RUNS = "*/snapshots/*.json"  # of an Evidently workspace, half a megabyte each
_MB = 1024 * 1024


def prune(folder: Path, budget_mb: float, pattern: str = "*") -> int:
    """Delete the oldest files of a folder that match, until the rest fits; returns how many went."""
    files = [(entry.stat(), entry) for entry in folder.glob(pattern) if entry.is_file()]
    files.sort(key=lambda found: found[0].st_mtime)
    excess = sum(status.st_size for status, _ in files) - budget_mb * _MB
    gone = 0
    for status, path in files:
        if excess <= 0:
            break
        path.unlink(missing_ok=True)
        excess -= status.st_size
        gone += 1
    return gone
