"""What a fit may be told: depth, learning rate, regularisation, precision, who is told."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trainer.conftest import fit_toy
from trainer.artifact import RANGE_TEST, TRAINED
from trainer.encoder import embed, load_encoder
from trainer.errors import SpecError, TrackerError
from trainer.fit import on_this_processor
from trainer.fitting.loop import Parts, Training
from trainer.fitting.objective import Anchor, disagreement, row_losses
from trainer.fitting.rate import HIGHEST, LOWEST, SHARE, range_test
from trainer.fitting.schedules import SHAPES, share
from trainer.fitting.table import Deep, FitTable
from trainer.fitting.trained import Texts, Trained, first_trained
from trainer.head import fit_head
from trainer.rows import Row
from trainer.spec import TrainSpec
from trainer.tokens import encode, tokenizer

SpecFor = Callable[..., TrainSpec]


def _training(
    spec: TrainSpec, rows: list[Row], rung: Deep, rate: float = 1e-3, *, sets: bool = False
) -> Training:
    base = Path(spec.model.base)
    ids = encode(tokenizer(base / "tokenizer.json", 16), [row.text for row in rows])
    truth = np.array([row.label == "metal" for row in rows], dtype=np.int64)
    truth = np.eye(2)[truth].astype(np.float32) if sets else truth
    model = load_encoder(base)
    first = first_trained(model, spec.fit, rung)
    frozen = embed(model, ids, layer=first, tick=lambda *_: None)
    head = fit_head(frozen.embeddings, truth, classes=2)
    texts = Texts(ids=ids, truth=truth, frozen=frozen, first=first)
    trained = Trained(load_encoder(base), head, texts, spec.fit, rung)
    return Training(trained, Parts(learnt=np.arange(len(rows)), validation=np.arange(0)), spec.fit, rate=rate)


@pytest.mark.parametrize("name", SHAPES)
def test_a_schedule_warms_up_never_exceeds_the_peak_and_decays_unless_constant(name: str) -> None:
    shares = [share(name, step, 100, warm_up=0.1) for step in range(101)]
    assert shares[0] == 0.1
    assert max(shares) == 1.0
    assert np.argmax(shares) == 9
    assert (shares[-1] == 0.0) == (name != "constant")


def test_only_the_layers_of_the_rung_move(
    spec_for: SpecFor, rows: list[Row], base: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load

    made = {
        rung: fit_toy(spec_for(rung=rung, top_layers=1), rows, tmp_path / rung) for rung in ("layers", "full")
    }
    layers = load(made["layers"].files[TRAINED])
    assert {name.split(".")[2] for name in layers} == {"2"}
    assert len(layers) == 16
    assert "embeddings.word_embeddings.weight" in load(made["full"].files[TRAINED])


@pytest.mark.parametrize("variant", ["lora", "dora", "rslora"])
def test_every_kind_of_adapter_is_merged_into_what_answers(
    variant: str, spec_for: SpecFor, rows: list[Row], base: Path, tmp_path: Path
) -> None:
    made = fit_toy(spec_for(lora_variant=variant, epochs=2), rows, tmp_path)
    ids = encode(tokenizer(base / "tokenizer.json", 16), [row.text for row in rows])
    fresh = embed(made.encoder, ids, layer=None, tick=lambda *_: None).embeddings
    assert np.abs(fresh - made.embeddings).max() < 0.01
    assert "lora" not in " ".join(made.encoder.state_dict())


def test_biases_and_layer_norms_do_not_decay(spec_for: SpecFor, rows: list[Row]) -> None:
    training = _training(spec_for(weight_decay=0.5), rows, "layers")
    decay = {id(part): g["weight_decay"] for g in training._optimiser.param_groups for part in g["params"]}
    kinds = {name: decay[id(part)] for name, part in training.trained.tensors().items()}
    assert {name for name, value in kinds.items() if value == 0} == {
        name for name in kinds if name.endswith("bias") or "LayerNorm" in name
    }


def test_the_range_test_is_short_repeatable_and_leaves_the_weights_alone(
    spec_for: SpecFor, rows: list[Row]
) -> None:
    many = rows * 5
    found = []
    for _ in range(2):
        training = _training(spec_for(batch_size=4), many, "adapter")
        before = {name: part.detach().clone() for name, part in training.trained.tensors().items()}
        texts = training.trained.texts
        head = fit_head(texts.frozen.embeddings, texts.truth, classes=2)
        found.append(
            range_test(training, frozen=row_losses(head.logits(texts.frozen.embeddings), texts.truth))
        )
        after = training.trained.tensors()
        assert all(part.equal(after[name]) for name, part in before.items())
    assert found[0] == found[1]
    assert found[0]["steps"] * 4 <= SHARE * len(many)
    assert LOWEST["adapter"] <= found[0]["chosen"] <= HIGHEST["adapter"]


def test_too_few_rows_for_a_sweep_take_the_usual_rate(
    spec_for: SpecFor, rows: list[Row], tmp_path: Path
) -> None:
    made = fit_toy(spec_for(), rows[:20], tmp_path)
    assert made.report["range_test"]["why"].startswith("too few rows")
    assert RANGE_TEST not in made.files


def test_early_stopping_keeps_the_weights_with_the_lowest_validation_loss(
    spec_for: SpecFor, rows: list[Row], tmp_path: Path
) -> None:
    spec = spec_for(patience=1, epochs=30, learning_rate=0.3, validation_share=0.4)
    report = fit_toy(spec, rows, tmp_path).report
    losses = {entry["step"]: entry["validation_loss"] for entry in report["curve"]}
    assert report["stopped"] == "patience"
    assert report["steps"] < report["steps_planned"]
    assert report["kept_step"] == min(losses, key=lambda step: losses[step])
    assert report["validation"]["loss"] == pytest.approx(min(losses.values()), abs=1e-4)


@pytest.mark.parametrize("rung", ["layers", "adapter"])
def test_an_anchor_holds_the_weights_near_their_start(
    rung: str, spec_for: SpecFor, rows: list[Row], base: Path, tmp_path: Path
) -> None:
    before = load_encoder(base).state_dict()

    def moved(anchor: float) -> float:
        spec = spec_for(rung=rung, anchor=anchor, epochs=4, learning_rate=0.01)
        after = fit_toy(spec, rows, tmp_path / str(anchor)).encoder.state_dict()
        return sum(float((after[name] - part).square().sum()) for name, part in before.items())

    assert moved(100.0) < moved(0.0) / 10


def test_an_adapters_anchor_is_the_distance_that_merging_it_adds(spec_for: SpecFor, rows: list[Row]) -> None:
    training = _training(spec_for(anchor=2.0, learning_rate=0.02), rows, "adapter", rate=0.02)
    anchor = Anchor(training.trained, 2.0, [])
    before = load_encoder(Path(spec_for().model.base)).state_dict()
    for batch in training.batches():
        training.step(batch, 0.02)
    penalty = float(anchor.penalty().detach())
    training.trained.finished()
    after = training.trained.encoder.state_dict()
    distance = sum(float((after[name] - part).square().sum()) for name, part in before.items())
    assert penalty == pytest.approx(distance, rel=1e-3)
    assert penalty > 0


def test_bf16_is_refused_where_the_processor_would_emulate_it(
    spec_for: SpecFor, rows: list[Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False)
    with pytest.raises(SpecError, match=r"fit\.precision: this processor has no bfloat16"):
        fit_toy(spec_for(precision="bf16"), rows, tmp_path)
    assert fit_toy(spec_for(precision="auto"), rows, tmp_path).report["precision"] == "fp32"


def test_bf16_is_taken_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: True)
    assert on_this_processor(FitTable(precision="auto")).precision == "bf16"
    assert on_this_processor(FitTable()).precision == "fp32"


@pytest.mark.parametrize("sets", [False, True])
def test_rdrop_teaches_two_passes_to_agree(sets: bool, spec_for: SpecFor, rows: list[Row]) -> None:
    def apart(alpha: float) -> float:
        training = _training(spec_for(rdrop_alpha=alpha, dropout=0.3, epochs=8), rows, "full", sets=sets)
        for batch in training.batches():
            training.step(batch, 3e-3)
        training.trained.module.train()
        twice = training.trained.head(training.trained.embed([*range(60), *range(60)]))
        return float(disagreement(twice, sets=sets).detach())

    assert apart(5.0) < apart(0.0) / 2


def test_a_tracker_that_is_not_installed_is_named(spec_for: SpecFor, rows: list[Row], tmp_path: Path) -> None:
    if importlib.util.find_spec("wandb"):
        pytest.skip("wandb is installed here")
    with pytest.raises(TrackerError, match=r"fit\.tracker: wandb cannot be used"):
        fit_toy(spec_for(tracker="wandb:trueup"), rows, tmp_path)


@pytest.mark.filterwarnings("ignore")  # of MLflow's own database layer
def test_mlflow_hears_every_step(spec_for: SpecFor, rows: list[Row], tmp_path: Path) -> None:
    mlflow: Any = pytest.importorskip("mlflow")
    where = f"sqlite:///{tmp_path}/runs.db"
    made = fit_toy(spec_for(tracker=f"mlflow:{where}"), rows, tmp_path / "checkpoints")
    client = mlflow.MlflowClient(where)
    (run,) = client.search_runs([client.get_experiment_by_name("trueup").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["rung"] == "adapter"
    assert len(client.get_metric_history(run.info.run_id, "loss")) == made.report["steps"]


def test_a_table_of_an_older_version_still_reads() -> None:
    old = {"rung": "adapter", "epochs": 1, "learning_rate": 1e-3, "lora_layers": 1, "replay_rows": None}
    assert FitTable.model_validate(old).learning_rate == 1e-3
