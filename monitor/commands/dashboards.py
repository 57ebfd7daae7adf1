"""`trueup dashboards`: the generated dashboards and rules, into a folder or into a running Grafana."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monitor.commands import Context, Outcome
from monitor.errors import MonitorError

SOURCE = Path(__file__).parents[2] / "grafana"
GRAFANA_URL, MONITOR_URL = "http://127.0.0.1:3000", "http://127.0.0.1:8001"  # in the generated files
PARTS = ("dashboards/*.json", "rules/*.yml", "provisioning/*/*.yml", "prometheus.yml", "alertmanager.yml")
FOLDER = "trueup"
_TIMEOUT_S = 20.0


class NowhereError(MonitorError):
    """Neither a folder nor a Grafana was named."""

    def __init__(self) -> None:
        super().__init__("Say where to: --out DIR writes files, --url http://grafana:3000 --token … imports.")


class NoDashboardsError(MonitorError):
    """The generated files did not come with this installation."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"{folder} holds no dashboards: install trueup whole, or run `python -m grafana` there."
        )


class GrafanaError(MonitorError):
    """Grafana did not take a dashboard."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"{url} did not take the dashboards: {why}. The token needs the role Editor.")


def dashboards(
    _: Context, *, out: Path | None, url: str | None, token: str, grafana_url: str, monitor_url: str
) -> Outcome:
    """Write or import, with this installation's own URLs in the links."""
    if out is None and url is None:
        raise NowhereError
    files = {path: _linked(path.read_text("utf-8"), grafana_url, monitor_url) for path in _files()}
    done: dict[str, Any] = {"written": [], "imported": []}
    if out is not None:
        done["written"] = [str(_write(out / path.relative_to(SOURCE), text)) for path, text in files.items()]
    if url is not None:
        boards = [text for path, text in files.items() if path.suffix == ".json"]
        done["imported"] = list(_import(url.rstrip("/"), token, boards))
    lines = [*(f"wrote {path}" for path in done["written"]), *(f"imported {one}" for one in done["imported"])]
    return Outcome(data=done, view=tuple(lines))


def _files() -> list[Path]:
    found = [path for part in PARTS for path in sorted(SOURCE.glob(part))]
    if not any(path.suffix == ".json" for path in found):
        raise NoDashboardsError(SOURCE)
    return found


def _linked(text: str, grafana_url: str, monitor_url: str) -> str:
    """The generated text with other addresses.

    >>> _linked("see http://127.0.0.1:3000/d/x", "https://grafana.example", MONITOR_URL)
    'see https://grafana.example/d/x'
    """
    text = text.replace(GRAFANA_URL, grafana_url.rstrip("/"))
    return text.replace(MONITOR_URL, monitor_url.rstrip("/"))


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _import(url: str, token: str, boards: list[str]) -> Iterator[str]:
    """Put every dashboard into the folder `trueup`, over the one before."""
    _post(url, "/api/folders", token, {"uid": FOLDER, "title": FOLDER}, there_already=(409, 412))
    for text in boards:
        board = json.loads(text) | {"id": None}
        body = {"dashboard": board, "folderUid": FOLDER, "overwrite": True, "message": "trueup dashboards"}
        _post(url, "/api/dashboards/db", token, body)
        yield str(board["uid"])


def _post(url: str, path: str, token: str, body: Any, *, there_already: tuple[int, ...] = ()) -> None:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    try:
        request = urllib.request.Request(  # noqa: S310 -- the user's own URL
            url + path, json.dumps(body).encode(), headers, method="POST"
        )
        urllib.request.urlopen(request, timeout=_TIMEOUT_S).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code not in there_already:
            raise GrafanaError(url, f"{path} answered {error.code}") from error
    except (OSError, ValueError) as error:
        raise GrafanaError(url, str(getattr(error, "reason", error))) from error
