"""Signed webhooks of our own: `webhook+https://host/path`, by the Standard Webhooks specification 1.0.

A POST of `{"type", "timestamp", "data"}` with the headers `webhook-id` (the same at every attempt: keep it
and each message happens once), `webhook-timestamp` (seconds since 1970, when it was sent) and
`webhook-signature` ("v1," and the base64 of HMAC-SHA256 over "id.timestamp.body"). A receiver compares the
signature in constant time and refuses a timestamp more than 5 minutes from its clock: with the kept ids
nothing can be replayed. Its libraries are on standardwebhooks.com. Any 2xx answer is success; redirects are
not followed.

The name is resolved once and that address is connected to, so that it cannot change in between; private,
loopback and link-local addresses are refused unless `[monitor] allow_private = true`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import http.client
import json
import ssl
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

from monitor.addresses import AddressError, Pinned, resolve
from monitor.channels import DeliveryError, Message, Options

KEYED = True  # by the header webhook-id
_SECRET_BYTES = range(24, 65)  # as the specification asks
_PORTS = {"http": 80, "https": 443}
_LARGEST = 256 * 1024


def claims(url: str) -> bool:
    """URLs of this channel's two schemes."""
    return url.startswith(("webhook+https://", "webhook+http://"))


def problem(url: str, options: Options) -> str | None:
    """A missing or bad secret, or a URL that nobody could be asked by."""
    parts = _parts(url)
    if not parts.hostname or parts.username is not None:
        return "write webhook+https://host/path, without user and password: the signature says who sends"
    if options.webhook_secret is None:
        return (
            "[monitor] webhook_secret (or TRUEUP__MONITOR__WEBHOOK_SECRET) is missing: "
            'write the output of `echo "whsec_$(openssl rand -base64 32)"` there and at the receiver'
        )
    try:
        _key(options.webhook_secret)
    except ValueError as error:
        return str(error)
    return None


def send(url: str, message: Message, options: Options) -> None:
    """Post it once."""
    parts = _parts(url)
    body = payload(message)
    if len(body) > _LARGEST:
        raise DeliveryError(url, f"it is larger than {_LARGEST} bytes")
    assert options.webhook_secret is not None  # `problem` was asked
    headers = signed(body, message.key, options.webhook_secret, now=time.time())
    try:
        status = _post(parts, body, headers, options)
    except AddressError as error:
        raise DeliveryError(url, str(error).rstrip(".")) from error
    except (OSError, http.client.HTTPException) as error:
        raise DeliveryError(url, f"{type(error).__name__} while it was posted") from error
    if not 200 <= status < 300:
        raise DeliveryError(url, f"the receiver answered {status}")


def payload(message: Message) -> bytes:
    """The body: what a person reads and, under "facts", what it was made of."""
    data = {
        "model": message.model,
        "severity": message.severity,
        "title": message.title,
        "text": message.text,
        "thread": message.thread,
        "facts": message.facts,
    }
    at = datetime.fromtimestamp(message.at, UTC).isoformat().replace("+00:00", "Z")
    return json.dumps({"type": f"trueup.{message.kind}", "timestamp": at, "data": data}).encode()


def signed(body: bytes, key: str, secret: SecretStr, *, now: float) -> dict[str, str]:
    """The headers of a body: id, timestamp and signature.

    >>> signed(b"{}", "msg_1", SecretStr("whsec_" + "A" * 32), now=1700000000.0)["webhook-signature"]
    'v1,LzeNxZHo3O8fwpFJpLh/0B99ugILNFJw+/9lTgx0APs='
    """
    at = f"{now:.0f}"
    digest = hmac.new(_key(secret), f"{key}.{at}.".encode() + body, hashlib.sha256).digest()
    return {
        "Content-Type": "application/json",
        "User-Agent": "trueup",
        "webhook-id": key,
        "webhook-timestamp": at,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def _key(secret: SecretStr) -> bytes:
    wrong = "[monitor] webhook_secret must be 'whsec_' and the base64 of 24 to 64 random bytes"
    try:
        key = base64.b64decode(secret.get_secret_value().removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise ValueError(wrong) from error
    if len(key) not in _SECRET_BYTES:
        raise ValueError(wrong)
    return key


def _parts(url: str) -> SplitResult:
    return urlsplit(url.removeprefix("webhook+"))


def _post(parts: SplitResult, body: bytes, headers: dict[str, str], options: Options) -> int:
    """Status of the answer; its body is not read."""
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    addresses = resolve(host, port, allow_private=options.allow_private)
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    connection = Pinned(host, port, addresses=addresses, tls=tls, timeout_s=options.timeout_s)
    # A limit for all of it: the socket's own begins again with each byte that trickles in.
    alarm = threading.Timer(options.timeout_s, connection.hang_up)
    alarm.start()
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body, headers)
        return connection.getresponse().status
    finally:
        alarm.cancel()
        with suppress(OSError):
            connection.close()
