"""Keys, roles, limits and TLS, over real HTTP."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest
from openai import OpenAI
from sqlalchemy import Engine

from exporter.access import HOLD_S
from exporter.database import open_database, sqlite_url
from exporter.errors import InheritedSocketError, OpenBindError, TlsError
from exporter.keys import create_key, revoke_key
from exporter.server import check_tls, serve
from exporter.settings import ExporterSettings
from exporter.tables import metadata
from tests.exporter.conftest import deploy
from tests.exporter.exporter_process import exporter_process
from tests.exporter.versions import build_version

ASK = {"model": "router", "inputs": ["x"]}


@dataclass(frozen=True)
class Guarded:
    url: str
    db: Engine
    secrets: dict[str, str]

    def get(self, path: str, secret: str | None = None) -> httpx.Response:
        return httpx.get(self.url + path, headers=_sent(secret))

    def ask(self, secret: str | None = None) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/predict", json=ASK, headers=_sent(secret))


def _sent(secret: str | None) -> dict[str, str]:
    return {} if secret is None else {"authorization": f"Bearer {secret}"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    home = tmp_path_factory.mktemp("home")
    db = open_database(sqlite_url(home))
    metadata.create_all(db)
    deploy(db, home, build_version(home / "built"))
    now = time.time()
    secrets = {role: create_key(db, role, [role], now=now).secret for role in ("ingest", "read", "admin")}
    secrets["short"] = create_key(db, "short", ["ingest"], now=now, requests_per_minute=2).secret
    secrets["old"] = create_key(db, "old", ["ingest"], now=now).secret
    with exporter_process(home, metrics_token="for-prometheus", host="127.0.0.1") as (_, url):
        yield Guarded(url, db, secrets)
    db.dispose()


def test_without_a_key_only_health_and_the_document_are_answered(guarded: Guarded) -> None:
    for path in ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/docs", "/openapi.json"):
        assert guarded.get(path).status_code == 200
    for path in ("/v1/models", "/v2", "/v2/models/router", "/metrics"):
        refused = guarded.get(path)
        assert (refused.status_code, refused.json()["code" if path[:3] == "/v2" else "error"]) != (200, None)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Bearer")
    refused = guarded.ask("tu_wrong")
    assert refused.status_code == 401
    assert refused.json()["error"]["code"] == "invalid_api_key"
    assert "tu_wrong" not in refused.text


def test_a_role_does_what_it_may_and_nothing_else(guarded: Guarded) -> None:
    assert guarded.ask(guarded.secrets["ingest"]).status_code == 200
    assert guarded.ask(guarded.secrets["admin"]).status_code == 200
    refused = guarded.ask(guarded.secrets["read"])
    assert refused.status_code == 403
    assert refused.json()["error"]["message"] == "read may not do this: it needs the role ingest."
    for role in ("ingest", "read", "admin"):
        assert guarded.get("/v1/models", guarded.secrets[role]).status_code == 200


def test_metrics_have_a_token_of_their_own(guarded: Guarded) -> None:
    assert "trueup_requests_total" in guarded.get("/metrics", "for-prometheus").text
    assert guarded.get("/metrics", guarded.secrets["admin"]).status_code == 401
    assert guarded.ask("for-prometheus").status_code == 401


def test_openais_client_raises_its_own_errors(guarded: Guarded) -> None:
    with OpenAI(api_key="tu_wrong", base_url=f"{guarded.url}/v1") as client:
        with pytest.raises(openai.AuthenticationError) as wrong:
            client.models.list()
        assert wrong.value.code == "invalid_api_key"
        reader = client.with_options(api_key=guarded.secrets["read"])
        with pytest.raises(openai.PermissionDeniedError, match="ingest"):
            reader.embeddings.create(model="router", input="x")


def test_over_its_limit_a_key_is_told_when_to_come_back(guarded: Guarded) -> None:
    answers = [guarded.ask(guarded.secrets["short"]) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    left = [answer.headers["x-ratelimit-remaining-requests"] for answer in answers]
    assert left == ["1", "0", "0"]
    assert {answer.headers["x-ratelimit-limit-requests"] for answer in answers} == {"2"}
    assert 1 <= int(answers[2].headers["retry-after"]) <= 30
    assert answers[2].json()["error"]["code"] == "rate_limit_exceeded"
    assert "x-ratelimit-limit-requests" not in guarded.ask(guarded.secrets["ingest"]).headers


def test_a_revoked_key_dies_in_a_running_server(guarded: Guarded) -> None:
    assert guarded.ask(guarded.secrets["old"]).status_code == 200
    revoke_key(guarded.db, "old", now=time.time())
    ends = time.monotonic() + 5 * HOLD_S
    while guarded.ask(guarded.secrets["old"]).status_code == 200 and time.monotonic() < ends:
        time.sleep(0.2)
    assert guarded.ask(guarded.secrets["old"]).status_code == 401


def test_an_exporter_for_others_does_not_start_without_keys(home: Path) -> None:
    with pytest.raises(OpenBindError, match="trueup keys create"):
        serve(ExporterSettings(host="0.0.0.0", port=0), home)


def test_an_inherited_socket_is_judged_by_its_own_address(home: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as shared, pytest.raises(OpenBindError, match=r"0\.0\.0\.0"):
        serve(ExporterSettings(host="127.0.0.1", port=0), home, inherited=shared)


def test_an_inherited_socket_without_an_address_is_refused(home: Path) -> None:
    with socket.socket(socket.AF_UNIX) as shared, pytest.raises(InheritedSocketError, match="ListenStream"):
        serve(ExporterSettings(port=0), home, inherited=shared)


def test_a_web_page_from_elsewhere_cannot_use_a_local_exporter(serving: tuple[str, Path]) -> None:
    url, _ = serving
    refused = httpx.post(f"{url}/v1/predict", json=ASK, headers={"origin": "http://evil.example"})
    assert refused.status_code == 403
    assert httpx.post(f"{url}/v1/predict", json=ASK, headers={"origin": url}).status_code == 200


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return cert, key


def test_tls_is_served_from_files(home: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    trusting = ssl.create_default_context(cafile=str(cert))
    with exporter_process(home, tls_cert=cert, tls_key=key) as (_, url):
        assert url.startswith("https://")
        assert httpx.post(f"{url}/v1/predict", json=ASK, verify=trusting).status_code == 200


def test_tls_files_that_do_not_fit_are_refused_at_the_start(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    check_tls(cert, key)
    check_tls(None, None)
    for wrong in ((cert, None), (None, key), (key, cert), (cert, key.with_name("none.pem"))):
        with pytest.raises(TlsError):
            check_tls(*wrong)
