"""Champions that made room, loaded again when they are asked: once for all who wait."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from exporter.deployed import Deployed, Fleet


class Parked:
    """Loads that are under way. Whoever stops waiting stops no load."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet, self._lock = fleet, threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="parked")
        self._loads: dict[str, Future[Deployed]] = {}

    def load(self, model: str) -> asyncio.Future[Deployed]:
        """What `Fleet.load` gives or raises, to be awaited on the running loop without cancelling it."""
        with self._lock:
            load = self._loads.get(model)
            if load is None or load.done():
                load = self._loads[model] = self._pool.submit(self._fleet.load, model)
        waiting = asyncio.wrap_future(load)
        waiting.add_done_callback(_heard)
        return waiting

    def close(self) -> None:
        """Begin no more loads."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _heard(load: asyncio.Future[Deployed]) -> None:
    """Who waited may have gone; asyncio would log an error that nobody took."""
    if not load.cancelled():
        load.exception()
