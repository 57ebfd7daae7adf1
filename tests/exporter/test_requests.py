from __future__ import annotations

import json
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import RequestError
from exporter.requests import parse_labels, parse_predict
from exporter.settings import ExporterSettings

SETTINGS = ExporterSettings(max_texts=5, max_characters=30)
TEXT = st.text(st.characters(exclude_categories=[]), max_size=40)
SCALAR = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
ANYTHING = st.recursive(SCALAR, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=12)
INPUT = TEXT | st.fixed_dictionaries({"text": TEXT | SCALAR}, optional={"metadata": ANYTHING})
REQUEST = st.fixed_dictionaries(
    {"model": st.just("m") | ANYTHING, "inputs": st.lists(INPUT, max_size=6) | ANYTHING},
    optional={"metadata": st.dictionaries(TEXT, SCALAR) | ANYTHING},
)


def refusal(parse: Callable[[], object]) -> RequestError | None:
    try:
        parse()
    except RequestError as error:
        return error
    return None


@given(REQUEST | ANYTHING)
def test_any_json_is_parsed_or_refused_with_a_reason(request: object) -> None:
    body = json.dumps(request).encode()
    refused = refusal(lambda: parse_predict(body, SETTINGS))
    if refused is not None:
        assert refused.status == 400
        refused.message.encode()
        return
    model, inputs = parse_predict(body, SETTINGS)
    assert model
    assert 1 <= len(inputs) <= 5
    for item in inputs:
        assert len(item.text) <= 30
        item.text.encode()
        json.dumps(item.metadata, allow_nan=False, ensure_ascii=False).encode()


@given(st.binary())
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    for parse in (lambda: parse_predict(body, SETTINGS), lambda: parse_labels(body)):
        refused = refusal(parse)
        assert refused is None or refused.status == 400


@given(st.lists(st.fixed_dictionaries({"id": TEXT, "label": TEXT}), min_size=1))
def test_labels_are_refused_only_where_one_is_empty(rows: list[dict[str, str]]) -> None:
    body = json.dumps({"labels": rows}).encode()
    refused = refusal(lambda: parse_labels(body))
    assert (refused is not None) == any("" in row.values() for row in rows)
    assert refused is not None or len(parse_labels(body)) == len(rows)
