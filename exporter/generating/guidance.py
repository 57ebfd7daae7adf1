"""Answers that obey a JSON schema: tokens that would break it are never drawn.

By llguidance, the library that onnxruntime-genai's own guidance is built on; its Python package works on the
processor, for any graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from exporter.errors import RequestError

Array = np.ndarray[Any, np.dtype[Any]]
MAX_SCHEMA_CHARACTERS = 65_536
_TOLD = 300  # characters of what is wrong with a schema


class Guides:
    """Grammars over one tokenizer, which is read at the first of them."""

    def __init__(self, tokenizer: bytes, vocabulary: int, ends: frozenset[int]) -> None:
        self._given = tokenizer, vocabulary, sorted(ends)
        self._tokens: Any = None

    def guide(self, schema: str) -> Guide:
        """Raises RequestError for a schema that is none."""
        from llguidance import LLMatcher, LLTokenizer  # noqa: PLC0415  needed by few requests

        if self._tokens is None:
            tokenizer, vocabulary, ends = self._given
            self._tokens = LLTokenizer(tokenizer.decode(), n_vocab=vocabulary, eos_token=ends)
        grammar = LLMatcher.grammar_from_json_schema(schema)
        wrong = LLMatcher.validate_grammar(grammar, self._tokens)
        if wrong:
            raise RequestError(
                f"response_format: the JSON schema cannot be followed ({wrong[:_TOLD].strip()}).",
                "response_format",
                code="invalid_schema",
            )
        return Guide(LLMatcher(self._tokens, grammar), self._tokens.vocab_size)


class Guide:
    """Where an answer stands in its grammar."""

    def __init__(self, matcher: Any, vocabulary: int) -> None:
        self._matcher, self._vocabulary = matcher, vocabulary
        self._bits = np.zeros((1, -(-vocabulary // 32)), dtype=np.int32)

    def allowed(self, logits: Array) -> Array:
        """A copy of logits [vocabulary] in which what breaks the schema cannot be drawn."""
        from llguidance.numpy import fill_next_token_bitmask  # noqa: PLC0415  as above

        fill_next_token_bitmask(self._matcher, self._bits)
        bits = np.unpackbits(self._bits.view(np.uint8), bitorder="little")[: self._vocabulary]
        found: Array = np.where(bits.astype(bool), logits, -np.inf)
        return found

    def follow(self, token: int) -> bool:
        """Whether the answer is whole after this token. Raises RequestError where nobody knows any more:
        some patterns need more states, the longer the answer, than llguidance allows.
        """
        self._matcher.consume_token(token)
        if self._matcher.is_error():
            raise RequestError(
                "response_format: the answer needs more of the JSON schema's patterns than can be followed; "
                "use simpler ones.",
                "response_format",
                code="invalid_schema",
            )
        return bool(self._matcher.is_stopped())
