"""A client of the exporter over real HTTP, counting what fails."""

from __future__ import annotations

import http.client
import json
import math
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from monitor.demo.mail import Mail

IDLE_S = 2.0  # an older connection may be closed by the server at the moment it is used again


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back for one mail."""

    id: str
    version: str
    right: bool
    truth: str
    valid: bool | None = None  # whether who reads it can use it; None where every answer can be used


class Client:
    """Sends mail on `connections` connections at once; thread-safe."""

    per_request = 10  # mails

    def __init__(self, port: int, model: str, *, connections: int = 2) -> None:
        self.failed = 0
        self.requests = 0
        self._port, self.model = port, model
        self._pool = ThreadPoolExecutor(connections)
        self._lock = threading.Lock()
        self._local = threading.local()
        self._open: set[http.client.HTTPConnection] = set()

    def answer(self, mail: Sequence[Mail]) -> list[Answered]:
        """Answer all of `mail`; a failed request counts once and answers nothing."""
        parts = [mail[at : at + self.per_request] for at in range(0, len(mail), self.per_request)]
        return [one for part in self._pool.map(self._ask, parts) for one in part]

    def label(self, answered: Sequence[Answered], *, share: float, order: random.Random) -> int:
        """Post the truth for a random `share` of the answers; return how many were stored."""
        rows = [{"id": one.id, "label": one.truth} for one in answered if order.random() < share]
        reply = self.post("/v1/labels", {"labels": rows}) if rows else None
        return int(reply["stored"]) if reply else 0

    def close(self) -> None:
        self._pool.shutdown()
        for connection in self._open:
            connection.close()

    def _ask(self, part: Sequence[Mail]) -> list[Answered]:
        reply = self.post("/v1/predict", {"model": self.model, "inputs": [one.text for one in part]})
        if reply is None:
            return []
        return [
            Answered(row["id"], reply["version"], row["label"] == one.truth, one.truth)
            for row, one in zip(reply["predictions"], part, strict=True)
        ]

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        with self._lock:
            self.requests += 1
        connection = self._connection()
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            self._count_failure()
            return None
        if response.status != 200:
            self._count_failure()
            return None
        reply: dict[str, Any] = json.loads(content)
        return reply

    def _connection(self) -> http.client.HTTPConnection:
        now = time.monotonic()
        if now - getattr(self._local, "used", -math.inf) > IDLE_S:
            self._renew()
        self._local.used = now
        connection: http.client.HTTPConnection = self._local.connection
        return connection

    def _renew(self) -> None:
        """A fresh connection for this thread in place of the one that it had."""
        made = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        with self._lock:
            old = getattr(self._local, "connection", made)
            old.close()
            self._open = self._open - {old} | {made}
        self._local.connection = made

    def _count_failure(self) -> None:
        with self._lock:
            self.failed += 1
