"""One exporter process: database, ledger, loader, fleet, service, HTTP.

On SIGTERM it answers what it accepted, loads its ledger's last rows and ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import structlog
import uvicorn
from sqlalchemy import Engine

from exporter.database import open_database, require_tables, sqlite_url
from exporter.deployed import Fleet
from exporter.engines import device_problem
from exporter.errors import AddressError, DeviceError
from exporter.http import application
from exporter.instruments import Instruments
from exporter.labels import LabelOutcome, record_labels
from exporter.ledger import Ledger
from exporter.loader import Loader
from exporter.outcomes import Outcomes
from exporter.service import Service
from exporter.settings import ExporterSettings
from exporter.tables import metadata

GRACE_S = 30
KEEP_ALIVE_S = 75  # longer than the 60 s after which load balancers give up an idle connection
_STOP = (signal.SIGTERM, signal.SIGINT)


def serve(
    settings: ExporterSettings,
    home: Path,
    *,
    ready: Callable[[str], None] | None = None,
    create: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT; requests already accepted are answered and recorded.

    `ready` is called with the URL. `create` makes missing tables instead of asking for a migration.
    Raises DeviceError, DatabaseUnreachableError, DatabaseNotReadyError, AddressError.
    """
    log_to_stderr()
    why = device_problem(settings.device)
    if why is not None:
        raise DeviceError(settings.device, why)
    db = open_database(settings.database_url or sqlite_url(home))
    if create:
        metadata.create_all(db)
    require_tables(db)
    instruments = Instruments()
    with ExitStack() as stack:
        stack.callback(db.dispose)
        listening = stack.enter_context(_listening(settings.host, settings.port))
        ledger_folder = home / "ledger"
        ledger = Ledger(
            ledger_folder,
            exporter_id(),
            durability=settings.durability,
            segment_bytes=settings.segment_bytes,
        )
        outcomes = Outcomes()
        loader = Loader(
            db,
            ledger_folder,
            interval_s=settings.load_interval_s,
            loaded=instruments.loaded.inc,
            outcomes=outcomes,
        )
        instruments.watch(home, loader.lag)
        fleet = Fleet(
            db, instruments, threads=settings.threads, poll_s=settings.poll_s, device=settings.device
        )
        service = Service(fleet, ledger, settings, instruments, outcomes=outcomes)
        # Ends in the reverse order: answer the queue, close the ledger, load its last rows.
        for start, stop in (
            (loader.start, loader.stop),
            (None, ledger.close),
            (fleet.start, fleet.stop),
            (service.start, service.stop),
        ):
            if start is not None:
                start()
            stack.callback(stop)
        record = _recorder(db, loader)
        _run(application(service, record, settings, instruments), listening, ready)


def exporter_id() -> str:
    """Host, process and a random part: never used twice.

    >>> len(exporter_id().split("-")[-1])
    8
    """
    host = "".join(letter if letter.isalnum() else "_" for letter in socket.gethostname())[:32]
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"


def log_to_stderr() -> None:
    """structlog as JSON lines on stderr; the standard library's records too."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        processor=structlog.processors.JSONRenderer(),
        foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.processors.format_exc_info],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    uvicorn_log = logging.getLogger("uvicorn")
    uvicorn_log.handlers, uvicorn_log.propagate = [handler], False
    uvicorn_log.setLevel(logging.WARNING)


def _recorder(db: Engine, loader: Loader) -> Callable[[Sequence[tuple[str, str]]], list[LabelOutcome]]:
    def record(rows: Sequence[tuple[str, str]]) -> list[LabelOutcome]:
        return record_labels(db, rows, source="http", now=time.time(), load=loader.run_once)

    return record


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        try:
            listening.bind((host, port))
        except OSError as error:
            raise AddressError(host, port, error) from error
        yield listening
    finally:
        listening.close()


def _run(app: object, listening: socket.socket, ready: Callable[[str], None] | None) -> None:
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        backlog=2048,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    server = _Server(config, ready)
    # uvicorn raises the signal again once it has ended; what follows here must still run.
    if threading.current_thread() is threading.main_thread():
        for number in _STOP:
            signal.signal(number, signal.SIG_IGN)
    config.load()
    asyncio.Runner(loop_factory=config.get_loop_factory()).run(server.serve(sockets=[listening]))


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[str], None] | None) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._ready is not None and sockets:
            host, port = sockets[0].getsockname()[:2]
            self._ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
