"""Whether answers are JSON, and whether they follow a schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from trainer.generation.errors import SchemaError

Check = Callable[[Any], bool]


def value_of(text: str) -> tuple[bool, Any]:
    """(whether a text is one JSON value, the value); NaN and Infinity, which JSON has not, are none.

    >>> value_of('{"desk": "comp"}'), value_of('{"desk": NaN}'), value_of("desk: comp")
    ((True, {'desk': 'comp'}), (False, None), (False, None))
    """
    try:
        return True, json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError):
        return False, None


def follows(schema: Mapping[str, Any]) -> Check:
    """A check of values against a JSON schema; SchemaError where the schema itself is wrong.

    >>> follows({"type": "object", "required": ["desk"]})({"desk": "comp"})
    True
    """
    import jsonschema_rs  # noqa: PLC0415 - only where a schema is given

    try:
        validator = jsonschema_rs.validator_for(dict(schema))
    except (ValueError, TypeError) as error:
        raise SchemaError(str(error).splitlines()[0]) from error
    return lambda value: bool(validator.is_valid(value))


def _refused(constant: str) -> Any:
    raise ValueError(constant)
