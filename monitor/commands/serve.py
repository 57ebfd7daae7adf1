"""Long-running processes: the exporter, the monitor, or both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from exporter.access import is_loopback, refuse_open_bind
from exporter.server import inherited_socket, log_to_stderr
from exporter.server import serve as serve_exporter
from monitor.commands import Context, Outcome, errors, exit_on_sigterm
from monitor.settings import MonitorSettings
from monitor.web import status_app
from monitor.worker import check_monitor, run_monitor

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(context: Context, **flags: Any) -> Outcome:
    """Run the exporter until SIGTERM, which drains it; `flags` are settings that win over the file's."""
    changes = {key: value for key, value in flags.items() if value is not None}
    settings = context.settings.exporter.model_copy(
        update={"database_url": context.settings.database_url, **changes}
    )
    context.db.dispose()  # migrated; the exporter opens its own

    def ready(url: str) -> None:
        errors.print(f"exporter on {url}  (POST /v1/predict, {url}/docs)", highlight=False, soft_wrap=True)

    serve_exporter(
        settings,
        context.home,
        learns=context.settings.learns,
        inherited=inherited_socket(os.environ),
        ready=ready,
    )
    return Outcome(data={"stopped": True})


def monitor(context: Context, *, port: int | None) -> Outcome:
    """Run schedules, checks and retrains, and the status page, until SIGTERM."""
    log_to_stderr()
    settings = context.settings.monitor
    refuse_open_bind(context.db, settings.host, time.time())
    shown = settings.port if port is None else port
    app = status_app(
        context.db,
        context.home,
        hosts=_hosts(settings),
        local=is_loopback(settings.host),
        monitor=settings,
        models=context.settings.model,
    )
    check_monitor(settings)
    server = uvicorn.Server(
        uvicorn.Config(app, settings.host, shown, log_config=None, access_log=False, server_header=False)
    )
    stop = threading.Event()
    died: list[BaseException] = []

    def work() -> None:
        try:
            run_monitor(
                context.db,
                context.home,
                settings,
                models=context.settings.model,
                trainer=context.settings.trainer,
                exporter=context.settings.exporter,
                stop=stop,
            )
        except BaseException as error:
            died.append(error)
        finally:
            server.should_exit = True  # a status page without a monitor would say that all is well

    worker = threading.Thread(target=work, name="monitor")
    worker.start()
    errors.print(f"monitor on http://{settings.host}:{shown}/", highlight=False)
    # uvicorn raises the signal again once it has ended; the worker must still give its job back.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    try:
        server.run()
    finally:
        stop.set()
        worker.join()
    if died:
        raise died[0]
    return Outcome(data={"stopped": True})


def up(context: Context) -> Outcome:
    """Run both as children; when one ends, stop the other."""
    assert context.db is not None  # migrate once, before both open it
    exit_on_sigterm()
    config = [] if context.config is None else ["--config", str(context.config)]
    children = {
        name: subprocess.Popen([sys.executable, "-m", "monitor", name, *config])
        for name in ("serve", "monitor")
    }
    try:
        while all(child.poll() is None for child in children.values()):
            time.sleep(0.2)
    except KeyboardInterrupt:
        pass
    finally:
        for child in children.values():
            child.terminate()
        codes = {name: child.wait() for name, child in children.items()}
    return Outcome(
        data={"stopped": codes}, status=int(any(code not in (0, -15, 130) for code in codes.values()))
    )


def _hosts(settings: MonitorSettings) -> list[str]:
    """Host headers that the page answers: its own address and the one that people are told."""
    told = urlsplit(settings.public_url).hostname
    return [*LOOPBACK, settings.host, *filter(None, [told])]
