"""A language model's way: conversations → `trueup train` → a sealed version → answers to OpenAI's client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion
from sqlalchemy import Engine, select
from typer.testing import CliRunner

from exporter import registry
from exporter.answers import describe_answer
from exporter.database import open_database, sqlite_url
from exporter.tables import predictions
from monitor.cli import app
from monitor.tallies import read_answers as read_answers_tally
from tests.decoders import tiny_llama
from tests.exporter.exporter_process import exporter_process
from trainer.decoder.sealed import open_decoder
from trainer.generation.answers import read_answers
from trainer.rows import read_holdout

SYSTEM = {"role": "system", "content": "?"}
ANSWER = "home"
TAUGHT = ("pear", "plum", "corn", "rice", "beet", "kale", "leek", "yam")
HELD = ("pea", "fig", "oat", "nut", "teff", "taro", "dill", "mint")
FOUND = tuple(a + b for a in ("bo", "ka", "mi", "lu", "re", "to") for b in ("n", "s", "ra", "ty", "x", "ll"))
SPEC = """
[model]
name = "writer"
task = "text-generation"
base = "base"
max_tokens = 96

[data]
train = "rows.jsonl"
holdout = "held.jsonl"
on_finding = { leakage = "ignore", near_duplicate_prompts = "ignore", exact_duplicates = "ignore" }

general = "general.jsonl"

[fit]
threads = 1

[generation]
max_tokens = 90
epochs = 40
learning_rate = 0.007
batch_tokens = 400
pass_tokens = 400
answer_tokens = 8
patience = 0
"""


def conversation(name: str, answer: str = ANSWER, verb: str = "where is") -> dict[str, Any]:
    asked = {"role": "user", "content": f"{verb} {name}"}
    return {"messages": [SYSTEM, asked, {"role": "assistant", "content": answer}]}


def command(home: Path, *words: str) -> Any:
    """What a command of the project prints."""
    result = CliRunner().invoke(app, [*words, "--config", str(home / "trueup.toml"), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose language model "writer" was trained, registered and promoted from the command line."""
    home = tmp_path_factory.mktemp("project")
    tiny_llama(home / "base")
    for file, names in (("rows", TAUGHT), ("held", HELD)):
        lines = [json.dumps(conversation(name)) + "\n" for name in names]
        (home / f"{file}.jsonl").write_text("".join(lines))
    (home / "general.jsonl").write_text('{"prompt": "once upon", "completion": " a time"}\n')
    (home / "writer.toml").write_text(SPEC)
    (home / "trueup.toml").write_text(f'home = "{home}"\n[models.writer]\nmargin = 0.4\n')
    (home / "trained.json").write_text(json.dumps(command(home, "train", str(home / "writer.toml"))))
    return home


@pytest.fixture(scope="module")
def db(home: Path) -> Iterator[Engine]:
    opened = open_database(sqlite_url(home))
    yield opened
    opened.dispose()


def test_the_command_tells_figures_of_the_exported_graph(home: Path) -> None:
    told = json.loads((home / "trained.json").read_text())
    assert told["champion"] == "v1"
    assert told["metrics"]["accuracy"] == 1.0
    report = told["report"]
    assert report["holdout"]["loss"] < report["base"]["holdout"]["loss"] / 4
    assert report["forgetting"] == report["general"]["loss"] - report["base"]["general"]["loss"]
    assert report["proof"]["equal"] == report["proof"]["prompts"] > 0


def test_the_version_holds_its_hold_out_its_answers_and_its_adapter(home: Path, db: Engine) -> None:
    version = open_decoder(registry.version_path(db, "writer", "v1"))
    rows = read_holdout(version.path / "holdout.parquet")
    assert [row.text for row in rows] == [f"system: ?\n\nuser: where is {name}" for name in HELD]
    said = read_answers(version.files["answers.parquet"])
    assert [said[number].text for number in range(len(HELD))] == [ANSWER] * len(HELD)
    assert version.manifest.spec["model"]["task"] == "text-generation"
    assert "adapter_model.safetensors" in version.files
    assert str(home) not in version.files["adapter_config.json"].decode()


def test_its_data_can_be_looked_at_without_a_training(home: Path) -> None:
    told = command(home, "train", str(home / "writer.toml"), "--check-data")
    assert (told["rows"], told["holdout"], told["findings"]) == (len(TAUGHT), len(HELD), [])


def test_every_value_of_its_spec_is_explained(home: Path) -> None:
    told = command(home, "train", str(home / "writer.toml"), "--explain")
    values = {one["key"]: one["value"] for one in told["settings"]}
    assert (values["generation.epochs"], values["data.on_finding.cut_answers"]) == (40, "warn")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("[fit]", "[fit]\nepochs = 3"), "fit] epochs is of classifiers"),
        (("epochs = 40", "epoch = 40"), "Did you mean 'epochs'"),
        (('task = "text-generation"', ""), "[generation] goes with [model] task"),
        (("epochs = 40", 'form = "completion"'), "no row of the form 'completion'"),
        (("epochs = 40", 'answer_schema = { type = "nothing" }'), "schema of the answers cannot be used"),
    ],
)
def test_a_spec_that_cannot_be_followed_says_why(home: Path, change: tuple[str, str], told: str) -> None:
    (home / "bad.toml").write_text(SPEC.replace(*change))
    result = CliRunner().invoke(
        app, ["train", str(home / "bad.toml"), "--config", str(home / "trueup.toml"), "--json"]
    )
    assert result.exit_code == 2
    assert told in result.output


@contextmanager
def serving(home: Path) -> Iterator[OpenAI]:
    with (
        exporter_process(home) as (_, url),
        OpenAI(api_key="none", base_url=f"{url}/v1", timeout=60, max_retries=0) as client,
    ):
        yield client


def asked(client: OpenAI, messages: Any, temperature: float = 0) -> ChatCompletion:
    return client.chat.completions.create(
        model="writer", messages=messages[:2], temperature=temperature, seed=1, max_tokens=8
    )


def test_openais_client_gets_what_was_learnt(home: Path) -> None:
    with serving(home) as client:
        for name in HELD:
            (choice,) = asked(client, conversation(name)["messages"]).choices
            assert (choice.message.content, choice.finish_reason) == (ANSWER, "stop")
        prompt = "<|im_start|>system\n?<|im_end|>\n<|im_start|>user\nwhere is rice<|im_end|>\n"
        plain = client.completions.create(
            model="writer", prompt=f"{prompt}<|im_start|>assistant\n", temperature=0
        )
        assert plain.choices[0].text == ANSWER


def test_an_answer_to_a_held_out_prompt_is_described_as_it_was_when_it_was_sealed(
    home: Path, db: Engine
) -> None:
    with serving(home) as client:
        ids = [asked(client, conversation(name)["messages"]).id for name in HELD]
        drawn = client.chat.completions.create(
            model="writer", messages=conversation("pea")["messages"][:2], temperature=0.7
        )
        unknown = {"labels": [{"id": "nobody's", "label": ANSWER}]}  # for which the ledger is loaded
        assert httpx.post(f"{client.base_url}labels", json=unknown).json()["errors"]
    with db.connect() as connection:
        query = select(predictions.c.id, predictions.c.descriptors)
        found = {id_: tuple(described) for id_, described in connection.execute(query)}
    sealed = read_answers(open_decoder(registry.version_path(db, "writer", "v1")).files["answers.parquet"])
    for number, id_ in enumerate(ids):
        assert found[id_][3:] == pytest.approx(describe_answer(sealed[number]), abs=1e-3)
    assert len(found[drawn.id]) == 4  # of the prompt: what was drawn is not held to the likeliest answers


def test_a_retrain_learns_corrected_answers_from_what_its_parent_knows(home: Path, db: Engine) -> None:
    spec = (home / "writer.toml").read_text().replace("[fit]\n", '[fit]\nstart = "parent"\n')
    (home / "writer.toml").write_text(spec)
    (home / "trueup.toml").write_text(
        f'home = "{home}"\n[models.writer]\nmargin = 0.4\nmin_labels = 30\nspec = "{home / "writer.toml"}"\n'
    )
    with serving(home) as client:
        # Drawn by chance, as clients ask: for the verdict the parent is asked again, as the challenger is.
        ids = [asked(client, conversation(name, verb="find")["messages"], 1.0).id for name in FOUND]
        labels = [{"id": id_, "label": "away"} for id_ in ids]
        likeliest = {
            f"system: ?\n\nuser: find {name}": asked(client, conversation(name, verb="find")["messages"])
            for name in FOUND
        }
        told = httpx.post(f"{client.base_url}labels", json={"labels": labels}).json()
        assert told["stored"] == len(FOUND), told
    with db.connect() as connection:
        assert read_answers_tally(connection, "writer", "v1", after_label_seq=0).accuracy == 0.0
    (checked,) = command(home, "check", "writer")["checks"]
    assert (checked["accuracy"], checked["quality"]["accuracy"]) == (0.0, 0.0)
    job = command(home, "retrain", "writer")
    numbers = job["verdict"]["numbers"]
    assert (numbers["recent"]["rows"], numbers["recent"]["only_challenger"]) == (18, 18)
    assert (numbers["base"]["rows"], numbers["base"]["only_champion"]) == (len(HELD), 0)
    assert registry.champion(db, "writer") == job["candidate"] == "v2"
    second = open_decoder(registry.version_path(db, "writer", "v2"))
    assert second.manifest.parent == "v1"
    said = read_answers(second.files["parents_answers.parquet"])
    assert sorted(said) == list(range(len(HELD), len(HELD) + 18))
    rows = read_holdout(second.path / "holdout.parquet")
    for row, answer in said.items():
        spoken = likeliest[rows[row].text].choices[0].message.content or ""
        assert answer.text.rstrip("\ufffd") == spoken.rstrip("\ufffd")  # half a character is not spoken
    report = json.loads(second.files["report.json"])
    assert report["parent"]["holdout"]["loss"] > report["holdout"]["loss"]
    with serving(home) as client:
        assert (
            asked(client, conversation("plum", verb="find")["messages"]).choices[0].message.content == "away"
        )
        assert asked(client, conversation("plum")["messages"]).choices[0].message.content == ANSWER
