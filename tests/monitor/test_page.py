"""The status page in a real browser: every page and every act, light and dark, wide and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from sqlalchemy import Engine, select, update

from exporter import keys
from exporter.database import open_database
from exporter.registry import champion
from monitor.migrate import upgrade
from monitor.settings import ModelSettings
from monitor.tables import audit, episodes, jobs
from monitor.web import status_app
from tests.monitor.browser import CHROMIUM, chromium, served
from tests.monitor.page_rows import fill

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}")

PAGES = (
    "/", "/models/router", "/models/router?days=90", "/models/intents", "/models/router/promote?version=v3",
    "/models/router/rollback", "/models/quiet-00/retrain", "/models/quiet-00/approve",
    "/models/router/silence", "/signin", "/models/nobody",
)  # fmt: skip
FEW = ("/", "/models/router", "/models/router/promote?version=v3", "/signin")
PHONE, WIDE = {"width": 390, "height": 844}, {"width": 1360, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Engine]:
    db = open_database(f"sqlite:///{tmp_path}/t.db")
    upgrade(db)
    fill(db)
    yield db
    db.dispose()


@pytest.fixture
def root(filled: Engine, tmp_path: Path) -> Iterator[str]:
    app = status_app(
        filled, tmp_path, hosts=["127.0.0.1"], models=lambda _: ModelSettings(approval=True, min_labels=1)
    )
    with served(app) as address:
        yield address


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    opened = browser.new_context(viewport=WIDE)  # type: ignore[arg-type]
    yield opened
    opened.close()


def watched(context: BrowserContext) -> tuple[Page, list[str]]:
    """A page and what went wrong on it; a page that is not there is asked for on purpose."""
    page, wrong = context.new_page(), list[str]()
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda asked: wrong.append(asked.url) if "127.0.0.1" not in asked.url else None)
    return page, wrong


def violations(page: Page) -> list[str]:
    """Serious and critical ones that axe-core finds."""
    package = find_spec("axe_core_python")
    assert package is not None
    assert package.origin is not None
    page.evaluate((Path(package.origin).parent / "axe.min.js").read_text(encoding="utf-8"))
    found: dict[str, Any] = page.evaluate("axe.run()")
    return [
        f"{one['id']}: {node['html'][:120]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.mark.parametrize(
    ("scheme", "size"), [("light", WIDE), ("dark", WIDE), ("light", PHONE), ("dark", PHONE)]
)
def test_every_page_is_quiet_accessible_and_fits(
    browser: Browser, root: str, scheme: Any, size: dict[str, int]
) -> None:
    context = browser.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
    page, wrong = watched(context)
    for path in PAGES if (scheme, size) == ("light", WIDE) else FEW:
        page.goto(root + path)
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
        assert violations(page) == [], path
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], path
    context.close()
    assert [said for said in wrong if "404" not in said] == []


def test_every_act_works_without_scripts_and_a_double_click_acts_once(
    browser: Browser, root: str, filled: Engine
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(root)
    page.get_by_role("link", name="router").click()
    page.get_by_role("link", name="Promote v3").click()
    page.get_by_label("Reason").fill("it is better for us")
    page.get_by_role("button", name="Promote v3").dblclick()
    expect(page.get_by_role("status")).to_contain_text("v3 of router was promoted")
    assert champion(filled, "router") == "v3"
    page.get_by_role("link", name="Roll back to v2").click()
    page.get_by_role("button", name="Roll back to v2").click()
    expect(page.get_by_role("status")).to_contain_text("rolled back to v2")
    with filled.begin() as connection:
        connection.execute(update(episodes).where(episodes.c.id == 2).values(state="firing"))
    page.reload()
    page.get_by_role("link", name="Silence").click()
    page.get_by_label("For").select_option("8 hours")
    page.get_by_role("button", name="Silence").click()
    expect(page.get_by_role("status")).to_contain_text("Alerts of router are silenced for 8 hours")
    page.get_by_role("link", name="Tell alerts again").click()
    page.get_by_role("button", name="Tell alerts again").click()
    expect(page.get_by_role("status")).to_contain_text("Alerts of router are told again")
    for model, act in (("quiet-00", "Retrain"), ("quiet-01", "Approve retrain")):
        page.goto(f"{root}/models/{model}")
        page.get_by_role("link", name=act).click()
        page.locator("form.confirm button").click()
        expect(page.get_by_role("status")).to_contain_text(f"A retrain of {model} is queued")
    context.close()
    with filled.connect() as connection:
        done = connection.execute(select(audit.c.action, audit.c.outcome).order_by(audit.c.id)).all()
    acts = ["promote", "rollback", "silence", "unsilence", "retrain", "approve"]
    assert [tuple(row) for row in done] == [(act, "done") for act in acts]


def test_the_page_lives_without_reload_and_keeps_what_a_person_did(
    context: BrowserContext, root: str, filled: Engine
) -> None:
    page, wrong = watched(context)
    page.clock.install()
    page.goto(f"{root}/models/router")
    page.evaluate("window.loadedOnce = true")
    summary = page.get_by_text("The charts as a table")
    summary.click()
    summary.focus()
    with filled.begin() as connection:
        progress = {"stage": "verdict", "done": 1, "total": 2}
        connection.execute(update(jobs).where(jobs.c.state == "running").values(progress=progress))
    page.clock.run_for(5100)
    expect(page.locator("#jobs")).to_contain_text("verdict")
    expect(page.get_by_role("table").filter(has_text="share of the page line")).to_be_visible()
    assert page.evaluate("window.loadedOnce")
    assert page.evaluate("document.activeElement.textContent") == "The charts as a table"
    assert wrong == []


def test_a_monitor_that_does_not_answer_is_said_and_taken_back(context: BrowserContext, root: str) -> None:
    page = context.new_page()
    page.clock.install()
    page.goto(root)
    banner = page.locator("#connection")
    expect(banner).to_be_hidden()
    context.set_offline(True)
    page.clock.run_for(5100)
    expect(banner).to_contain_text("The monitor does not answer.")
    context.set_offline(False)
    page.clock.run_for(5100)
    expect(banner).to_be_hidden()


def test_a_hidden_tab_asks_nothing(context: BrowserContext, root: str) -> None:
    page, asked = context.new_page(), list[str]()
    page.clock.install()
    page.goto(root)
    page.on("request", lambda request: asked.append(request.url) if request.url == f"{root}/" else None)
    page.evaluate("() => { Object.defineProperty(document, 'hidden', {get: () => away}); window.away = 1 }")
    page.clock.run_for(20_000)
    assert asked == []
    with page.expect_response(root + "/"):
        page.evaluate("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")


def test_a_chosen_theme_stays(context: BrowserContext, root: str) -> None:
    page, wrong = watched(context)
    page.goto(root)
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    button = page.get_by_role("button", name="Theme")
    button.click()
    button.click()
    expect(button).to_have_text("Theme: dark")
    page.goto(f"{root}/models/router")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    assert wrong == []


def test_a_person_signs_in_with_a_key_and_out_again(
    context: BrowserContext, filled: Engine, tmp_path: Path
) -> None:
    key = keys.create_key(filled, "anna", ["operate"], now=0.0)
    page = context.new_page()
    with served(status_app(filled, tmp_path, hosts=["127.0.0.1"])) as root:
        page.goto(f"{root}/models/router")
        page.get_by_label("API key").fill(key.secret)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", name="router")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.goto(f"{root}/models/router")
        assert page.url.startswith(f"{root}/signin")
        page.close()
