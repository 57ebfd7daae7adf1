"""A language model, loaded: its graph, its tokenizer, its chat template. One thread asks the graph."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError
from tokenizers import Tokenizer

from exporter.engines import Answer, Encoded, Encoder
from exporter.errors import RequestError
from exporter.generating.guidance import Guides
from exporter.generating.template import Template
from exporter.packing import ALONE
from exporter.settings import Device
from trainer.artifact import TOKENIZER
from trainer.decoder.graph import DecoderGraph, greedy
from trainer.decoder.sealed import TOKENIZER_CONFIG, DecoderVersion, template_of
from trainer.errors import TrainerError, VersionRefusedError
from trainer.generation.literal import Literal

PROBE = "Is anybody there?"


class DecoderEngine:
    """Answers of one version. It is no classifier: what asks for a label is refused before it comes here."""

    packing = ALONE
    encoder: Encoder | None = None

    def __init__(
        self, version: DecoderVersion, *, name: str, threads: int, rows: int, device: Device = "cpu"
    ) -> None:
        self.name = name
        self.labels: list[str] = []
        fixed = version.manifest.max_tokens if device == "cuda" else None
        self.graph = DecoderGraph(
            version.path, version.files, threads=threads, rows=rows, device=device, fixed=fixed
        )
        self.provider = self.graph.provider
        self.context = min(version.manifest.max_tokens, self.graph.context)
        self.tokenizer = Tokenizer.from_str(version.files[TOKENIZER].decode())
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self._literal = Literal(self.tokenizer)
        self.guides = Guides(version.files[TOKENIZER], self.graph.vocabulary, self.graph.ends)
        self._template = _template(version)
        # Of each answer to the hold-out; None where none were sealed.
        self.answer_tokens: int | None = version.manifest.spec.get("generation", {}).get("answer_tokens")

    def prompt(self, messages: Sequence[dict[str, str]]) -> str:
        """The conversation as text, its special strings marked (trainer.generation.literal).

        Raises RequestError where the model has no chat template.
        """
        if self._template is None:
            raise RequestError(
                "This model has no chat template: it continues text. Use /v1/completions.", "model",
                code="no_chat_template",
            )  # fmt: skip
        marked = [one | {"content": self._literal.mark(one["content"])} for one in messages]
        return self._template.prompt(marked)

    def tokens(self, prompt: str, *, special: bool) -> list[int]:
        """Of a `special` prompt, begun by the tokenizer, control tokens are its writer's own; in one that the
        chat template made, what was said stays text.
        """
        if not special:
            return self._literal.encode(prompt)[0]
        ids: list[int] = self.tokenizer.encode(prompt, add_special_tokens=True).ids
        return ids

    def run(self, texts: Sequence[str]) -> list[Answer]:  # noqa: ARG002 (an Engine)
        raise RuntimeError("a language model was asked for a label")

    def encode(self, texts: Sequence[str]) -> list[Encoded]:  # noqa: ARG002
        raise RuntimeError("a language model was asked for a label")

    def answer(self, batch: Sequence[Encoded]) -> list[Answer]:  # noqa: ARG002
        raise RuntimeError("a language model was asked for a label")

    def close(self) -> None:
        self.graph.release()


def open_decoder_engine(
    version: DecoderVersion, *, name: str, threads: int, rows: int, device: Device = "cpu"
) -> DecoderEngine:
    """Loaded and tried on one prompt. Raises VersionRefusedError."""
    try:
        engine = DecoderEngine(version, name=name, threads=threads, rows=rows, device=device)
        greedy(engine.graph, [engine.tokens(PROBE, special=True)[: engine.context - 2]], 2)
        engine.graph.release()
    except Exception as error:  # neither library has a base class for what it raises
        if isinstance(error, TrainerError):
            raise
        raise VersionRefusedError(version.path, f"it cannot run ({type(error).__name__})") from error
    return engine


def _template(version: DecoderVersion) -> Template | None:
    try:
        source = template_of(version.files)
        config: dict[str, Any] = json.loads(version.files[TOKENIZER_CONFIG])
        return None if source is None else Template(source, _special(config))
    except (TemplateError, ValueError) as error:
        raise VersionRefusedError(version.path, f"its chat template cannot be read ({error})") from error


def _special(config: dict[str, Any]) -> dict[str, str]:
    """Special tokens by name; older files have objects with the token as `content`."""
    found = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = config.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            found[name] = text
    return found
