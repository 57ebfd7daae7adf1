"""README.md of a version: a model card in the format of the Hugging Face hub, of facts and figures only."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainer.artifact import Manifest
from trainer.evaluate import NOT_ENOUGH
from trainer.sources import ENCODER

OF_SETS = (("micro F1", "micro_f1"), ("Hamming loss", "hamming_loss"))  # only where the truth are sets
OF_ENTITIES = (
    ("F1 of entities", "entity_f1"), ("precision", "precision"), ("recall", "recall"),
    ("accuracy of tokens", "token_accuracy"),
)  # fmt: skip
MOST = 200  # rows of a table; the rest is in report.json
_LICENCE = re.compile(r"\A---\n.*?^license:\s*[\"']?([\w.+-]+)", re.DOTALL | re.MULTILINE)


def card(manifest: Manifest, report: dict[str, Any], licence: str | None) -> str:
    """The whole card. Names that people chose are escaped: it may be shown as HTML."""
    parts = [
        _head(manifest, licence),
        f"# {plain(manifest.model)}",
        table(("", ""), _facts(manifest, licence)),
        "## Hold-out",
        f"{report['holdout']['rows']} rows that were not trained on. Intervals are 95 %. "
        "Scaled figures: each half of the rows by the temperature of the other half.",
        table(("figure", "value"), figure_rows(report)),
        *_section("Slices", ("slice", "rows", "accuracy"), _shares(report["slices"])),
        *_section(
            "Robustness",
            ("damage", "rows", "before", "damaged", "points lost"),
            lost_rows(report["robustness"]),
        ),
        *_section(
            "Forgetting",
            ("rows of", "rows", "parent", "this", "points lost"),
            lost_rows(report["forgetting"]),
        ),
        *_section("Cost of the exported graph", ("", "value"), cost_rows(report["serving"])),
        *_section("Classes", ("class", "rows", "precision", "recall", "F1"), _classes(report["classes"])),
        *_section("Findings in the data", ("kind", "what", "done"), _findings(manifest)),
        "## Limits",
        "\n".join(f"- {line}" for line in _limits(manifest, report)),
    ]
    return "\n\n".join(parts) + "\n"


def licence(base: Path, name: str) -> str | None:
    """The licence of a base model, where it says so in a README.md of its own; None where nobody knows."""
    if name == ENCODER:
        return "apache-2.0"
    try:
        found = _LICENCE.match((base / "README.md").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return found.group(1) if found else None


def figure_rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, value) of the hold-out's figures and of the gap to the training rows."""
    held, gap = report["holdout"], report["overfitting"]
    if not held["rows"]:
        return [("accuracy", NOT_ENOUGH)]
    return [
        ("accuracy", interval(held["accuracy"])),
        ("macro F1", interval(held["macro_f1"])),
        *((name, f"{held[key]:.3f}") for name, key in OF_SETS if key in held),
        *((name, interval(held[key])) for name, key in OF_ENTITIES if key in held),
        *(
            (name, f"{held[key]['unscaled']:.4f} → {held[key]['scaled']:.4f} scaled")
            for name, key in (("calibration error (ECE)", "ece"), ("negative log-likelihood", "nll"))
        ),
        ("temperature", f"{held['temperature']:.3f}"),
        ("accuracy on training rows", interval(gap["trained"]) if gap else NOT_ENOUGH),
        (
            "overfitting: training less hold-out",
            f"{gap['gap_points']:+.1f} points" if "gap_points" in gap else NOT_ENOUGH,
        ),
    ]


def lost_rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """(name, rows, before, now, points lost) of paired comparisons."""
    return [
        (
            name,
            str(one["rows"]),
            f"{one['before']:.3f}",
            f"{one['now']:.3f}",
            f"{one['lost_points']:+.1f} ({one['low']:+.1f} … {one['high']:+.1f})",
        )
        if one.get("lost_points") is not None
        else (name, str(one["rows"]), "–", interval(one), "–")
        for name, one in found.items()
    ]


def cost_rows(serving: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, value) of time and memory."""
    rows = [("threads", str(serving["threads"])), ("graph", f"{serving['model_mb']} MB")]
    for name, value in serving.items():
        if name.endswith("_ms"):
            said = (
                f"p50 {value['p50']} ms, p95 {value['p95']} ms, {value['runs']} runs" if value else NOT_ENOUGH
            )
            rows.append((name.removesuffix("_ms").replace("_", " "), said))
    if serving.get("resident_mb") is not None:
        rows.append(("resident, in a process of its own", f"{serving['resident_mb']} MB"))
    return rows


def interval(found: dict[str, Any]) -> str:
    """A share with its interval.

    >>> interval({"rows": 50, "value": 0.9, "low": 0.786, "high": 0.957})
    '0.900 (0.786 … 0.957)'
    """
    if found.get("value") is None:
        return NOT_ENOUGH
    return f"{found['value']:.3f} ({found['low']:.3f} … {found['high']:.3f})"


def _head(manifest: Manifest, licence: str | None) -> str:
    """YAML; every scalar is written as JSON, which YAML reads."""
    lines = ["---", "library_name: onnx", "pipeline_tag: text-classification", "tags:", "- trueup"]
    if licence is not None:
        lines.append(f"license: {json.dumps(licence)}")
    lines += [
        f"base_model: {json.dumps(Path(manifest.base).name)}",
        "model-index:",
        f"- name: {json.dumps(manifest.model)}",
        "  results:",
    ]
    lines += [
        "  - task:",
        "      type: text-classification",
        "    dataset:",
        "      name: hold-out",
        f"      type: {json.dumps(manifest.data.sha256)}",
        "    metrics:",
    ]
    for name in ("accuracy", "macro_f1", "ece", "nll"):
        value = manifest.metrics.get(name)
        if value is not None:
            lines += [f"    - type: {name}", f"      value: {value:.4f}"]
    return "\n".join([*lines, "---"])


def _facts(manifest: Manifest, licence: str | None) -> list[tuple[str, str]]:
    made = datetime.fromtimestamp(manifest.created_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    rows = (
        f"{manifest.metrics['trained_rows']} learnt of {manifest.data.rows}, {len(manifest.dropped)} left out"
    )
    return [
        ("task", f"{manifest.task}, {len(manifest.labels)} labels"),
        ("base", f"{Path(manifest.base).name}, sha256 {manifest.base_sha256}"),
        ("licence of the base", licence or "not known"),
        ("rung", manifest.rung),
        ("parent", manifest.parent or "none"),
        ("training rows", rows),
        ("sha256 of the rows", manifest.data.sha256),
        ("longest text", f"{manifest.max_tokens} tokens"),
        (
            "parity with the trained model",
            f"largest difference {manifest.parity.max_abs:.1e} over {manifest.parity.rows} texts",
        ),
        ("seed", str(manifest.seed)),
        ("made", made),
        ("with", ", ".join(f"{name} {version}" for name, version in manifest.versions.items())),
    ]


def _shares(found: dict[str, Any]) -> list[tuple[str, ...]]:
    return [(name, str(one["rows"]), interval(one)) for name, one in found.items()]


def _classes(found: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            name,
            str(one["rows"]),
            interval(one["precision"]),
            interval(one["recall"]),
            "–" if one["f1"] is None else f"{one['f1']:.3f}",
        )
        for name, one in found.items()
    ]


def _findings(manifest: Manifest) -> list[tuple[str, ...]]:
    return [(one["kind"], one["message"], one["action"]) for one in manifest.findings]


def _limits(manifest: Manifest, report: dict[str, Any]) -> Iterable[str]:
    yield f"Texts beyond {manifest.max_tokens} tokens are cut."
    if not manifest.thresholds:
        yield "Every text is answered with one of the labels, whatever it is about."
    few = sum(one["recall"]["value"] is None for one in report["classes"].values())
    if few:
        yield f"{few} of {len(manifest.labels)} classes have too few hold-out rows for figures."
    if any(one.get("lost_points") is None for one in report["robustness"].values()):
        yield "Too few hold-out rows fit [evaluate] tokens to say how damaged texts are answered."
    if manifest.parent is not None:
        yield "Hold-out rows pass from parent to child: each verdict that reads them makes them worth less."


def _section(title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"## {title}", table(names, rows)] if rows else []


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *([plain(cell) for cell in row] for row in rows[:MOST])]
    if len(rows) > MOST:
        lines.append([f"{len(rows) - MOST} more in report.json", *[""] * (len(names) - 1)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def plain(text: str) -> str:
    """One line that neither Markdown nor HTML reads as anything but text.

    >>> plain("a|b <i>*x*")
    'a\\\\|b &lt;i&gt;\\\\*x\\\\*'
    """
    return re.sub(r"([\\`*_\[\]|~#])", r"\\\1", html.escape(" ".join(text.split()), quote=False))
