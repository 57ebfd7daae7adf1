"""What can go wrong with conversations, templates and adapters."""

from __future__ import annotations

from pathlib import Path

from trainer.errors import TrainerError


class GenerationError(TrainerError):
    """Anything that the text-generation task refuses."""


class TemplateError(GenerationError):
    """A row that the base model's chat template cannot write, or whose answers cannot be told apart in it."""

    def __init__(self, problem: str, mend: str) -> None:
        self.problem, self.mend = problem, mend
        super().__init__(f"{problem}. {mend}")


class NoChatTemplateError(GenerationError):
    """Conversations for a base model that was never taught to converse."""

    def __init__(self, folder: str | Path) -> None:
        super().__init__(
            f"{folder} has no chat template, so it cannot read conversations. "
            "Give prompt/completion rows, or put a chat_template.jinja into the folder."
        )


class AdapterError(GenerationError):
    """An adapter that does not belong to the base model."""

    def __init__(self, folder: str | Path, why: str) -> None:
        super().__init__(
            f"The adapter {folder} cannot be used: {why}. Use the base it was trained on, or train it again."
        )


class NothingToLearnError(GenerationError):
    """Rows without a single token that carries loss."""

    def __init__(self, rows: int) -> None:
        super().__init__(
            f"None of the {rows} rows has an answer that carries loss. "
            "Add rows that end with an assistant message of weight 1."
        )


class PrecisionError(GenerationError):
    """A precision that this machine cannot compute in."""

    def __init__(self, precision: str, known: list[str]) -> None:
        super().__init__(f"Unknown precision {precision!r}. Known: {', '.join(known)}.")


class DivergedError(GenerationError):
    """A loss that is no number any more."""

    def __init__(self, step: int, rate: float) -> None:
        super().__init__(
            f"The loss was no number at step {step} (learning rate {rate:g}). Lower the learning rate."
        )


class SchemaError(GenerationError):
    """A JSON schema that is none."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The schema of the answers cannot be used: {why}. See https://json-schema.org.")


class ContextError(GenerationError):
    """Rows that may be longer than the base model reads."""

    def __init__(self, folder: str | Path, asked: int, context: int) -> None:
        super().__init__(
            f"max_tokens is {asked}, but {folder} reads {context} tokens. Use at most {context}."
        )
