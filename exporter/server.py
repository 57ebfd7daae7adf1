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
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvicorn
from sqlalchemy import Engine

from exporter.access import Access, is_loopback, refuse_open_bind
from exporter.database import open_database, require_tables, sqlite_url
from exporter.deployed import Fleet
from exporter.engines import device_problem
from exporter.errors import AddressError, DeviceError, InheritedSocketError, TlsError
from exporter.http import application
from exporter.http.protocol import bounded
from exporter.instruments import Instruments
from exporter.labels import LabelOutcome, record_labels
from exporter.ledger import Ledger
from exporter.loader import Loader
from exporter.outcomes import Outcomes
from exporter.redact import Keep, keeping
from exporter.service import Service
from exporter.settings import ExporterSettings
from exporter.tables import metadata
from exporter.tracing import open_tracing

GRACE_S = 30
FIRST_INHERITED = 3  # SD_LISTEN_FDS_START
KEEP_ALIVE_S = 75  # longer than the 60 s after which load balancers give up an idle connection
_STOP = (signal.SIGTERM, signal.SIGINT)


def serve(
    settings: ExporterSettings,
    home: Path,
    *,
    ready: Callable[[str], None] | None = None,
    create: bool = False,
    learns: Callable[[str], bool] = lambda _: True,
    inherited: socket.socket | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; requests already accepted are answered and recorded.

    `ready` is called with the URL. `learns` says which models take in labels that they do not know.
    `create` makes missing tables instead of asking for a migration. `inherited` is a socket that listens
    already and is shared with whoever serves next (see `inherited_socket`): a restart then refuses nobody.
    Raises DeviceError, DatabaseUnreachableError, DatabaseNotReadyError, OpenBindError, TlsError,
    AddressError, InheritedSocketError, RedactPatternError, TracingMissingError.
    """
    log_to_stderr()
    why = device_problem(settings.device)
    if why is not None:
        raise DeviceError(settings.device, why)
    db = open_database(settings.database_url or sqlite_url(home))
    if create:
        metadata.create_all(db)
    require_tables(db)
    host = settings.host if inherited is None else bound_host(inherited)
    refuse_open_bind(db, host, time.time())
    check_tls(settings.tls_cert, settings.tls_key)
    instruments = Instruments()
    tracing = open_tracing(settings.otlp_endpoint, settings.trace_share) if settings.otlp_endpoint else None
    with ExitStack() as stack:
        stack.callback(db.dispose)
        if tracing is not None:
            stack.callback(tracing.close)
        listening = inherited or stack.enter_context(_listening(settings.host, settings.port))
        ledger_folder = home / "ledger"
        outcomes = Outcomes()
        loader = Loader(
            db,
            ledger_folder,
            interval_s=settings.load_interval_s,
            loaded=instruments.loaded.inc,
            damaged=lambda kind: instruments.damages.labels(kind).inc(),
            outcomes=outcomes,
        )
        ledger = Ledger(
            ledger_folder,
            exporter_id(),
            durability=settings.durability,
            segment_bytes=settings.segment_bytes,
            segment_age_s=settings.segment_age_s,
            budget_bytes=settings.ledger_budget_mb * 1_000_000,
            waiting=lambda: loader.lag()[1],
        )
        instruments.watch(home, loader.lag)
        fleet = Fleet(
            db,
            instruments,
            threads=settings.threads,
            poll_s=settings.poll_s,
            device=settings.device,
            precision=settings.precision,
            memory_limit=settings.memory_limit_mb * 1_000_000,
        )
        service = Service(fleet, ledger, settings, instruments, outcomes=outcomes, tracing=tracing)
        access = Access(db, local=is_loopback(host))
        # Ends in the reverse order: answer the queue, close the ledger, load its last rows.
        for start, stop in (
            (loader.start, loader.stop),
            (None, ledger.close),
            (fleet.start, fleet.stop),
            (service.start, service.stop),
            (access.start, access.stop),
        ):
            if start is not None:
                start()
            stack.callback(stop)
        keep = keeping(settings.store_text, settings.redact, timed_out=instruments.redaction_timeouts.inc)
        record = _recorder(db, loader, learns, keep)
        app = application(service, record, settings, instruments, access)
        drain = Drain(service.drain, settings.drain_s, shared=inherited is not None)
        run(app, settings, listening, ready, drain)


def exporter_id() -> str:
    """Host, process and a random part: never used twice.

    >>> len(exporter_id().split("-")[-1])
    8
    """
    host = "".join(letter if letter.isalnum() else "_" for letter in socket.gethostname())[:32]
    return f"{host}-{os.getpid()}-{secrets.token_hex(4)}"


def inherited_socket(environment: Mapping[str, str]) -> socket.socket | None:
    """The listening socket that systemd, or whoever speaks its protocol, holds for us (sd_listen_fds(3)).

    It outlives this process: connections that come during a restart wait in it.
    """
    if environment.get("LISTEN_PID") != str(os.getpid()) or environment.get("LISTEN_FDS") != "1":
        return None
    return socket.socket(fileno=FIRST_INHERITED)


def bound_host(listening: socket.socket) -> str:
    """The IP address that a socket is bound to, whatever the settings say. Raises InheritedSocketError."""
    if listening.family not in (socket.AF_INET, socket.AF_INET6):
        raise InheritedSocketError(listening.family)
    host: str = listening.getsockname()[0]
    return host


def log_to_stderr() -> None:
    """structlog as JSON lines on stderr; the standard library's records too."""
    structlog.configure(
        processors=[
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


def _recorder(
    db: Engine, loader: Loader, learns: Callable[[str], bool], keep: Keep
) -> Callable[[Sequence[tuple[str, str]]], list[LabelOutcome]]:
    def record(rows: Sequence[tuple[str, str]]) -> list[LabelOutcome]:
        return record_labels(
            db,
            rows,
            source="http",
            now=time.time(),
            load=loader.run_once,
            learns=learns,
            kept=keep.label,
        )

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


def check_tls(cert: Path | None, key: Path | None) -> None:
    """Raise TlsError unless both are there and fit each other, or neither is."""
    if cert is None and key is None:
        return
    if cert is None or key is None:
        raise TlsError("tls_cert and tls_key go together")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    except OSError as error:  # ssl.SSLError is one too
        raise TlsError(f"{cert} and {key} cannot be used ({error.strerror or error})") from error


@dataclass(frozen=True, slots=True)
class Drain:
    """How a server ends: first be not ready for `seconds` and let clients close; then close."""

    begin: Callable[[], None]
    seconds: float
    shared: bool  # another server accepts from the same socket


def run(
    app: object,
    settings: ExporterSettings,
    listening: socket.socket,
    ready: Callable[[str], None] | None,
    drain: Drain,
) -> None:
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=bounded(settings.read_timeout_s),
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        backlog=2048,
        timeout_keep_alive=KEEP_ALIVE_S,
    )
    server = _Server(config, ready, drain)
    # uvicorn raises the signal again once it has ended; what follows here must still run.
    if threading.current_thread() is threading.main_thread():
        for number in _STOP:
            signal.signal(number, signal.SIG_IGN)
    config.load()
    asyncio.Runner(loop_factory=config.get_loop_factory()).run(server.serve(sockets=[listening]))


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[str], None] | None, drain: Drain) -> None:
        super().__init__(config)
        self._ready, self._drain = ready, drain

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._ready is not None and sockets:
            host, port = sockets[0].getsockname()[:2]
            scheme = "https" if self.config.is_ssl else "http"
            self._ready(f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer on, asking clients to close; a connection closed under a request would be a failed one."""
        self._drain.begin()
        self.server_state.default_headers = [
            *self.server_state.default_headers,
            (b"connection", b"close"),
        ]
        if self._drain.shared:
            for server in self.servers:
                server.close()
        end = time.monotonic() + self._drain.seconds
        while time.monotonic() < end and not self.force_exit and self._expects_more():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)

    def _expects_more(self) -> bool:
        return not self._drain.shared or bool(self.server_state.connections)
