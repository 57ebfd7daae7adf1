"""`init`, `doctor` and `db upgrade`: a project, its machine and its database."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from monitor import examination
from monitor.commands import Context, Outcome
from monitor.config import MODEL_NAME, ConfigError, load_settings
from monitor.errors import MonitorError
from monitor.migrate import current
from trainer.rows import check_rows, read_rows
from trainer.spec import load_spec

CONFIG = """\
# trueup.toml: one table per package. Every value shown is the default; unknown keys are refused.
# The environment wins over this file: TRUEUP__EXPORTER__DATABASE_URL=postgresql+psycopg://…

home = ".trueup"                  # database, versions, ledger, reports: one folder that you can back up

[exporter]
port = 8000                       # listens on 127.0.0.1
# database_url = ""               # empty: SQLite in the home folder
# store_text = "redacted"         # none | hash | redacted | full
# durability = "process"          # "power" also survives a power cut

[monitor]
port = 8001                       # status page
check = "*/5 * * * *"             # cron, or "every 30s"
retrain = "0 3 * * 0"             # refresh on Sundays at 3, if labels arrived
time_zone = "UTC"

[models.{model}]
spec = "{model}.toml"
window = 500                      # predictions that one check judges
false_pages_per_year = 0.02       # the budget of false pages, kept by construction
min_labels = 200                  # labels before a retrain may start
# approval = true                 # a retrain waits for a person: `trueup retrain`
# [models.{model}.thresholds]     # Evidently metrics that alert and may retrain, by name and limit
# accuracy = 0.85                # also macro_f1, drift_similarity, drift_confidence, drift_label
"""

SPEC = """\
# How {model} is trained: `trueup train {model}.toml`. Unknown keys are refused.

[model]
name = "{model}"
base = "{base}"
max_tokens = 128                  # longer texts are cut, and each answer says so

[data]
train = "{data}"
holdout_share = 0.2               # stratified, never trained on: the reference window
text = "{text}"
label = "{label}"

[fit]
rung = "adapter"                  # "head" is the cheaper one: frozen encoder, new head
seed = 0
"""


class ExistsError(MonitorError):
    """`init` would overwrite a file."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is there already; remove it, choose another --folder, or say --force.")


def init(
    _: Context, *, data: Path, model: str, text: str, label: str, base: str, folder: Path, force: bool
) -> Outcome:
    """Read the data, then write both files and load them back."""
    if not MODEL_NAME.fullmatch(model):
        raise ConfigError("--model", f"{model!r} must match {MODEL_NAME.pattern}")
    rows = read_rows(data, text=text, label=label)
    check_rows(rows, data)
    config, spec = folder / "trueup.toml", folder / f"{model}.toml"
    for path in (config, spec):
        if path.exists() and not force:
            raise ExistsError(path)
    folder.mkdir(parents=True, exist_ok=True)
    config.write_text(CONFIG.format(model=model), encoding="utf-8")
    values = {"model": model, "base": base, "data": str(data.resolve()), "text": text, "label": label}
    spec.write_text(SPEC.format_map({key: _toml(value) for key, value in values.items()}), encoding="utf-8")
    load_settings(config)
    load_spec(spec)
    classes = Counter(row.label for row in rows)
    found = {
        "rows": len(rows),
        "classes": dict(classes.most_common()),
        "config": str(config),
        "spec": str(spec),
    }
    lines = (
        f"{len(rows)} rows, {len(classes)} classes; fewest: {classes.most_common()[-1]}",
        f"wrote {config} and {spec}",
        f"Next: trueup train {spec} -c {config}, then trueup up -c {config}",
    )
    return Outcome(data=found, view=lines)


def doctor(context: Context) -> Outcome:
    """Examine machine, libraries, folders and database; status 1 with a finding."""
    findings = examination.examine(context.settings)
    table = Table("", "what", "found", "mend")
    for one in findings:
        table.add_row("wrong" if one.mend else "ok", one.what, one.found, one.mend or "")
    wrong = sum(one.mend is not None for one in findings)
    data = {"findings": [asdict(one) | {"ok": one.mend is None} for one in findings], "wrong": wrong}
    return Outcome(data=data, view=(table,), status=int(wrong > 0))


def upgrade(context: Context) -> Outcome:
    """Opening the context's database migrates it; say where it stands."""
    revision = current(context.db)
    url = context.db.url.render_as_string(hide_password=True)
    return Outcome(data={"database": url, "revision": revision}, view=(f"{url} is at {revision}",))


def _toml(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
