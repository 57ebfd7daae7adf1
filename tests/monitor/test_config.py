from __future__ import annotations

from pathlib import Path

import pytest

from monitor.commands.project import CONFIG
from monitor.config import ConfigError, load_settings


def write(folder: Path, text: str) -> Path:
    path = folder / "trueup.toml"
    path.write_text(text)
    return path


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "[exporter]\nport = 9001\nmax_texts = 7\n")
    monkeypatch.setenv("TRUEUP__EXPORTER__PORT", "9002")
    settings = load_settings(path)
    assert (settings.exporter.port, settings.exporter.max_texts) == (9002, 7)


def test_paths_are_relative_to_the_file_and_not_to_the_shell(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, 'home = "here"\n[models.a]\nspec = "a.toml"\n'))
    assert settings.home == tmp_path / "here"
    assert settings.model("a").spec == tmp_path / "a.toml"
    assert settings.database_url == f"sqlite:///{(tmp_path / 'here').resolve()}/trueup.db"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[exporter]\nprot = 1\n", "exporter.prot"),
        ("[exporter]\nport = 'x'\n", "exporter.port"),
        ("[models.a]\nwindows = 3\n", "models.a.windows"),
        ("[models.'../a']\nwindow = 3\n", "models"),
        ("[exporter\n", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_refused_by_its_key(tmp_path: Path, text: str, key: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=r"trueup\.toml") as refused:
        load_settings(path)
    assert key in str(refused.value)


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trueup init"):
        load_settings(tmp_path / "none.toml")


def test_the_commented_configuration_of_init_shows_the_defaults(tmp_path: Path) -> None:
    shown = load_settings(write(tmp_path, CONFIG.format(model="router")))
    default = load_settings(None)
    assert shown.exporter == default.exporter
    assert shown.monitor == default.monitor
    assert shown.model("router") == default.model("router").model_copy(
        update={"spec": tmp_path / "router.toml"}
    )
