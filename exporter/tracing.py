"""OpenTelemetry traces: a request, and in it queue, tokenise, run, ledger. Off without an endpoint."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from exporter.errors import TracingMissingError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span


class Tracing:
    """Sends spans in the background; what cannot be sent is dropped, serving never waits."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("trueup.exporter")
        self._offset_ns = time.time_ns() - time.monotonic_ns()

    def begin(self, model: str, texts: int, request_id: str | None, traceparent: str | None) -> Span:
        """The span of a request, a child of the caller's where that sent a W3C `traceparent`."""
        from opentelemetry.trace import SpanKind  # noqa: PLC0415 (an extra)
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        carrier = {} if traceparent is None else {"traceparent": traceparent}
        context = TraceContextTextMapPropagator().extract(carrier)
        attributes: dict[str, str | int] = {"trueup.model": model, "trueup.texts": texts}
        if request_id is not None:
            attributes["trueup.request_id"] = request_id
        return self._tracer.start_span(
            "predict", context=context, kind=SpanKind.SERVER, attributes=attributes
        )

    def part(self, parent: Span, name: str, started: float, finished: float) -> None:
        """A finished span within `parent`; times are monotonic seconds."""
        from opentelemetry.trace import set_span_in_context  # noqa: PLC0415

        span = self._tracer.start_span(name, set_span_in_context(parent), start_time=self._ns(started))
        span.end(self._ns(finished))

    def end(self, span: Span, version: str, error: BaseException | None) -> None:
        """Close a request's span; an error is told by its class, its words may quote the client."""
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

        span.set_attribute("trueup.version", version)
        if error is not None:
            span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        span.end()

    def close(self) -> None:
        """Send what waits."""
        self._provider.shutdown()

    def _ns(self, monotonic: float) -> int:
        return int(monotonic * 1e9) + self._offset_ns


def open_tracing(endpoint: str, share: float) -> Tracing:
    """Spans to the OTLP/HTTP collector at `endpoint`, of `share` of the traces that begin here.

    Raises TracingMissingError without the extra `otel`.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
    except ImportError as error:
        raise TracingMissingError from error
    return Tracing(_provider(OTLPSpanExporter(endpoint=endpoint, timeout=5), share))


def _provider(exporter: SpanExporter, share: float) -> TracerProvider:
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415

    provider = TracerProvider(
        resource=Resource.create({SERVICE_NAME: "trueup-exporter"}),
        sampler=ParentBased(TraceIdRatioBased(share)),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider
