"""Templates, the words they use, and the headers of every answer."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from monitor.story import powers

STATIC = Path(__file__).parent.parent / "static"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# With "no-referrer" a browser would hide from us, too, which page a form was sent from.
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
FORMS = frozenset({"confirm.html", "signin.html"})
_UNITS = (("d", 86400.0), ("h", 3600.0), ("min", 60.0))


class Assets:
    """The page's own files, read once; an address names its content and may be kept for ever."""

    def __init__(self) -> None:
        files = [file for file in sorted(STATIC.iterdir()) if file.suffix in TYPES]
        self._bytes = {file.name: file.read_bytes() for file in files}
        self._tags = {name: hashlib.sha256(body).hexdigest()[:16] for name, body in self._bytes.items()}

    def address(self, name: str) -> str:
        """Where a file is served."""
        return f"/static/{self._tags[name]}/{name}"

    def answer(self, request: Request) -> Response:
        """One file, by name and content."""
        name = request.path_params["name"]
        if self._tags.get(name) != request.path_params["tag"]:
            return Response(status_code=404, headers=HEADERS)
        kept = HEADERS | {"Cache-Control": "public, max-age=31536000, immutable"}
        return Response(self._bytes[name], media_type=TYPES[Path(name).suffix], headers=kept)


class Pages:
    """Renders templates; every value in them is escaped."""

    def __init__(self, assets: Assets) -> None:
        self._templates = Environment(
            loader=PackageLoader("monitor"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "number": number, "points": points, "powers": powers, "elapsed": elapsed,
            "moment": moment, "machine": machine, "stable": stable,
        }  # fmt: skip
        self._templates.globals["asset"] = assets.address

    def page(self, name: str, request: Request, status: int = 200, **values: Any) -> Response:
        """A whole page; unchanged (304) where the browser has this very text."""
        html = self._templates.get_template(name).render(**values)
        tag = f'W/"{hashlib.sha256(html.encode()).hexdigest()[:32]}"'
        # no-cache: kept only to be asked about; private: it may hold users' text. Forms are not kept at all.
        kept = "no-store" if status != 200 or name in FORMS else "private, no-cache"
        headers = HEADERS | {"Content-Security-Policy": POLICY, "Cache-Control": kept, "ETag": tag}
        if status == 200 and request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return HTMLResponse(html, status, headers=headers)


def number(value: float | None, digits: int = 3) -> str:
    """A number or a dash.

    >>> number(0.12345), number(None)
    ('0.123', '–')
    """
    return "–" if value is None else f"{value:.{digits}f}"


def points(value: float | None) -> str:
    """A difference of shares in points.

    >>> points(0.0312), points(None)
    ('+3.1', '–')
    """
    return "–" if value is None else f"{100 * value:+.1f}"


def elapsed(seconds: float | None) -> str:
    """A duration in its largest unit.

    >>> elapsed(7300.0), elapsed(12.4), elapsed(None)
    ('2 h', '12 s', '–')
    """
    if seconds is None:
        return "–"
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def moment(at: float | None) -> str:
    """A time for people, UTC."""
    return "–" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def machine(at: float) -> str:
    """A time for <time datetime>."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def stable(text: str) -> str:
    """Part of an element's id, the same for the same text.

    >>> stable("a <b>")
    'a--b-'
    """
    return re.sub(r"[^A-Za-z0-9_-]", "-", text)
