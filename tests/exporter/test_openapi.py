"""The OpenAPI document and the page that draws it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from exporter.http.documentation import _OPERATIONS, STATIC
from tests.exporter.attack import attack

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def document(serving: tuple[str, Path]) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{serving[0]}/openapi.json").json()
    return found


def test_the_document_has_every_route_and_no_other(
    serving: tuple[str, Path], document: dict[str, Any]
) -> None:
    described = {
        f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods
    }
    assert described == set(_OPERATIONS)
    for operation in described:
        method, path = operation.split()
        other = "GET" if method == "POST" else "POST"
        asked = httpx.request(other, serving[0] + re.sub(r"{\w+}", "router", path))
        allowed = asked.headers.get("allow", "")
        assert asked.status_code == 405 or f"{other} {path}" in described
        assert method in allowed or f"{other} {path}" in described


def test_every_reference_and_operation_id_is_there_once(document: dict[str, Any]) -> None:
    text = httpx.Response(200, json=document).text
    known = set(document["components"]["schemas"])
    assert set(re.findall(r"#/components/schemas/(\w+)", text)) == known
    ids = [one["operationId"] for methods in document["paths"].values() for one in methods.values()]
    assert len(set(ids)) == len(ids)


def test_generated_requests_get_documented_answers_and_no_500(
    serving: tuple[str, Path], document: dict[str, Any]
) -> None:
    assert attack(serving[0], document, examples=10) > 200
    told = httpx.get(f"{serving[0]}/metrics").text
    for path in ("/v1/predict", "/v1/labels", "/v1/embeddings"):  # a generated text is as good as any
        assert f'trueup_requests_total{{route="{path}",status="200"}}' in told
        assert f'trueup_requests_total{{route="{path}",status="400"}}' in told


def test_the_page_asks_nobody_else_for_anything(serving: tuple[str, Path]) -> None:
    for file in STATIC.iterdir():
        assert not re.search(r"(https?:)?//[\w-]+\.\w|innerHTML|eval\(", file.read_text(encoding="utf-8"))
    page = httpx.get(f"{serving[0]}/docs")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for asset in re.findall(r'(?:href|src)="(/[^"]+)"', page.text):
        assert httpx.get(serving[0] + asset).status_code == 200


@pytest.mark.skipif(not CHROMIUM.exists(), reason="no Chromium")
def test_the_page_draws_every_operation_in_a_browser(
    serving: tuple[str, Path], document: dict[str, Any]
) -> None:
    from playwright.sync_api import sync_playwright

    said: list[str] = []
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(f"{serving[0]}/docs")
        page.wait_for_selector("details")
        drawn = page.locator("summary strong").all_text_contents()
        browser.close()
    assert sorted(drawn) == sorted(_OPERATIONS)
    assert said == []
