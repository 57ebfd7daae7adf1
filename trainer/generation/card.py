"""README.md of a language model: what it comes from, how it answers its hold-out, what it was proved by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.artifact import Manifest
from trainer.card import plain, table

NAMES = {
    "exact_match": "exact match",
    "token_f1": "token F1",
    "rouge_l": "ROUGE-L",
    "chrf": "chrF",
    "valid_json": "valid JSON",
    "follows_schema": "follows the schema",
    "loss": "loss, nats a token",
    "perplexity": "perplexity",
}


def card(manifest: Manifest, report: dict[str, Any]) -> str:
    """The whole card. Names that people chose are escaped: it may be shown as HTML."""
    facts = [
        ("task", manifest.task),
        ("base", f"{Path(manifest.base).name}, sha256 {manifest.base_sha256}"),
        ("parent", manifest.parent or "none"),
        ("training rows", f"{manifest.metrics['trained_rows']} learnt of {manifest.data.rows}"),
        ("sha256 of the rows", manifest.data.sha256),
        ("context", f"{manifest.max_tokens} tokens"),
        ("seed", str(manifest.seed)),
    ]
    findings = [(one["kind"], one["message"], one["action"]) for one in manifest.findings]
    parts = [
        "---\nlibrary_name: onnx\npipeline_tag: text-generation\ntags:\n- trueup\n---",
        f"# {plain(manifest.model)}",
        table(("", ""), facts),
        f"## Hold-out\n\n{report['holdout']['rows']} rows that were not trained on, answered by the "
        "exported graph.",
        table(("figure", "value", "base model", "with typos"), figure_rows(report)),
        *(["## Findings in the data", table(("kind", "what", "done"), findings)] if findings else []),
    ]
    return "\n\n".join(parts) + "\n"


def figure_rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """(name, this version, the base model, this version when prompts have typos); "–" where not measured."""
    held, base, slipped = report["holdout"], report["base"]["holdout"], report["typos"]
    return [
        (told, *(_number(of.get(name)) for of in (held, base, slipped)))
        for name, told in NAMES.items()
        if name in held
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
