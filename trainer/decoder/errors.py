"""What can go wrong on the way from a language model to a sealed version."""

from __future__ import annotations

from pathlib import Path

from trainer.errors import TrainerError


class BuilderError(TrainerError):
    """onnxruntime-genai's model builder gave up."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(
            f"onnxruntime-genai's builder cannot export {folder}: {why}. "
            "Is onnxruntime-genai-cuda installed, and the architecture one that its builder knows?"
        )


class UnrunnableError(TrainerError):
    """An exported graph that ONNX Runtime cannot run."""

    def __init__(self, folder: Path, why: str) -> None:
        super().__init__(
            f"ONNX Runtime cannot run what was exported of {folder.name}: {why}. "
            "Use a base model of another shape, or another version of onnxruntime."
        )


class TokensDifferError(TrainerError):
    """Greedy answers of an exported fp32 graph that are not torch's."""

    def __init__(self, differing: int, prompts: int) -> None:
        super().__init__(
            f"{differing} of {prompts} greedy answers differ from torch's, so the export is not the model. "
            "Export again with other versions of the libraries, and compare."
        )


class PerplexityError(TrainerError):
    """A precision that costs more than was allowed."""

    def __init__(self, precision: str, found: float, torch: float, allowed: float) -> None:
        super().__init__(
            f"{precision} is refused: its perplexity is {found:.3f}, torch's {torch:.3f}, so "
            f"{found / torch - 1:+.1%} where {allowed:+.1%} is allowed. Serve fp32, or allow more."
        )


class ProofTextsError(TrainerError):
    """Nothing to prove a precision with."""

    def __init__(self, tokens: int, least: int) -> None:
        super().__init__(
            f"The proof's texts have {tokens} tokens, at least {least} are needed: not enough data. "
            "Give more prompts or texts."
        )
