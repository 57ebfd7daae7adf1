from __future__ import annotations

from typing import Any

import pytest

from monitor.channels import DeliveryError, Message, UnknownChannel, channel, channels, check_urls

MESSAGE = Message(title="t", body="b", severity="warning", model="router", episode=1, state="firing")
EXAMPLES = {"monitor.channels.log": "log", "monitor.channels.apprise": "json://127.0.0.1:9/"}


@pytest.mark.parametrize("found", channels(), ids=lambda module: module.__name__)
def test_every_channel_claims_its_own_urls_and_no_nonsense(found: Any) -> None:
    module = EXAMPLES[found.__name__]  # a new channel adds its example above
    assert channel(module) is found
    assert not found.claims("no such thing")


def test_an_unknown_url_is_refused_without_showing_its_secrets() -> None:
    with pytest.raises(UnknownChannel) as refused:
        check_urls(["log", "telepathy://user:secret@host"])
    assert "telepathy" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_dead_service_is_an_error_that_the_caller_can_catch() -> None:
    url = EXAMPLES["monitor.channels.apprise"]
    with pytest.raises(DeliveryError):
        channel(url).send(url, MESSAGE)


def test_the_log_takes_every_message(capsys: pytest.CaptureFixture[str]) -> None:
    channel("log").send("log", MESSAGE)
    assert "router" in capsys.readouterr().out
