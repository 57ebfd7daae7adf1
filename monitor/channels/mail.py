"""E-mail by Apprise's URLs (`mailto://user:password@host?to=…`, `mailtos://`): text, HTML and a picture.

The message is built here and not by Apprise, because a mail must have the same Message-ID at every attempt:
mail stores that see one twice keep one.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

import structlog

from monitor.channels import PICTURE, DeliveryError, Message, Options
from monitor.services import service, without_secrets

_log = structlog.get_logger("trueup.alert")
KEYED = True  # by the Message-ID
_CID = "accuracy-and-evidence"
_IMAGE = (
    f'<img src="cid:{_CID}" alt="Accuracy and evidence over time" width="560" '
    'style="display:block;max-width:100%;height:auto">'
)


def claims(url: str) -> bool:
    """Whether it is a mail without PGP, which Apprise would have to sign."""
    if not url.startswith(("mailto:", "mailtos:")):
        return False
    found = service(url)
    return found is not None and getattr(found, "pgp_mode", "no") == "no"


def problem(url: str, options: Options) -> str | None:  # noqa: ARG001  # the interface of a channel
    """None: the server says it when it is asked."""
    return None


def send(url: str, message: Message, options: Options) -> None:
    """Hand it to the server for all recipients at once; some refused are logged, all refused is an error."""
    found = service(url)
    mail = compose(message, sender=found.from_addr, to=[address for _, address in found.targets])
    if found.reply_to:
        mail["Reply-To"] = ", ".join(sorted(found.reply_to))
    everyone = [*(address for _, address in found.targets), *sorted(found.cc | found.bcc)]
    try:
        with _connected(found, options.timeout_s) as server:
            refused = server.send_message(mail, found.from_addr[1], everyone)
    except (OSError, smtplib.SMTPException) as error:
        raise DeliveryError(url, without_secrets(str(error) or type(error).__name__, url)) from error
    if refused:
        _log.warning("recipients refused", count=len(refused), of=len(everyone), key=message.key)


def compose(message: Message, *, sender: tuple[str, str], to: list[str]) -> EmailMessage:
    """The mail; `sender` is (name, address)."""
    name, address = sender
    user, _, domain = address.partition("@")
    mail = EmailMessage(policy=policy.SMTP.clone(cte_type="7bit"))  # not every server takes 8 bits
    mail["Subject"] = " ".join(message.title.split())
    mail["From"] = Address(name or "", user, domain)
    mail["To"] = ", ".join(to)
    mail["Date"] = format_datetime(datetime.fromtimestamp(message.at, UTC))
    mail["Message-ID"] = f"<{message.key}@{domain}>"
    mail["References"] = f"<{message.thread.replace(':', '.')}@{domain}>"  # mail readers group by it
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday answer comes back
    mail.set_content(message.text)
    picture = message.picture()
    shown = "" if picture is None else _IMAGE
    mail.add_alternative(message.html.replace(PICTURE, shown), subtype="html")
    if picture is not None:
        html = mail.get_payload()[-1]  # type: ignore[index]
        html.add_related(picture, "image", "png", cid=f"<{_CID}>", filename=f"{_CID}.png")  # type: ignore[union-attr]
    return mail


@contextmanager
def _connected(found: Any, timeout_s: float) -> Iterator[smtplib.SMTP]:
    """A session: TLS as the URL says, then the login, if it has one."""
    tls = ssl.create_default_context()
    if not found.verify_certificate:  # the URL says verify=no
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    if found.secure_mode == "ssl":
        server: smtplib.SMTP = smtplib.SMTP_SSL(found.smtp_host, found.port, timeout=timeout_s, context=tls)
    else:
        server = smtplib.SMTP(found.smtp_host, found.port, timeout=timeout_s)
    try:
        if found.secure_mode == "starttls":
            server.starttls(context=tls)
        if found.user and found.password:
            server.login(found.user, found.password)
        yield server
    finally:
        with suppress(smtplib.SMTPException, OSError):
            server.quit()  # the mail was taken or refused before: what fails now changes nothing
        server.close()
