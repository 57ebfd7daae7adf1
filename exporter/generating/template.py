"""A conversation as the prompt that a model was taught: its chat template, in a sandbox."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from exporter.errors import RequestError


class Template:
    """Compiled once. Source of the environment: transformers, `apply_chat_template`."""

    def __init__(self, source: str, special: dict[str, str]) -> None:
        """`special`: the tokenizer's names, such as bos_token. Raises jinja2.TemplateError."""
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _tojson
        environment.globals |= {"raise_exception": _raise, "strftime_now": _now}
        self._template, self._special = environment.from_string(source), special

    def prompt(self, messages: Sequence[dict[str, str]]) -> str:
        """Raises RequestError where the template refuses the conversation."""
        try:
            return self._template.render(messages=messages, add_generation_prompt=True, **self._special)
        except (TemplateError, TypeError) as error:
            told = (str(error).splitlines() or [type(error).__name__])[0]
            raise RequestError(f"The model's chat template refuses `messages`: {told}", "messages") from error


def _tojson(value: Any, indent: int | None = None) -> str:
    """Not as Jinja's own, which escapes for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)
