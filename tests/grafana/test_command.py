"""`trueup dashboards`: files with one's own addresses, or posts to Grafana's HTTP API.

The server here only records what it is sent: it is no Grafana, and says nothing about what one would do.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from monitor.cli import app

Sent = list[tuple[str, str, dict[str, Any]]]


@pytest.fixture
def recorder() -> Iterator[tuple[str, Sent]]:
    """URL and what was posted there: (path, authorization, body); the folder is there already."""
    sent: Sent = []

    class Api(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            sent.append((self.path, self.headers["authorization"], body))
            known = self.headers["authorization"] == "Bearer good"
            self.send_response(401 if not known else 409 if self.path == "/api/folders" else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", sent
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def log() -> Iterator[None]:
    """The command logs to the runner's stderr, which is closed afterwards."""
    yield
    structlog.reset_defaults()


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["dashboards", *arguments])
    return done.exit_code, done.output


def test_files_carry_their_own_addresses(tmp_path: Path) -> None:
    status, _ = run(
        "--out", str(tmp_path), "--grafana-url", "https://g.example/", "--monitor-url", "https://m.example"
    )
    assert status == 0
    assert len(list((tmp_path / "dashboards").glob("*.json"))) == 7
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "https://g.example/d/trueup-runbook#TrueupPage" in written
    assert '"https://m.example"' in written
    assert "127.0.0.1:3000" not in written
    assert "127.0.0.1:8001" not in (tmp_path / "dashboards" / "trueup-drift.json").read_text()


def test_dashboards_are_posted_into_one_folder(recorder: tuple[str, Sent]) -> None:
    url, sent = recorder
    status, output = run("--url", url, "--token", "good", "--json")
    assert status == 0
    assert len(json.loads(output)["imported"]) == 7
    assert sent[0][0] == "/api/folders"
    assert {path for path, _, _ in sent[1:]} == {"/api/dashboards/db"}
    assert all(body["overwrite"] and body["dashboard"]["id"] is None for _, _, body in sent[1:])


def test_a_refusal_is_told_in_one_line(recorder: tuple[str, Sent]) -> None:
    status, output = run("--url", recorder[0], "--token", "bad")
    assert status == 2
    assert "answered 401" in output
    assert "bad" not in output


def test_somewhere_must_be_named() -> None:
    status, output = run()
    assert status == 2
    assert "--out" in output
