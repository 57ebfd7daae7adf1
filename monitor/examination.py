"""What can be wrong with a machine or a configuration, and the mend."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from exporter.database import open_database
from exporter.engines import device_problem
from exporter.errors import ExporterError
from exporter.machine import cores
from monitor.config import Settings

FREE_GB = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; it is wrong where there is a mend."""

    what: str
    found: str
    mend: str | None = None


def examine(settings: Settings) -> list[Finding]:
    """Look at everything; never raises for what it finds."""
    looks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _python,
        _libraries,
        _runtime,
        _device,
        _threads,
        _folders,
        _disk,
        _database,
    )
    return [finding for look in looks for finding in look(settings)]


def _python(_: Settings) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    new_enough = sys.version_info >= (3, 11)
    yield Finding("Python", version, None if new_enough else "Install Python 3.11 or 3.12.")


def _libraries(_: Settings) -> Iterator[Finding]:
    for name in ("torch", "transformers", "peft", "evidently", "pandas", "sqlalchemy", "tokenizers"):
        found = _version(name)
        yield Finding(name, found or "missing", None if found else "Run `make setup`.")
    pandas = _version("pandas") or "0"
    if tuple(int(part) for part in pandas.split(".")[:2]) >= (3, 1):
        mend = "Evidently 0.7.23 fails at import with pandas 3.1: pip install 'pandas<3.1'."
        yield Finding("pandas for Evidently", pandas, mend)


def _runtime(_: Settings) -> Iterator[Finding]:
    installed = [name for name in ("onnxruntime", "onnxruntime-gpu") if _version(name)]
    mend = "Exactly one may be there: pip uninstall -y onnxruntime onnxruntime-gpu, then `make setup`."
    found = ", ".join(f"{name} {_version(name)}" for name in installed) or "missing"
    yield Finding("ONNX Runtime", found, None if len(installed) == 1 else mend)


def _device(settings: Settings) -> Iterator[Finding]:
    device = settings.exporter.device
    problem = device_problem(device)
    yield Finding("[exporter] device", device if problem is None else f"{device} cannot be used", problem)


def _threads(settings: Settings) -> Iterator[Finding]:
    free = cores()
    for what, threads in (
        ("[exporter] threads", settings.exporter.threads),
        ("[trainer] threads", settings.trainer.threads),
    ):
        mend = f"More threads than the {free} cores slow everything down: lower it."
        yield Finding(what, f"{threads} of {free} cores", None if threads <= free else mend)


def _folders(settings: Settings) -> Iterator[Finding]:
    for what, folder in (("home", settings.home), ("[trainer] cache", settings.trainer.cache)):
        problem = _unwritable(folder)
        mend = f"Make {folder} writable, or set another folder."
        yield Finding(what, problem or str(folder), mend if problem else None)


def _disk(settings: Settings) -> Iterator[Finding]:
    free = shutil.disk_usage(_existing(settings.home)).free / 1e9
    mend = f"Less than {FREE_GB} GB: training and reports may fail; make room."
    yield Finding("disk", f"{free:.1f} GB free", None if free >= FREE_GB else mend)


def _database(settings: Settings) -> Iterator[Finding]:
    if settings.database_url.startswith("sqlite") and not settings.home.exists():
        yield Finding("database", "SQLite, made at the first start")
        return
    mend = "Check that the server runs and that [exporter] database_url is right."
    try:
        db = open_database(settings.database_url)
        with db.connect() as connection:
            connection.execute(text("select 1"))
        db.dispose()
    except (ExporterError, SQLAlchemyError) as error:
        yield Finding("database", str(error).splitlines()[0], mend)
    else:
        yield Finding("database", db.url.render_as_string(hide_password=True))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _unwritable(folder: Path) -> str | None:
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)):
            return None
    except OSError as error:
        return f"{folder}: {error.strerror}"


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder
