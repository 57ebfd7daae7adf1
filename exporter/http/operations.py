"""Health, readiness and metrics."""

from __future__ import annotations

import asyncio

from exporter.http.asgi import Answer, Call, Route, json_answer
from exporter.instruments import Instruments
from exporter.service import Service


def routes(service: Service, instruments: Instruments) -> list[Route]:
    async def readyz(call: Call) -> Answer:  # noqa: ARG001 (every handler is given the call)
        serving = {deployed.model: deployed.version for deployed in service.fleet.serving()}
        problems = await asyncio.to_thread(service.problems)
        status = "; ".join(problems) or "ready"
        return json_answer({"status": status, "models": serving}, 503 if problems else 200)

    async def metrics(call: Call) -> Answer:  # noqa: ARG001
        return Answer(instruments.text(), media_type=b"text/plain; version=0.0.4; charset=utf-8")

    return [
        Route("GET", "/healthz", healthz),
        Route("GET", "/readyz", readyz),
        Route("GET", "/metrics", metrics, ("read",)),
        Route("GET", "/v2/health/live", nothing, errors="text"),
        Route("GET", "/v2/health/ready", readyz, errors="text"),
    ]


async def healthz(call: Call) -> Answer:  # noqa: ARG001
    return json_answer({"status": "ok"})


async def nothing(call: Call) -> Answer:  # noqa: ARG001
    return Answer(b"")
