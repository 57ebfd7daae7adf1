from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import Engine

from exporter.deployed import Fleet
from exporter.errors import ClientDeadlineError
from exporter.instruments import Instruments
from exporter.ledger import Ledger
from exporter.recording import Input
from exporter.service import Service
from exporter.settings import ExporterSettings
from exporter.tracing import Tracing, open_tracing
from exporter.waiting import Terms

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_request_is_a_trace_with_its_parts_in_order(home: Path, sqlite_db: Engine) -> None:
    kept, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    instruments = Instruments()
    fleet = Fleet(sqlite_db, instruments, threads=1, poll_s=60)
    fleet.refresh()
    ledger = Ledger(home / "ledger", "x", durability="process", segment_bytes=1 << 20)
    service = Service(fleet, ledger, ExporterSettings(), instruments, tracing=Tracing(provider))
    late = service.predict("router", [Input("never")], Terms(timeout_s=0.01))
    with pytest.raises(ClientDeadlineError):  # nobody works yet
        asyncio.run(late)
    service.start()
    asyncio.run(service.predict("router", [Input("a secret")], Terms(traceparent=PARENT)))
    service.stop()
    ledger.close()
    spans = kept.get_finished_spans()
    failed, root = (span for span in spans if span.name == "predict")
    parts = [span for span in spans if span.name != "predict"]
    assert failed.status.description == "ClientDeadlineError"
    assert sorted(part.name for part in parts) == ["ledger", "queue", "run", "tokenise"]
    assert root.context is not None
    assert {part.parent.span_id for part in parts if part.parent} == {root.context.span_id}
    assert f"{root.context.trace_id:032x}" in PARENT
    assert root.attributes is not None
    assert root.attributes["trueup.version"] == "v1"
    starts = {part.name: part.start_time or 0 for part in parts}
    assert starts["queue"] <= starts["tokenise"] <= starts["run"] <= starts["ledger"]
    assert "secret" not in "".join(span.to_json() for span in kept.get_finished_spans())


@contextmanager
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """An OTLP/HTTP collector that keeps what it is sent."""
    bodies: list[bytes] = []

    class Keep(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = HTTPServer(("127.0.0.1", 0), Keep)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("share", "sent"), [(1.0, True), (0.0, False)])
def test_spans_reach_a_collector_as_far_as_they_are_sampled(share: float, sent: bool) -> None:
    with collector() as (endpoint, bodies):
        tracing = open_tracing(endpoint, share)
        tracing.end(tracing.begin("router", 1, "id-7", None), "v1", None)
        tracing.close()
    assert bool(bodies) == sent
    assert (b"id-7" in b"".join(bodies)) == sent
