"""One trueup.toml, a table per package; environment over file over default; unknown keys are refused."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from exporter.settings import ExporterSettings
from monitor.errors import MonitorError
from monitor.settings import ModelSettings, MonitorSettings
from trainer.settings import TrainerSettings

MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class ConfigError(MonitorError):
    """The configuration cannot be used: file, key, and what to write instead."""

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(f"{source}: {problem}")


class Settings(BaseSettings):
    """Everything a user may set. `home` holds the database, versions, ledger and reports."""

    model_config = SettingsConfigDict(
        env_prefix="TRUEUP__", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    home: Path = Path(".trueup")
    trainer: TrainerSettings = Field(default_factory=TrainerSettings)
    exporter: ExporterSettings = Field(default_factory=ExporterSettings)
    monitor: MonitorSettings = Field(default_factory=MonitorSettings)
    models: dict[str, ModelSettings] = Field(default_factory=dict)

    @field_validator("models")
    @classmethod
    def _name_is_safe(cls, models: dict[str, ModelSettings]) -> dict[str, ModelSettings]:
        for name in models:
            if not MODEL_NAME.fullmatch(name):
                raise ValueError(f"model name {name!r} must match {MODEL_NAME.pattern}")
        return models

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 -- the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file, whose tables come in as arguments."""
        return env_settings, init_settings

    def model(self, name: str) -> ModelSettings:
        """Return the settings of one model, the defaults where the file has no table for it."""
        return self.models.get(name, ModelSettings())

    def learns(self, name: str) -> bool:
        """Whether a model takes in labels that it does not know yet."""
        return self.model(name).new_classes == "learn"

    @property
    def database_url(self) -> str:
        """The configured database, or SQLite in the home folder."""
        return self.exporter.database_url or f"sqlite:///{self.home.resolve() / 'trueup.db'}"


def load_settings(path: Path | None, **overrides: Any) -> Settings:
    """Read `path` (a missing default file means defaults); ConfigError names file and key."""
    source = str(path or "defaults")
    table: dict[str, Any] = {}
    if path is not None:
        table = _read(path)
        if "home" in table:
            table["home"] = path.parent / str(table["home"])
        exporter = table.get("exporter", {})
        for key in ("tls_cert", "tls_key"):
            if isinstance(exporter, dict) and exporter.get(key):
                exporter[key] = path.parent / str(exporter[key])
        for model in table.get("models", {}).values():
            if isinstance(model, dict) and model.get("spec"):
                model["spec"] = path.parent / str(model["spec"])
    try:
        return Settings(**(table | overrides))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(source, f"{key}: {first['msg']}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(str(path), "there is no such file; `trueup init` writes one") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"is not valid TOML: {error}") from error
