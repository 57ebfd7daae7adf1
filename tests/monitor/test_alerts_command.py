from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert

from exporter.tables import versions
from monitor.channels import UnknownChannel
from monitor.commands import Context, UnknownModelError, alerts
from monitor.config import Settings
from monitor.settings import MonitorSettings
from monitor.silences import NotSilencedError
from tests.grafana.stack import Mailbox
from tests.monitor.sinks import HttpSink


def context(home: Path, **monitor: object) -> Context:
    """A project with one model."""
    made = Context(Settings(home=home, monitor=MonitorSettings(**monitor)), None)  # type: ignore[arg-type]
    with made.db.begin() as connection:
        connection.execute(
            insert(versions).values(
                model="router", version="v1", number=1, state="champion", path="p", manifest={},
                manifest_sha256="0", created_at=0.0,
            )
        )  # fmt: skip
    return made


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    made = HttpSink()
    with made.listening():
        yield made


def test_one_message_goes_to_every_channel_end_to_end(tmp_path: Path, sink: HttpSink) -> None:
    box = Mailbox()
    with box.listening() as smtp:
        mail = f"mailto://{smtp}?from=trueup@example.org&to=ann@example.org"
        done = alerts.test(context(tmp_path, notify=(sink.json_url, mail)), url=None)
    assert done.status == 0
    assert [row["delivered"] for row in done.data["channels"]] == [True, True]
    assert "This is a test" in json.loads(sink.received[0].body)["message"]
    assert done.data["key"] in box.messages[0]
    assert "image/png" in box.messages[0]


def test_a_channel_that_refuses_is_named_with_the_reason_and_without_its_secret(
    tmp_path: Path, sink: HttpSink
) -> None:
    sink.status = 403
    url = sink.json_url.replace("//", "//ann:s3cr3t-word@")
    done = alerts.test(context(tmp_path, notify=("log",)), url=url)
    assert done.status == 1
    (row,) = done.data["channels"]
    assert "403" in row["problem"]
    assert "s3cr3t" not in json.dumps(done.data)
    with pytest.raises(UnknownChannel):
        alerts.test(context(tmp_path / "b"), url="telepathy://x")


def test_with_alertmanager_nothing_of_the_configuration_is_sent(tmp_path: Path, sink: HttpSink) -> None:
    done = alerts.test(context(tmp_path, notify=(sink.json_url,), notify_by="alertmanager"), url=None)
    assert (done.status, done.data["channels"], sink.received) == (0, [], [])


def test_a_silence_is_made_listed_and_ended(tmp_path: Path) -> None:
    project = context(tmp_path)
    made = alerts.silence(project, name="router", duration="2h", reason="migration").data
    assert made["ends_at"] - made["created_at"] == 7200
    assert alerts.alerts(project, name=None).data["silenced"] == ["router"]
    assert alerts.unsilence(project, name="router").data["ended"] == 1
    (listed,) = alerts.silences(project, name=None).data["silences"]
    assert (listed["active"], listed["reason"], listed["ended_by"]) == (False, "migration", made["actor"])
    assert alerts.alerts(project, name=None).data["silenced"] == []
    with pytest.raises(NotSilencedError):
        alerts.unsilence(project, name="router")


@pytest.mark.parametrize("duration", ["soon", "0s", "9000d"])
def test_a_silence_needs_an_end(tmp_path: Path, duration: str) -> None:
    with pytest.raises(alerts.BadDurationError):
        alerts.silence(context(tmp_path), name="router", duration=duration, reason="x")


def test_only_models_that_exist_are_silenced(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError):
        alerts.silence(context(tmp_path), name="ruoter", duration="2h", reason="x")
    assert alerts.deliveries(context(tmp_path / "b"), name=None).data["deliveries"] == []
