"""A Hugging Face dataset in a folder: what `save_to_disk` wrote, or the Parquet shards of a hub repository.

pyarrow reads it; nothing in the folder is executed or unpickled, and what would need that is refused.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from trainer.errors import DataError

TRAIN, HELD = "train", ("test", "validation")  # the hold-out is the first that is there
_UNSAFE = (".py", ".pkl", ".pickle", ".pt", ".bin", ".npy")
_SHARD = re.compile(r"(?P<split>[A-Za-z_]+)(-\d+-of-\d+.*)?$")
_MEND = "Export it from its library with save_to_disk or to_parquet."


def shards(folder: Path, split: str) -> list[Path]:
    """Files of a split, in order; DataError where there is none, or the folder is unsafe.

    >>> shards(Path("/nowhere"), "train")
    Traceback (most recent call last):
    trainer.errors.DataError: /nowhere: there is no such folder. Correct [data] in the spec.
    """
    found = _splits(folder)
    if split not in found:
        there = ", ".join(sorted(found)) or "none"
        raise DataError(folder, None, f"it has no split {split!r} (there: {there})", _MEND)
    return found[split]


def held_out(folder: Path) -> str | None:
    """The split that its authors keep for testing, None where they keep none."""
    found = _splits(folder)
    return next((split for split in HELD if split in found), None)


def _splits(folder: Path) -> dict[str, list[Path]]:
    if not folder.is_dir():
        raise DataError(folder, None, "there is no such folder", "Correct [data] in the spec.")
    _refuse_unsafe(folder)
    if (folder / "dataset_dict.json").is_file():
        names = _plain(_json(folder / "dataset_dict.json").get("splits"))
        if not names:
            raise DataError(folder / "dataset_dict.json", None, "it does not list its splits", _MEND)
        return {name: _saved(folder / name) for name in names}
    if (folder / "state.json").is_file():
        return {TRAIN: _saved(folder)}
    return _parquet(folder)


def _refuse_unsafe(folder: Path) -> None:
    unsafe = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix.lower() in _UNSAFE
    )
    if unsafe:
        shown = ", ".join(unsafe[:3]) + (" …" if len(unsafe) > 3 else "")
        problem = f"it holds a loading script or pickles ({shown}), which are never run here"
        raise DataError(folder, None, problem, f"{_MEND} Or remove them, if the data do not need them.")


def _saved(folder: Path) -> list[Path]:
    """The files of one split as `save_to_disk` lists them."""
    state = _json(folder / "state.json")
    listed = state.get("_data_files") or []
    names = _plain([one.get("filename") if isinstance(one, dict) else None for one in listed])
    if not names:
        raise DataError(folder / "state.json", None, "it does not list its data files", _MEND)
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise DataError(folder, None, "its rows are picked by an index file", "Call flatten_indices() first.")
    return [folder / name for name in names]


def _parquet(folder: Path) -> dict[str, list[Path]]:
    """Shards by split: DIR/train-00000-of-00001.parquet, DIR/train.parquet or DIR/train/0000.parquet."""
    found: dict[str, list[Path]] = defaultdict(list)
    configurations: dict[str, set[Path]] = defaultdict(set)
    for path in sorted(folder.rglob("*.parquet")):
        match = _SHARD.match(path.stem)
        split, home = (match["split"], path.parent) if match else (path.parent.name, path.parent.parent)
        found[split].append(path)
        configurations[split].add(home)
    several = next((sorted(homes) for homes in configurations.values() if len(homes) > 1), None)
    if several:
        listed = ", ".join(home.relative_to(folder).as_posix() for home in several)
        raise DataError(folder, None, f"it holds several configurations ({listed})", "Name one of them.")
    if not found:
        raise DataError(folder, None, "it holds no dataset: no state.json, no .parquet files", _MEND)
    return dict(found)


def _plain(names: Any) -> list[str]:
    """Names of files or folders right there; none where one is something else."""
    if not isinstance(names, list):
        return []
    fine = all(isinstance(name, str) and name not in {"", ".", ".."} and "/" not in name for name in names)
    return names if fine else []


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(path, None, f"it cannot be read ({error})", _MEND) from error
    if not isinstance(found, dict):
        raise DataError(path, None, "it is not a JSON object", _MEND)
    return found
