from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from email import message_from_string, policy
from typing import Any

import pytest
from pydantic import SecretStr

from monitor.addresses import AddressError, resolve
from monitor.channels import (
    PICTURE,
    DeliveryError,
    Message,
    Options,
    UnknownChannel,
    UnusableChannel,
    channel,
    channel_name,
    channels,
    check_urls,
)
from tests.grafana.stack import Mailbox
from tests.monitor.sinks import HttpSink

SECRET = "whsec_" + base64.b64encode(b"thirty-two bytes of a test secret").decode()
PRIVATE = Options(webhook_secret=SecretStr(SECRET), allow_private=True, timeout_s=2.0)
PNG = b"\x89PNG\r\n\x1a\n picture"
MESSAGE = Message(
    title="trueup: router needs attention",
    text="It drifts: <b>café</b>",
    html=f"<p>It drifts: &lt;b&gt;</p>{PICTURE}",
    severity="warning",
    model="router",
    kind="firing",
    key="0f3c",
    thread="trueup:router:7",
    at=1.7e9,
    facts={"causes": ["drift"]},
    picture=lambda: PNG,
)
EXAMPLES = {
    "monitor.channels.log": "log",
    "monitor.channels.apprise": "json://127.0.0.1:9/",
    "monitor.channels.mail": "mailto://127.0.0.1:9?from=a@example.org&to=b@example.org",
    "monitor.channels.webhook": "webhook+http://127.0.0.1:9/",
}


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    made = HttpSink()
    with made.listening():
        yield made


@pytest.mark.parametrize("found", channels(), ids=lambda module: module.__name__)
def test_every_channel_claims_its_own_urls_and_no_nonsense(found: Any) -> None:
    module = EXAMPLES[found.__name__]  # a new channel adds its example above
    assert channel(module) is found
    assert found.problem(module, PRIVATE) is None
    assert not found.claims("no such thing")


@pytest.mark.parametrize("url", [url for url in EXAMPLES.values() if url != "log"])
def test_a_dead_receiver_is_an_error_that_the_caller_can_catch(url: str) -> None:
    with pytest.raises(DeliveryError):
        channel(url).send(url, MESSAGE, PRIVATE)


def test_an_unknown_url_is_refused_without_showing_its_secrets() -> None:
    with pytest.raises(UnknownChannel) as refused:
        check_urls(["log", "telepathy://user:secret@host"])
    assert "telepathy" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_no_secret_of_a_url_is_in_names_errors_or_logs(
    sink: HttpSink, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    sink.status = 401
    caplog.set_level(logging.WARNING)
    for url in (
        f"json://ann:s3cr3t-word@{sink.host}/t0ken-of-mine",
        "mailto://ann:s3cr3t-word@127.0.0.1:9?from=a@example.org&to=b@example.org",
    ):
        with pytest.raises(DeliveryError) as failed:
            channel(url).send(url, MESSAGE, PRIVATE)
        written = f"{failed.value} {channel_name(url)} {caplog.text} {capfd.readouterr()}"
        assert "s3cr3t" not in written
        assert "t0ken" not in written


def test_the_log_takes_every_message(capsys: pytest.CaptureFixture[str]) -> None:
    channel("log").send("log", MESSAGE, Options())
    assert "router" in capsys.readouterr().out


def test_apprise_gets_plain_text_and_the_picture(sink: HttpSink) -> None:
    channel(sink.json_url).send(sink.json_url, MESSAGE, Options())
    (got,) = sink.received
    body = json.loads(got.body)
    assert (body["title"], body["message"]) == (MESSAGE.title, MESSAGE.text)
    assert base64.b64decode(body["attachments"][0]["base64"]) == PNG


def test_a_mail_is_text_and_html_with_the_picture_and_the_same_id_each_time() -> None:
    box = Mailbox()
    with box.listening() as address:
        url = f"mailto://{address}?from=trueup@example.org&to=ann@example.org,bob@example.org"
        for _ in range(2):
            channel(url).send(url, MESSAGE, Options())
    first, second = (message_from_string(one, policy=policy.default) for one in box.messages)
    assert first["Message-ID"] == second["Message-ID"] == "<0f3c@example.org>"
    assert first["References"] == "<trueup.router.7@example.org>"
    assert first["To"] == "ann@example.org, bob@example.org"
    assert first.get_body(("plain",)).get_content().strip() == MESSAGE.text  # type: ignore[union-attr]
    html = first.get_body(("html",)).get_content()  # type: ignore[union-attr]
    assert "&lt;b&gt;" in html
    (image,) = [part for part in first.walk() if part.get_content_type() == "image/png"]
    assert f'src="cid:{image["Content-ID"].strip("<>")}"' in html
    assert image.get_content() == PNG


def test_a_webhook_can_be_verified_by_its_headers(sink: HttpSink) -> None:
    channel(sink.webhook_url).send(sink.webhook_url, MESSAGE, PRIVATE)
    (got,) = sink.received
    assert got.headers["webhook-id"] == MESSAGE.key
    assert abs(time.time() - int(got.headers["webhook-timestamp"])) < 60
    told = f"{MESSAGE.key}.{got.headers['webhook-timestamp']}.".encode() + got.body
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    signature = base64.b64encode(hmac.new(key, told, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] == f"v1,{signature}"
    body = json.loads(got.body)
    assert body["type"] == "trueup.firing"
    assert body["data"]["facts"] == {"causes": ["drift"]}


@pytest.mark.parametrize(
    ("url", "secret", "word"),
    [
        ("webhook+https://hooks.example.org/x", None, "webhook_secret"),
        ("webhook+https://hooks.example.org/x", "whsec_short", "24 to 64"),
        ("webhook+https://ann:pw@hooks.example.org/x", SECRET, "without user"),
    ],
)
def test_a_webhook_that_nobody_could_verify_is_refused_before_the_start(
    url: str, secret: str | None, word: str
) -> None:
    given = Options(webhook_secret=None if secret is None else SecretStr(secret))
    with pytest.raises(UnusableChannel, match=word):
        check_urls([url], given)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "10.1.2.3", "169.254.169.254", "::1", "::ffff:192.168.0.1", "0.0.0.0"]
)
def test_private_addresses_are_refused_unless_they_are_allowed(host: str) -> None:
    with pytest.raises(AddressError, match="not public"):
        resolve(host, 80, allow_private=False)
    assert resolve(host, 80, allow_private=True)


def test_a_webhook_goes_to_the_address_that_was_examined(
    sink: HttpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that says something else when it is asked again (DNS rebinding) does not matter."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def once(host: str, *rest: Any, **more: Any) -> Any:
        if host != "hooks.example":
            return real(host, *rest, **more)
        asked.append(host)
        return real("127.0.0.1" if len(asked) == 1 else "192.0.2.1", *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", once)
    url = sink.webhook_url.replace("127.0.0.1", "hooks.example")
    channel(url).send(url, MESSAGE, PRIVATE)
    assert asked == ["hooks.example"]
    (got,) = sink.received
    assert got.headers["host"].startswith("hooks.example:")


def test_redirects_are_not_followed(sink: HttpSink) -> None:
    sink.status, sink.location = 307, sink.webhook_url.removeprefix("webhook+")
    with pytest.raises(DeliveryError, match="307"):
        channel(sink.webhook_url).send(sink.webhook_url, MESSAGE, PRIVATE)
    assert len(sink.received) == 1


def test_a_receiver_that_trickles_is_hung_up_on() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def trickle() -> None:
        peer, _ = listener.accept()
        with peer:
            while not over.is_set():
                try:
                    peer.sendall(b"H")
                except OSError:
                    return
                over.wait(0.1)

    thread = threading.Thread(target=trickle)
    thread.start()
    url = f"webhook+http://127.0.0.1:{listener.getsockname()[1]}/"
    try:
        with pytest.raises(DeliveryError):
            channel(url).send(url, MESSAGE, Options(**{**_as_dict(PRIVATE), "timeout_s": 0.5}))
    finally:
        over.set()
        thread.join()
        listener.close()


def _as_dict(given: Options) -> dict[str, Any]:
    return {"webhook_secret": given.webhook_secret, "allow_private": given.allow_private}
