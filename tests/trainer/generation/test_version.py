"""A language model's training dies, or is asked to stop, and goes on where it stood."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exporter.engines import usable
from trainer.decoder.errors import PerplexityError
from trainer.decoder.export import Precision
from trainer.decoder.proof import Proof, prove
from trainer.decoder.sealed import open_decoder
from trainer.errors import PausedError
from trainer.generation.decoder import save_adapter
from trainer.generation.stored import sample_of
from trainer.generation.tune import tune
from trainer.generation.version import train_decoder
from trainer.progress import Progress
from trainer.rows import HoldoutRow, Row
from trainer.spec import TrainSpec, parse_spec
from trainer.train import DataRef

TAUGHT, ASKED = ("pear", "plum", "corn", "rice", "kale", "leek"), ("oat", "fig", "dill", "yam")
ROWS = [Row(text=f"where is {name}", label="home") for name in TAUGHT]
HELD = [HoldoutRow(text=f"where is {name}", label="home") for name in ASKED]


def spec_of(tiny_base: Path, **generation: object) -> TrainSpec:
    given = {"max_tokens": 100, "epochs": 3, "batch_tokens": 100, "pass_tokens": 100, "answer_tokens": 4}
    return parse_spec(
        {
            "model": {"name": "writer", "task": "text-generation", "base": str(tiny_base)},
            "data": {"train": "rows.jsonl", "on_finding": {"leakage": "ignore"}},
            "fit": {"threads": 1},
            "generation": given | generation,
        }
    )


def train(spec: TrainSpec, out: Path, *, pause_at: int | None = None) -> list[int]:
    """Steps that were taken."""
    steps: list[int] = []

    def progress(line: Progress) -> None:
        if line.stage == "fit":
            steps.append(line.done)
            if line.done == pause_at:
                raise PausedError

    train_decoder(
        spec, train_rows=ROWS, holdout=HELD, data=DataRef(sha256="0" * 64, rows=len(ROWS), path=out), out=out,
        cache=out, parent=None, progress=progress, now=1.7e9,
    )  # fmt: skip
    return steps


def test_a_paused_training_goes_on_to_the_same_weights(tiny_base: Path, tmp_path: Path) -> None:
    spec, out = spec_of(tiny_base), tmp_path / "version"
    with pytest.raises(PausedError):
        train(spec, out, pause_at=4)
    assert not (out / "manifest.json").exists()
    assert train(spec, out)[0] == 5
    assert [path.name for path in tmp_path.iterdir()] == ["version"]
    samples, held = ([sample_of(row, "chat") for row in rows] for rows in (ROWS, HELD))
    fit = spec.generation.fit(seed=0, threads=1, replay_rows=None)
    undisturbed = tune(tiny_base, samples, held, fit, on_finding=spec.data.on_finding)
    save_adapter(undisturbed.decoder, tmp_path / "adapter")
    weights = (tmp_path / "adapter" / "adapter_model.safetensors").read_bytes()
    assert open_decoder(out).files["adapter_model.safetensors"] == weights


def test_a_costly_int4_is_refused_with_its_number_and_fp32_serves(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def costly(graph: Any, base: Path, ids: Any, gate: Any, precision: Precision) -> Proof:
        if precision == "int4":  # what it costs a random model is chance
            raise PerplexityError(precision, 12.0, 10.0, 0.05)
        return prove(graph, base, ids, gate, precision)

    monkeypatch.setattr("trainer.generation.version.prove", costly)
    train(spec_of(tiny_base, export="auto", epochs=1), tmp_path / "version")
    engines = open_decoder(tmp_path / "version").manifest.engines
    assert [one.precision for one in engines.values()] == ["fp32", "int4"]
    assert "int4 is refused: its perplexity is 12.000" in str(engines["decoder-cpu-int4"].refused)
    assert usable(engines) == ["decoder-cpu"]
