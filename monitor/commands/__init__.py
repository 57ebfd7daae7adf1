"""What the command line does, one module per panel of `trueup --help`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import structlog
from rich.console import Console, RenderableType
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from exporter import registry
from exporter.database import open_database
from exporter.errors import ExporterError
from monitor.config import Settings, load_settings
from monitor.errors import MonitorError
from monitor.migrate import upgrade
from trainer.errors import TrainerError

console = Console(markup=False)  # labels and messages are data
errors = Console(stderr=True, markup=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command found: `data` for --json, `view` for people, `status` for the shell."""

    data: Any
    view: tuple[RenderableType, ...] = ()
    status: int = 0
    console: Console = console

    def show(self) -> None:
        for part in self.view:
            self.console.print(part)


@dataclass(frozen=True)
class Context:
    """Settings and, opened when first asked for, the migrated database."""

    settings: Settings
    config: Path | None

    @property
    def home(self) -> Path:
        return self.settings.home

    @property
    def has_database(self) -> bool:
        """Whether there is one already: whoever only looks need not make it."""
        return bool(self.settings.exporter.database_url) or (self.home / "trueup.db").exists()

    @cached_property
    def db(self) -> Engine:
        self.home.mkdir(parents=True, exist_ok=True)
        db = open_database(self.settings.database_url)
        upgrade(db)
        return db


class UnknownModelError(MonitorError):
    """No such model."""

    def __init__(self, name: str, known: list[str]) -> None:
        there = ", ".join(known) or "none yet: `trueup train SPEC.toml` makes one"
        super().__init__(f"There is no model {name!r}. Known: {there}.")


def known(context: Context, name: str | None) -> str | None:
    """Return `name` if it is None or registered; UnknownModelError otherwise."""
    names = registry.models(context.db)
    if name is not None and name not in names:
        raise UnknownModelError(name, names)
    return name


def run(command: Callable[..., Outcome], config: Path | None, arguments: dict[str, Any]) -> Outcome:
    """Load the settings, call the command, and turn what a user can mend into one line and status 2."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # stdout is for the outcome
    try:
        file = _config_file(config)
        context = Context(load_settings(file), file)
        return command(context, **arguments)
    except (TrainerError, ExporterError, MonitorError) as error:
        _complain(str(error))
    except SQLAlchemyError as error:
        _complain(f"The database failed: {str(error).splitlines()[0]}. `trueup doctor` tells more.")
    except OSError as error:
        _complain(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
    except KeyboardInterrupt:
        errors.print("stopped")
        sys.exit(130)
    sys.exit(2)


def exit_on_sigterm() -> None:
    """Let SIGTERM end this process as an exception does, so that its children are ended too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def _complain(problem: str) -> None:
    errors.print("error:", style="bold red", end=" ")
    errors.print(problem, highlight=False, soft_wrap=True)


def _config_file(config: Path | None) -> Path | None:
    default = Path("trueup.toml")
    return config or (default if default.exists() else None)
