"""The [fit] table of a spec: how deep, how long, how carefully."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Deep = Literal["layers", "adapter", "full"]
Rung = Literal["head", "layers", "adapter", "full", "auto"]
REPLAY, LEAST_REPLAY = 0.25, 0.05  # share of old rows in an incremental training

# What may change between a crash and its resume: none of it changes what the steps compute.
OPERATIONAL = {"budget_s", "checkpoint_every_s", "keep_weights", "tracker"}


def _rate(given: float | str) -> float | str:
    if given == "auto" or (isinstance(given, float) and 0 < given <= 1):
        return given
    raise ValueError('it should be "auto", or a number above 0 and at most 1')


class FitTable(BaseModel):
    """[fit]: how deep, how long, how carefully."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rung: Rung = "adapter"
    epochs: int = Field(default=1, ge=1, le=100)
    start: Literal["base", "parent"] = "base"  # a retrain's first weights: the base model's or its parent's
    batch_size: int = Field(default=32, ge=1, le=4096)

    learning_rate: Annotated[float | str, AfterValidator(_rate)] = "auto"  # "auto": by a range test
    schedule: Literal["cosine", "linear", "wsd", "constant"] = "linear"
    warm_up: float = Field(default=0.1, ge=0, le=1)  # share of the steps; a retrain warms up again
    search_trials: int = Field(default=0, ge=0, le=200)  # of Optuna, on a validation part; 0: none

    weight_decay: float = Field(default=0.01, ge=0)  # not of biases and layer norms
    dropout: float = Field(default=0.1, ge=0, lt=1)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    clip_norm: float = Field(default=1.0, ge=0)  # 0: gradients are not clipped
    neftune_alpha: float = Field(default=0.0, ge=0, le=100)
    rdrop_alpha: float = Field(default=0.0, ge=0, le=100)  # above 0: every step costs twice as much
    anchor: float = Field(default=0.0, ge=0)  # L2-SP, towards the first weights; above 0: old text may go
    patience: int = Field(default=0, ge=0)  # epochs without a better validation loss; 0: to the end
    validation_share: float = Field(default=0.1, gt=0, lt=1)  # of the training rows, where one is needed

    top_layers: int = Field(default=2, ge=1, le=64)  # of the rung `layers`
    lora_layers: int = Field(default=2, ge=1, le=64)
    lora_rank: int = Field(default=8, ge=1, le=512)
    lora_variant: Literal["lora", "dora", "rslora"] = "lora"

    precision: Literal["auto", "fp32", "bf16"] = "fp32"  # "auto": bf16 where the processor has it
    gradient_checkpointing: bool = False  # of the rung `full`: less memory, a third more time
    threads: int = Field(default=2, ge=1, le=256)
    processes: int = Field(default=1, ge=1, le=64)  # that share every batch, with so many threads each
    seed: int = Field(default=0, ge=0, lt=2**31)
    replay: float | None = Field(default=None, ge=0, lt=1)  # share of old rows; None: REPLAY if anchored
    replay_rows: int | None = Field(default=None, ge=0)  # and never more old rows than this
    half_life_days: float | None = Field(default=None, gt=0)  # of a label's weight; None: all weigh alike
    control_every: int = Field(default=5, ge=0)  # incremental retrains until a fresh one is tried; 0: never

    budget_labels: int | None = Field(default=None, ge=2)  # rows to learn from: the newest traffic, then old
    budget_s: float | None = Field(default=None, gt=0)  # seconds of training steps; then the best so far
    checkpoint_every_s: float = Field(default=60.0, ge=0)
    keep_weights: bool = True  # trained.safetensors in the version, for [fit] start = "parent"
    tracker: str | None = Field(default=None, pattern=r"^(mlflow|wandb|trackio)(:.+)?$")

    @model_validator(mode="after")
    def _not_forgetful(self) -> Self:
        if self.replay is None or self.replay >= LEAST_REPLAY or (self.replay == 0 and self.anchor > 0):
            return self
        raise ValueError(
            f"replay is at least {LEAST_REPLAY:g}, or 0 with an anchor: otherwise old classes are lost"
        )

    @property
    def validates(self) -> bool:
        """Whether a part of the training rows is kept to choose by."""
        return self.rung == "auto" or self.patience > 0 or self.search_trials > 0

    def sha256(self) -> str:
        """Of everything that changes what the steps compute."""
        return hashlib.sha256(self.model_dump_json(exclude=OPERATIONAL).encode()).hexdigest()
