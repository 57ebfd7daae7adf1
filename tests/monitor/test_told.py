from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_string, policy
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import Engine

from exporter import registry
from exporter.database import clock
from exporter.registration import register
from exporter.settings import ExporterSettings
from monitor.causes import settle
from monitor.settings import ModelSettings, MonitorSettings
from monitor.worker import run_monitor
from tests.exporter.versions import build_version
from tests.grafana.stack import Mailbox, until
from tests.monitor.faulty import WEBHOOK_SECRET
from tests.monitor.sinks import HttpSink
from tests.monitor.test_check import SETTINGS, Stream
from trainer.settings import TrainerSettings

CHECK_S = 1.0


@contextmanager
def monitoring(db: Engine, home: Path, settings: MonitorSettings, model: ModelSettings) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(
        target=run_monitor, args=(db, home, settings),
        kwargs={"models": lambda _: model, "trainer": TrainerSettings(cache=home),
                "exporter": ExporterSettings(), "stop": stop},
    )  # fmt: skip
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


def test_a_shift_and_its_end_reach_a_webhook_and_a_mailbox_with_what_moved(
    db: Engine, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    built = build_version(tmp_path / "built", holdout_rows=400)
    version = register(db, tmp_path, built, threads=1, now=1e9)
    registry.promote(db, "router", version, expected=None, reason="first", actor="test")
    stream, hook, box = Stream(db, tmp_path), HttpSink(), Mailbox()
    with hook.listening(), box.listening() as smtp:
        settings = MonitorSettings(
            check=f"every {CHECK_S}s", retrain="", clean="", evidently=False, allow_private=True,
            notify=(hook.webhook_url, f"mailto://{smtp}?from=trueup@example.org&to=ann@example.org"),
            webhook_secret=SecretStr(WEBHOOK_SECRET), public_url="https://trueup.example.org",
        )  # fmt: skip
        with monitoring(db, tmp_path, settings, SETTINGS):
            stream.send(100)
            stream.send(100, down=0.5)
            shifted = time.time()
            until("the mail", lambda: box.messages, timeout_s=60)
            record_property("mail_s", round(time.time() - shifted, 1))
            until("the webhook", lambda: hook.received, timeout_s=60)
            record_property("webhook_s", round(hook.received[0].at - shifted, 1))
            stream.send(100, down=0.5)  # it goes on, and nobody hears of it again
            time.sleep(3 * CHECK_S)
            with db.begin() as connection:
                settle(connection, "router", reason="v2 was proven and promoted", now=clock(connection))
            recovered = time.time()
            until("both resolved", lambda: len(box.messages) + len(hook.received) == 4, timeout_s=60)
            record_property("resolved_s", round(time.time() - recovered, 1))
    told = [json.loads(one.body) for one in hook.received]
    assert [one["type"] for one in told] == ["trueup.firing", "trueup.resolved"]
    facts = told[0]["data"]["facts"]
    assert "drift" in facts["causes"]
    assert facts["moved"]["share"] > 0.5  # it waited for the explanation
    assert facts["sure"]["log_e"] >= facts["sure"]["log_page_line"]
    assert facts["next"][0].startswith("A retrain waits for 60 labels")
    mail = message_from_string(box.messages[0], policy=policy.default)
    assert "https://trueup.example.org/models/router" in mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert [part for part in mail.walk() if part.get_content_type() == "image/png"]
