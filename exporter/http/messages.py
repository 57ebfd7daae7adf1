"""Messages of a chat, as OpenAI's clients write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from exporter.errors import RequestError
from exporter.prediction import Metadata
from exporter.requests import MAX_METADATA_CHARACTERS, json_object, list_of, metadata_of, text_of

MAX_MESSAGES = 1000


def message_text(message: dict[str, Any], param: str, kind: str) -> str:
    """The text of a message's content: a text, or parts of this type. Raises RequestError."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = list_of(content, f"{param}.content", MAX_MESSAGES)
    return "\n".join(_part(part, f"{param}.content[{number}]", kind) for number, part in enumerate(parts))


def user_metadata(request: dict[str, Any], names: Sequence[str]) -> Metadata:
    """`metadata`, and the client's name for its user, by which a canary can draw."""
    found = metadata_of(request.get("metadata"), "metadata")
    name = next((name for name in names if request.get(name) is not None), None)
    if name is not None:
        found.setdefault("user", text_of(request[name], name, MAX_METADATA_CHARACTERS))
    return found


def _part(part: Any, param: str, kind: str) -> str:
    found = json_object(part, param)
    if found.get("type") != kind or not isinstance(found.get("text"), str):
        raise RequestError(f'{param} must be {{"type": "{kind}", "text"}}: the models read text only.', param)
    return str(found["text"])
