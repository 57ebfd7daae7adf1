"""The status page without a browser: what it says, to whom, and what a form may do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, update
from starlette.testclient import TestClient

from exporter import keys
from exporter.database import open_database
from exporter.registry import champion
from exporter.tables import deployment_events, deployments, trials, versions
from monitor.migrate import upgrade
from monitor.settings import ModelSettings
from monitor.tables import audit, checks, jobs, leases, sessions, silences
from monitor.web import status_app
from tests.monitor.page_rows import NASTY, fill

OURS = {"origin": "http://testserver", "sec-fetch-site": "same-origin"}


@pytest.fixture
def filled(db: Engine) -> Engine:
    """Both kinds of database: the page's queries are its own."""
    fill(db)
    return db


@pytest.fixture
def client(filled: Engine, tmp_path: Path) -> TestClient:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "router-v2.html").write_text("<html>report</html>")
    app = status_app(filled, tmp_path, hosts=["testserver"], models=lambda _: ModelSettings(min_labels=1))
    return TestClient(app, follow_redirects=False)


def send(client: TestClient, address: str, **changes: str) -> tuple[dict[str, str], str]:
    """Open an act and send its form; returns what was sent and where it led."""
    form = fields(client.get(address).text) | changes
    answer = client.post(address.partition("?")[0], data=form, headers=OURS)
    assert answer.status_code == 303
    return form, answer.headers["location"]


def fields(html: str) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', html))


def test_the_fleet_names_every_model_the_most_urgent_first(client: TestClient) -> None:
    page = client.get("/").text
    order = [page.index(f"/models/{name}") for name in ("router", "intents", "quiet-00", "quiet-01")]
    assert order == sorted(order)
    for part in ("0.779", "[0.687, 0.856]", "180 labels", "v3 in canary", "3 min left", "no check yet"):
        assert part in page
    assert "No monitor leads" not in page


def test_a_story_tells_what_was_found_done_and_why(client: TestClient) -> None:
    page = client.get("/models/router").text
    for part in (
        "Not enough labels: 120 of 200", "baseball", "as a canary it answers 10 % of the keys", "9000",
        "340 of 1200", "43 rows won, 6 lost of 412", "+9.0", "about 660 more would halve it",
        "2 drawn rows wait", 'href="/reports/', "by train",
    ):  # fmt: skip
        assert part in page, part
    assert client.get("/models/nobody").status_code == 404


def test_what_others_wrote_is_escaped_and_no_script_may_run_but_ours(client: TestClient) -> None:
    for address in (
        "/",
        "/models/router",
        "/models/router/promote?version=" + NASTY,
        f"/models/a{NASTY[:8]}",
    ):
        page = client.get(address)
        assert "<script>alert" not in page.text
        assert (
            "default-src 'none'; style-src 'self'; script-src 'self';"
            in page.headers["content-security-policy"]
        )
        assert not re.search(r'<script(?! src="/static/)|\son\w+=|\sstyle=|javascript:', page.text)


def test_a_story_of_ninety_days_is_drawn_from_a_few_checks(client: TestClient, filled: Engine) -> None:
    with filled.begin() as connection:
        row = dict(
            connection.execute(select(checks).where(checks.c.model == "quiet-00")).mappings().first() or {}
        )
        del row["id"]
        many = [row | {"at": row["at"] - 300.0 * ago, "log_e": 30.0 * (ago == 250)} for ago in range(1, 500)]
        connection.execute(checks.insert(), many)
    page = client.get("/models/quiet-00?days=90").text
    line = re.search(r'class="chart evidence".*?class="line" d="(M[^"]*)"', page, re.DOTALL)
    assert line is not None
    assert 100 < line[1].count(",") <= 161
    assert re.search(r",0(L|$)", line[1]), "the one check over the page line is not lost"


def test_an_unchanged_page_is_not_sent_again(client: TestClient, filled: Engine) -> None:
    tag = client.get("/").headers["etag"]
    assert client.get("/", headers={"if-none-match": tag}).status_code == 304
    with filled.begin() as connection:
        connection.execute(update(jobs).where(jobs.c.state == "running").values(state="failed"))
    assert client.get("/", headers={"if-none-match": tag}).status_code == 200
    assert client.head("/").headers["etag"] != tag
    story = client.get("/models/router").headers["etag"]
    assert client.get("/models/router", headers={"if-none-match": story}).status_code == 304
    assert client.get("/models/router/rollback").headers["cache-control"] == "no-store"


def test_a_page_without_a_leader_says_that_nothing_is_checked(client: TestClient, filled: Engine) -> None:
    with filled.begin() as connection:
        connection.execute(update(leases).values(expires_at=0.0))
    assert "No monitor leads" in client.get("/").text
    assert "No monitor leads" in client.get("/models/router").text


def test_a_promotion_is_confirmed_in_words_done_once_and_audited(client: TestClient, filled: Engine) -> None:
    page = client.get("/models/router/promote?version=v3").text
    assert "v3 answers every request to router, instead of v2" in page
    assert "No verdict on this page has proven v3 better" in page
    form, location = send(client, "/models/router/promote?version=v3", reason=NASTY)
    assert champion(filled, "router") == "v3"
    again = client.post("/models/router/promote", data=form, headers=OURS)
    assert again.headers["location"] == location
    with filled.connect() as connection:
        rows = connection.execute(select(audit)).mappings().all()
        event = connection.execute(
            select(deployment_events).order_by(deployment_events.c.id.desc()).limit(1)
        ).one()
    assert len(rows) == 1
    assert (rows[0]["actor"], rows[0]["address"], rows[0]["outcome"]) == ("(local)", "testclient", "done")
    assert (event.version, event.replaced, event.reason, event.actor) == ("v3", "v2", NASTY, "(local)")
    story = client.get(location).text
    assert "v3 of router was promoted" in story
    assert "Nothing has alerted" not in story
    assert "firing" not in story


def test_what_has_changed_since_it_was_seen_is_refused_and_said(client: TestClient, filled: Engine) -> None:
    _, location = send(client, "/models/router/promote?version=v3", champion="v1")
    assert champion(filled, "router") == "v2"
    assert "the champion changed meanwhile" in client.get(location).text
    send(client, "/models/router/rollback")
    assert champion(filled, "router") == "v1"
    assert client.get("/models/router/rollback").status_code == 409


@pytest.mark.parametrize("action", ["retrain", "approve"])
def test_a_double_click_queues_one_retrain(client: TestClient, filled: Engine, action: str) -> None:
    form, location = send(client, f"/models/quiet-00/{action}")
    assert client.post(f"/models/quiet-00/{action}", data=form, headers=OURS).headers["location"] == location
    with filled.connect() as connection:
        queued = connection.execute(select(jobs.c.id, jobs.c.trigger).where(jobs.c.model == "quiet-00")).all()
    assert [job.trigger for job in queued] == ["manual"]
    assert f"A retrain of quiet-00 is queued: job {queued[0].id}." in client.get(location).text


def test_a_retrain_that_cannot_start_is_refused_in_words(client: TestClient, filled: Engine) -> None:
    _, location = send(client, "/models/intents/retrain")
    assert "Not enough labels: 0 of 1" in client.get(location).text
    with filled.connect() as connection:
        assert connection.scalar(select(audit.c.outcome)) == "refused"
    assert client.get("/models/router/retrain").status_code == 409, "one runs already"
    assert client.get("/models/router/dance").status_code == 409


def test_a_silence_is_for_a_while_that_can_be_chosen_and_is_said(client: TestClient, filled: Engine) -> None:
    _, location = send(client, "/models/router/silence", lasts="1d", reason=NASTY)
    story = client.get(location).text
    assert "Alerts of router are silenced for a day." in story
    assert "by (local): &lt;script&gt;" in story
    with filled.connect() as connection:
        made = connection.execute(select(silences)).one()
    assert (made.actor, made.reason, round(made.ends_at - made.created_at)) == ("(local)", NASTY, 86400)
    _, location = send(client, "/models/router/silence", lasts="1000d")
    assert "does not last" in client.get(location).text
    send(client, "/models/router/unsilence")
    assert "Alerts are silenced" not in client.get("/models/router").text


def test_a_form_of_another_site_or_session_does_nothing(client: TestClient, filled: Engine) -> None:
    form = fields(client.get("/models/router/rollback").text)
    for headers in (
        {},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        OURS | {"sec-fetch-site": "same-site"},
        {"origin": "http://testserver:81", "sec-fetch-site": "same-origin"},
    ):
        assert client.post("/models/router/rollback", data=form, headers=headers).status_code == 403
    assert client.post("/models/router/rollback", data=form | {"form": "0"}, headers=OURS).status_code == 403
    client.cookies.clear()
    assert client.post("/models/router/rollback", data=form, headers=OURS).status_code == 403
    assert (
        client.post("/models/router/rollback", content="x=" + "y" * 20_000, headers=OURS).status_code == 413
    )
    assert client.post("/models/router/rollback", content=b"\xff=%zz", headers=OURS).status_code == 400
    with filled.connect() as connection:
        assert connection.execute(select(audit)).first() is None
        assert (
            connection.scalar(select(deployments.c.champion).where(deployments.c.model == "router")) == "v2"
        )


def test_the_cookie_is_for_this_page_alone(client: TestClient) -> None:
    cookie = client.get("/models/router/rollback").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "set-cookie" not in client.get("/").headers


def test_with_keys_people_sign_in_and_may_do_what_their_key_may(client: TestClient, filled: Engine) -> None:
    reader = keys.create_key(filled, "reader", ["read"], now=0.0)
    operator = keys.create_key(filled, "operator", ["operate"], now=0.0)
    fresh = TestClient(status_app(filled, Path("nowhere"), hosts=["testserver"]), follow_redirects=False)
    asked = fresh.get("/models/router?days=7")
    assert (asked.status_code, asked.headers["location"]) == (
        303,
        "/signin?next=%2Fmodels%2Frouter%3Fdays%3D7",
    )
    assert fresh.get("/reports/1").status_code == 303
    wrong = fresh.post("/signin", data={"key": "tu_wrong", "next": "/"}, headers=OURS)
    assert (wrong.status_code, "unknown, expired or revoked" in wrong.text) == (401, True)
    assert fresh.post("/signin", data={"key": reader.secret}).status_code == 403

    entered = fresh.post("/signin", data={"key": reader.secret, "next": "//evil.example"}, headers=OURS)
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    page = fresh.get("/models/router").text
    assert "reader" in page
    assert "Promote" not in page
    assert fresh.get("/models/router/rollback").status_code == 403
    assert fresh.post("/models/router/rollback", data={}, headers=OURS).status_code == 403

    fresh.post("/signin", data={"key": operator.secret, "next": "/"}, headers=OURS)
    send(fresh, "/models/router/rollback")
    with filled.connect() as connection:
        assert connection.scalar(select(audit.c.actor)) == "operator"
        assert operator.secret not in str(connection.execute(select(sessions)).all())
    left = fields(fresh.get("/").text)
    assert fresh.post("/signout", data=left, headers=OURS).headers["location"] == "/signin"
    assert fresh.get("/").status_code == 303


def test_a_revoked_key_ends_its_sessions(client: TestClient, filled: Engine) -> None:
    key = keys.create_key(filled, "anna", ["read"], now=0.0)
    first, second = (
        TestClient(status_app(filled, Path("nowhere"), hosts=["testserver"]), follow_redirects=False)
        for _ in range(2)
    )
    first.post("/signin", data={"key": key.secret, "next": "/"}, headers=OURS)
    second.cookies = first.cookies
    assert second.get("/").status_code == 200, "another monitor of the same database knows the session"
    keys.revoke_key(filled, "anna", now=1.0)
    third = TestClient(status_app(filled, Path("nowhere"), hosts=["testserver"]), follow_redirects=False)
    third.cookies = first.cookies
    assert third.get("/").status_code == 303


def test_who_comes_by_a_link_from_elsewhere_is_asked_again_by_our_own_page(
    client: TestClient, filled: Engine
) -> None:
    keys.create_key(filled, "reader", ["read"], now=0.0)
    fresh = TestClient(status_app(filled, Path("nowhere"), hosts=["testserver"]), follow_redirects=False)
    bounced = fresh.get("/models/router?days=7", headers={"sec-fetch-site": "cross-site"})
    assert bounced.headers["refresh"] == "0; url=/models/router?days=7"


def test_a_report_is_served_in_a_sandbox(client: TestClient, filled: Engine) -> None:
    with filled.connect() as connection:
        check = connection.scalar(select(checks.c.id).where(checks.c.report.is_not(None)))
    report = client.get(f"/reports/{check}")
    assert report.text == "<html>report</html>"
    assert report.headers["content-security-policy"].startswith("sandbox allow-scripts;")
    assert client.get("/reports/99999").status_code == 404
    assert client.get("/reports/99999999999999999999").status_code == 404
    assert client.get("/reports/..%2f7").status_code == 404
    assert client.get(f"/reports/{check}/quality").status_code == 404


def test_assets_are_kept_for_ever_by_their_content(client: TestClient) -> None:
    address = re.findall(r'"(/static/[^"]+)"', client.get("/").text)
    assert len(address) == 4
    for one in address:
        answer = client.get(one)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    assert client.get("/static/0/page.css").status_code == 404
    assert client.get(address[0].rpartition("/")[0] + "/..%2ftables.py").status_code == 404


def test_metrics_are_told(client: TestClient) -> None:
    lines = client.get("/metrics").text.splitlines()
    assert 'trueup_alerting{model="router"} 1' in lines
    assert 'trueup_jobs_active{model="router"} 1' in lines


def test_a_database_that_fails_is_said_on_a_page(client: TestClient, filled: Engine) -> None:
    with filled.begin() as connection:
        trials.drop(connection)
    answer = client.get("/")
    assert answer.status_code == 503
    assert "The database does not answer" in answer.text


def test_another_host_name_is_refused(client: TestClient) -> None:
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/healthz").text == "ok\n"
    assert client.get("/readyz").status_code == 200


def test_an_empty_database_has_a_page_too(tmp_path: Path) -> None:
    db = open_database(f"sqlite:///{tmp_path}/t.db")
    upgrade(db)
    page = TestClient(status_app(db, tmp_path, hosts=["testserver"])).get("/").text
    assert "trueup init" in page
    assert "trueup train router.toml" in page
    with db.connect() as connection:
        assert connection.execute(select(versions)).first() is None
