from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from monitor.default_command import DefaultCommand

app = typer.Typer(cls=DefaultCommand)


@app.command("list")
def list_all(name: str = "all", limit: int = 3) -> None:
    typer.echo(f"list {name} {limit}")


@app.command()
def verify() -> None:
    typer.echo("verify")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "list all 3"),
        (["--limit", "5"], "list all 5"),
        (["list", "--name", "verify"], "list verify 3"),
        (["verify"], "verify"),
    ],
)
def test_words_that_name_no_subcommand_are_the_defaults(words: list[str], said: str) -> None:
    assert CliRunner().invoke(app, words).stdout.strip() == said


def test_help_is_the_groups_own() -> None:
    assert "verify" in CliRunner().invoke(app, ["--help"]).stdout
