"""`train --check-data`: what is wrong with the data of a spec, before anything is learnt from them."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table
from rich.text import Text

from monitor.commands import Context, Outcome
from monitor.commands.models import stages
from trainer.findings import Finding, told
from trainer.gate import look
from trainer.spec import load_spec
from trainer.split import prepare


def check_data(context: Context, *, spec: Path, quiet: bool) -> Outcome:
    """Look at the rows and the hold-out that a training would have; status 1 with a finding."""
    loaded = load_spec(spec)
    rows, holdout = prepare(loaded, spec)
    with stages(quiet) as show:
        findings = look(
            loaded,
            rows,
            holdout,
            cache=context.settings.trainer.cache,
            tick=lambda done, of: show({"stage": "embed", "done": done, "total": of}),
        )
    data = {"rows": len(rows), "holdout": len(holdout), "findings": told(findings)}
    head = f"{len(rows)} rows to learn from, {len(holdout)} held out; {len(findings)} kinds of findings"
    return Outcome(data=data, view=(head, *map(_view, findings)), status=int(bool(findings)))


def _view(finding: Finding) -> Table:
    """The finding over its examples; texts are data, never markup."""
    table = Table(
        title=f"{finding.kind} ({finding.action}): {finding.message}", title_justify="left", expand=True
    )
    for name, ratio in (("row", None), ("label", None), ("text", 3), ("note", 2)):
        table.add_column(name, no_wrap=name == "row", ratio=ratio)
    for one in finding.examples:
        table.add_row(str(one.row), Text(one.label), Text(one.text), Text(one.note))
    return table
