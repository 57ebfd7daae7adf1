from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.monitor.test_cli import trueup


def test_a_key_is_made_rotated_listed_and_revoked_and_printed_once(tmp_path: Path) -> None:
    made = trueup("keys", "create", "web", "--role", "ingest", "--role", "read", "--json", folder=tmp_path)
    assert made.returncode == 0, made.stderr
    first = json.loads(made.stdout)
    rotated = trueup("keys", "rotate", "web", "--overlap", "1h", folder=tmp_path)
    second = rotated.stdout.splitlines()[0]
    assert second.startswith("tu_")
    listed = trueup("keys", "list", "--json", folder=tmp_path)
    assert first["key"] not in listed.stdout
    assert second not in listed.stdout
    states = [key["state"][:5] for key in json.loads(listed.stdout)["keys"]]
    assert states == ["until", "live"]
    assert json.loads(trueup("keys", "revoke", "web", "--json", folder=tmp_path).stdout)["revoked"] == 2
    assert trueup("keys", "rotate", "web", folder=tmp_path).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--role", "root"], "ingest, read, operate, admin"),
        (["--role", "read", "--expires", "soon"], "--expires"),
    ],
)
def test_what_cannot_be_is_one_line_and_status_2(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = trueup("keys", "create", "web", *arguments, folder=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_serving_for_others_is_refused_while_there_are_no_keys(tmp_path: Path) -> None:
    done = trueup("serve", "--host", "0.0.0.0", "--port", "0", folder=tmp_path)
    assert done.returncode == 2
    assert "trueup keys create" in done.stderr
    assert "Traceback" not in done.stderr
