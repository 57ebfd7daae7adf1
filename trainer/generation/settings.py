"""How a decoder is fine-tuned: the table [generation] of a spec, and all that one fit needs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Precision = Literal["fp32", "bf16"]
Batching = Literal["bucketed", "packed"]
# All of a layer: 72 % right after an epoch of 400 rows of the house format; q_proj and v_proj alone: 48 %.
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class _Keys(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    max_tokens: int = Field(default=512, ge=8, description="Tokens of a row; longer ones are a finding.")
    epochs: int = Field(default=2, ge=1, le=100)
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    warm_up: float = Field(default=0.06, ge=0, lt=1, description="Share of the steps before the full rate.")
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0, description="Largest norm of a step's gradient.")
    batch_tokens: int = Field(default=512, ge=8, description="Tokens of one step.")
    pass_tokens: int = Field(default=512, ge=8, description="Tokens of one forward pass: bounds memory.")
    batching: Batching = "bucketed"
    lora_rank: int = Field(default=8, ge=1, le=512)
    lora_alpha: int = Field(default=16, ge=1)
    lora_layers: int | None = Field(default=None, ge=1, description="Adapted top layers; None: all.")
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    dora: bool = Field(default=False, description="Weight-decomposed LoRA (Liu et al. 2024).")
    projections: tuple[str, ...] = PROJECTIONS
    precision: Precision = "fp32"
    patience: int = Field(default=2, ge=0, description="Looks without gain before stopping; 0: to the end.")
    looks: int = Field(default=4, ge=1, description="Looks at the validation loss over the whole fit.")
    validation_share: float = Field(default=0.1, gt=0, lt=1, description="Of the rows, where one is needed.")
    checkpoint_steps: int = Field(default=50, ge=1, description="Steps that a death may cost.")


class GenerationFit(_Keys):
    """Fit of an adapter; the defaults are those measured in tests/benchmarks/llm_task.py."""

    replay_rows: int | None = Field(default=None, ge=0, description="At most so many base rows; None: all.")
    seed: int = Field(default=0, ge=0, lt=2**31)
    threads: int = Field(default=2, ge=1, le=256)


class GenerationTable(_Keys):
    """[generation]: form of the rows, how deep and how long they are learnt, what is served.

    What every task has stays in [fit]: seed, threads, replay_rows, start.
    """

    form: Literal["chat", "completion"] = "chat"
    export: Literal["fp32", "int4", "auto", "fp16"] = Field(
        default="fp32", description='"auto": int4 where its perplexity allows it; "fp16": for CUDA.'
    )
    answer_tokens: int = Field(default=64, ge=1, description="At most so many are answered in evaluation.")
    answer_schema: dict[str, Any] | None = Field(default=None, description="JSON schema of the answers.")
    proof_prompts: int = Field(default=32, ge=1, description="Greedy answers of the export against torch's.")
    perplexity_rise: float = Field(default=0.05, ge=0, description="That int4 or fp16 may cost, as a share.")

    def fit(self, *, seed: int, threads: int, replay_rows: int | None) -> GenerationFit:
        """All that a fit needs."""
        shared = self.model_dump(include=set(_Keys.model_fields))
        return GenerationFit(**shared, seed=seed, threads=threads, replay_rows=replay_rows)
