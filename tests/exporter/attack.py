"""Requests generated from an OpenAPI document, good and bad, each answer checked against it."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from typing import Any

import hypothesis
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
NAMES = {"model": ["router", "nobody"], "version": ["v1", "v2"]}


def attack(url: str, document: dict[str, Any], *, examples: int) -> int:
    """Send this many of either kind to every operation; how many. Raises what a check found."""
    schema: Any = schemathesis.openapi.from_dict(_aimed(document))
    sent = 0
    for found in schema.get_all_operations():
        for mode in schemathesis.GenerationMode:
            sent += _send_all(url, found.ok(), mode, examples)
    return sent


def _send_all(url: str, operation: Any, mode: schemathesis.GenerationMode, examples: int) -> int:
    sent = 0

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        nonlocal sent
        sent += 1
        case.call_and_validate(base_url=url, checks=CHECKS, timeout=20)

    with suppress(hypothesis.errors.Unsatisfiable):  # nothing about it can be wrong
        send()
    return sent


def _aimed(document: dict[str, Any]) -> dict[str, Any]:
    """With names that are served: a name drawn from all texts never is."""
    aimed = deepcopy(document)
    for schema in aimed["components"]["schemas"].values():
        if "model" in schema.get("properties", {}):
            schema["properties"]["model"] = {"enum": NAMES["model"]}
    for methods in aimed["paths"].values():
        for operation in methods.values():
            for parameter in operation["parameters"]:
                parameter["schema"] = {"enum": NAMES[parameter["name"]]}
    return aimed
