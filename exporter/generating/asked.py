"""What a client asks of a language model."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.prediction import Metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One prompt and how it is to be answered; checked, see exporter/http/generation_requests.py."""

    prompt: str  # as the tokenizer reads it, the chat template applied
    special: bool  # whether the tokenizer adds its own beginning
    text: str  # as it is recorded: what was said, without the template's marks
    param: str  # where the prompt lies in the request
    metadata: Metadata
    max_tokens: int | None  # None: until the context is full
    temperature: float = 1.0  # 0: the likeliest token
    top_p: float = 1.0
    seed: int | None = None
    stops: tuple[str, ...] = ()
    schema: str | None = None  # JSON schema of the answer, as JSON
