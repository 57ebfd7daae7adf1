"""What a language model is worth before it is sealed: figures of the exported graph's own answers."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.decoder import TASK
from trainer.decoder.graph import DecoderGraph, spoken
from trainer.decoder.proof import Proof
from trainer.generation.answers import Said, mean
from trainer.generation.decoder import Decoder
from trainer.generation.evaluate import answered, forgetting, losses, typos
from trainer.generation.rows import Sample
from trainer.generation.template import Template
from trainer.generation.tune import Tuned
from trainer.progress import Progress, Report
from trainer.spec import TrainSpec

FORMAT = 1
PARENT = "parent"  # name of its adapter beside the fitted one
SLIPPED = 50  # rows that are asked again with typos: answers are what an examination costs
_AT_ONCE = 32  # answers between two lines of progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A version that was made and not yet sealed, and what it is examined with."""

    spec: TrainSpec
    tuned: Tuned
    graph: DecoderGraph
    rows: Sequence[Sample]  # of the hold-out
    general: Sequence[Sample]  # what it must not forget
    parent: Path | None  # its parent's adapter
    say: Report


def examine(version: Examined, proof: Proof) -> tuple[dict[str, Any], list[Said]]:
    """(the whole report, JSON-able; the answers to the rows)."""
    decoder, fit = version.tuned.decoder, version.tuned.fit
    answers = _answers(version, version.rows, "answers to the hold-out")
    schema = version.spec.generation.answer_schema
    slipped = typos(version.rows[:SLIPPED], seed=version.spec.fit.seed)
    now = _losses(version, decoder)
    report: dict[str, Any] = {
        "format": FORMAT,
        "task": TASK,
        "seed": version.spec.fit.seed,
        "holdout": now["holdout"] | answered(_texts(answers), version.rows, schema=schema),
        "typos": answered(_texts(_answers(version, slipped, "answers to slips")), slipped, schema=schema),
        "general": now["general"],
        "base": None,
        "parent": None,
        "fit": {
            "steps": fit.steps,
            "kept_step": fit.best,
            "tokens": fit.tokens,
            "stopped_early": fit.stopped_early,
            "held_out": fit.held_out,
        },
        "proof": asdict(proof),
        "machine": {"platform": platform.platform(), "cores": os.cpu_count()},
    }
    with decoder.model.disable_adapter():
        report["base"] = _losses(version, decoder)
    if version.parent is not None:
        with _parents(decoder, version.parent):
            report["parent"] = _losses(version, decoder)
    before = report["parent"] or report["base"]
    report["forgetting"] = forgetting(before["general"], now["general"])
    return report, answers


def flat(report: dict[str, Any]) -> dict[str, Any]:
    """The figures that a manifest keeps; `accuracy` is the share of answers that match exactly."""
    held = report["holdout"]
    names = ("rows", "loss", "perplexity", "token_f1", "rouge_l", "chrf", "valid_json", "follows_schema")
    return {
        "accuracy": held["exact_match"],
        **{name: held[name] for name in names if name in held},
        "forgetting": report["forgetting"],
        "torch_perplexity": report["proof"]["torch_perplexity"],
        "export_perplexity": report["proof"]["perplexity"],
        "fit": {key: report["fit"][key] for key in ("steps", "kept_step", "tokens", "stopped_early")},
    }


def _losses(version: Examined, decoder: Decoder) -> dict[str, Any]:
    return {"holdout": losses(decoder, version.rows), "general": losses(decoder, version.general)}


def answers_of(
    graph: DecoderGraph, template: Template, rows: Sequence[Sample], tokens: int, say: Report, told: str
) -> list[Said]:
    """Greedy ones, by a graph that serves; a prompt that leaves no room for an answer gets none."""
    prompts = [template.prompt(row) for row in rows]
    fit = [place for place, ids in enumerate(prompts) if len(ids) + tokens <= graph.context]
    answers = [Said("", 0)] * len(rows)
    for start in range(0, len(fit), _AT_ONCE):
        say(Progress(stage="parity", done=start, total=len(fit), message=told))
        part = fit[start : start + _AT_ONCE]
        made = spoken(graph, [prompts[place] for place in part], tokens)
        for place, one in zip(part, made, strict=True):
            answers[place] = Said(
                template.decode(one.ids), len(one.ids), mean(one.logprobs), mean(one.prompt_logprobs)
            )
    return answers


def _answers(version: Examined, rows: Sequence[Sample], told: str) -> list[Said]:
    tokens = version.spec.generation.answer_tokens
    return answers_of(version.graph, version.tuned.decoder.template, rows, tokens, version.say, told)


def _texts(answers: Sequence[Said]) -> list[str]:
    return [said.text for said in answers]


@contextmanager
def _parents(decoder: Decoder, folder: Path) -> Iterator[None]:
    """The decoder with its parent's adapter in place of its own."""
    decoder.model.load_adapter(str(folder), adapter_name=PARENT)
    decoder.model.set_adapter(PARENT)
    try:
        yield
    finally:
        decoder.model.set_adapter("default")
        decoder.model.delete_adapter(PARENT)
