"""The data gate of conversations: faults of their own, and those that any text can have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trainer.findings import EXAMPLES, SHOWN, Action, Data, Example, Finding, examine, kept, refuse
from trainer.generation.errors import TemplateError
from trainer.generation.faults import FAULTS, Found, Rows
from trainer.generation.rows import Sample
from trainer.generation.template import Template
from trainer.rows import HoldoutRow, Row

# Of trainer.findings:
SHARED = ("exact_duplicates", "foreign_language", "foreign_script", "leakage", "personal_data")


def kinds() -> list[str]:
    """Names of all findings of conversations, for `on_finding`.

    >>> "template_errors" in kinds(), "leakage" in kinds()
    (True, True)
    """
    return sorted({*FAULTS, *SHARED})


def look(
    samples: Sequence[Sample],
    holdout: Sequence[Sample],
    template: Template,
    *,
    max_tokens: int,
    on_finding: Mapping[str, Action],
) -> list[Finding]:
    """Every finding of the rows that is not ignored, with what is to be done about it."""
    rows = _rows(samples, template, max_tokens)
    found = [_finding(kind, rows, on_finding.get(kind, FAULTS[kind][1])) for kind in FAULTS]
    return [one for one in found if one is not None] + _shared(samples, holdout, on_finding)


def sift(
    samples: Sequence[Sample],
    holdout: Sequence[Sample],
    template: Template,
    *,
    max_tokens: int,
    on_finding: Mapping[str, Action],
) -> tuple[list[int], list[Finding]]:
    """(positions to learn from, findings); FindingError where a finding refuses."""
    findings = look(samples, holdout, template, max_tokens=max_tokens, on_finding=on_finding)
    refuse(findings)
    return kept(len(samples), findings), findings


def _rows(samples: Sequence[Sample], template: Template, max_tokens: int) -> Rows:
    lengths: list[int | None] = []
    refused: list[str | None] = []
    for sample in samples:
        try:
            lengths.append(len(template.tokens(sample).ids))
            refused.append(None)
        except TemplateError as error:
            lengths.append(None)
            refused.append(error.problem)
    return Rows(samples=samples, lengths=lengths, refused=refused, max_tokens=max_tokens)


def _finding(kind: str, rows: Rows, action: Action) -> Finding | None:
    find, _, told = FAULTS[kind]
    found = find(rows) if action != "ignore" else {}
    if not found:
        return None
    return Finding(
        kind=kind,
        message=f"{len(found)} of {len(rows.samples)} {told}",
        rows=tuple(found),
        examples=_examples(found, rows),
        action=action,
    )


def _examples(found: Found, rows: Rows) -> tuple[Example, ...]:
    shown = list(found.items())[:EXAMPLES]
    return tuple(
        Example(
            row=row, text=_shown(rows.samples[row].prompt), label=_shown(rows.samples[row].answer), note=why
        )
        for row, why in shown
    )


def _shared(
    samples: Sequence[Sample], holdout: Sequence[Sample], on_finding: Mapping[str, Action]
) -> list[Finding]:
    """The finders of labelled rows that make sense here: the prompt is the text, the answer the label."""
    prompts = Data(
        rows=[Row(text=one.prompt, label=one.answer) for one in samples],
        holdout=[HoldoutRow(text=one.prompt, label=one.answer) for one in holdout],
    )
    whole = Data(rows=[Row(text=f"{one.prompt}\n{one.answer}", label="") for one in samples])
    found = examine(prompts, on_finding, only=[kind for kind in SHARED if kind != "personal_data"])
    return found + examine(whole, on_finding, only=["personal_data"])


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"
