"""What Grafana would send for a dashboard: variables resolved, `$__rate_interval` and `$__range` expanded.

As Grafana documents it: $__rate_interval = max($__interval + scrape interval, 4 * scrape interval).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.grafana.stack import get

STEP_S, SCRAPE_S, RANGE_S = 1, 1, 600


def variables(prometheus: str, board: dict[str, Any]) -> dict[str, list[str]]:
    """Values of each query variable, as its drop-down would list them."""
    found: dict[str, list[str]] = {}
    for one in board["templating"]["list"]:
        if one["type"] == "query":
            query = one["query"] if isinstance(one["query"], str) else one["query"]["query"]
            match = re.fullmatch(r"label_values\((.*), (\w+)\)", query)
            assert match is not None, query
            selector = expanded(match[1], {name: ".+" for name in found})
            answer = get(f"{prometheus}/api/v1/label/{match[2]}/values", **{"match[]": selector})
            assert answer["status"] == "success", answer
            found[one["name"]] = answer["data"]
    return found


def expanded(expr: str, values: dict[str, str]) -> str:
    """The query with its variables replaced.

    >>> expanded('rate(x{model=~"$model"}[$__rate_interval])', {"model": ".+"})
    'rate(x{model=~".+"}[4s])'
    """
    expr = expr.replace("$__rate_interval", f"{max(STEP_S + SCRAPE_S, 4 * SCRAPE_S)}s")
    expr = expr.replace("$__range", f"{RANGE_S}s")
    for name, value in values.items():
        expr = re.sub(rf"\$\{{{name}\}}|\${name}\b", value, expr)
    return expr


def targets(board: dict[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """(panel or annotation, query, instant) of everything that asks Prometheus."""
    for panel in board["panels"]:
        for target in panel.get("targets") or []:
            yield panel["title"], target["expr"], bool(target.get("instant"))
    for event in board["annotations"]["list"]:
        yield f"annotation {event['name']}", event["expr"], False


def answered(prometheus: str, expr: str, *, instant: bool, now: float) -> list[Any]:
    """The series of the answer. AssertionError where Prometheus refuses the query."""
    if instant:
        answer = get(f"{prometheus}/api/v1/query", query=expr, time=now)
    else:
        span = {"start": now - RANGE_S, "end": now, "step": STEP_S}
        answer = get(f"{prometheus}/api/v1/query_range", query=expr, **span)
    assert answer["status"] == "success", f"{expr}: {answer.get('error')}"
    return list(answer["data"]["result"])
