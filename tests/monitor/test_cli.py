from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.engines import device_problem

COMMANDS = [
    "init", "demo", "up", "train", "serve", "monitor", "check", "retrain", "backtest", "models", "promote",
    "rollback", "jobs", "alerts", "labels", "forget", "doctor", "db", "keys",
]  # fmt: skip


HEAVY = ("torch", "evidently", "pandas", "sqlalchemy", "numpy", "onnxruntime")


def trueup(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "monitor", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb"},
        timeout=120,
    )


def test_help_names_every_command_and_imports_nothing_heavy(tmp_path: Path) -> None:
    done = trueup("--help", folder=tmp_path)
    assert done.returncode == 0
    assert all(f" {name} " in done.stdout for name in COMMANDS)
    program = f"import sys, monitor.cli; print([name for name in {HEAVY} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("db", "keys")])
def test_every_command_explains_itself(tmp_path: Path, command: str) -> None:
    done = trueup(command, "--help", folder=tmp_path)
    assert done.returncode == 0
    assert "--json" in done.stdout


def test_a_wrong_flag_is_a_usage_error(tmp_path: Path) -> None:
    done = trueup("serve", "--prot", "1", folder=tmp_path)
    assert done.returncode == 2
    assert "--prot" in done.stderr


@pytest.mark.parametrize("command", [["models"], ["jobs"], ["alerts"], ["db", "upgrade"]])
def test_an_empty_project_answers_in_json(tmp_path: Path, command: list[str]) -> None:
    done = trueup(*command, "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)


def test_an_unknown_model_is_one_line_and_status_2(tmp_path: Path) -> None:
    done = trueup("check", "nobody", folder=tmp_path)
    assert done.returncode == 2
    assert "'nobody'" in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_finds_a_database_that_does_not_answer(tmp_path: Path) -> None:
    (tmp_path / "trueup.toml").write_text(
        '[exporter]\ndatabase_url = "postgresql+psycopg://127.0.0.1:1/none"\n'
    )
    done = trueup("doctor", "--json", folder=tmp_path)
    assert done.returncode == 1, done.stderr
    wrong = [one["what"] for one in json.loads(done.stdout)["findings"] if not one["ok"]]
    assert wrong == ["database"]
    assert trueup("models", folder=tmp_path).returncode == 2


def test_cuda_that_does_not_come_up_is_found_by_doctor_and_refused_by_serve(tmp_path: Path) -> None:
    if device_problem("cuda") is None:
        pytest.skip("this machine has CUDA")
    (tmp_path / "trueup.toml").write_text('[exporter]\ndevice = "cuda"\n')
    done = trueup("doctor", "--json", folder=tmp_path)
    assert done.returncode == 1, done.stderr
    (wrong,) = (one for one in json.loads(done.stdout)["findings"] if not one["ok"])
    assert wrong["what"] == "[exporter] device"
    assert "trueup[gpu]" in wrong["mend"]
    served = trueup("serve", folder=tmp_path)
    assert served.returncode == 2
    assert "trueup[gpu]" in served.stderr.replace("\n", " ")


def test_init_writes_files_that_load_and_never_overwrites_them(tmp_path: Path) -> None:
    rows = [{"body": f'text {n} "quoted"', "desk": "ab"[n % 2]} for n in range(20)]
    (tmp_path / "mail.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = trueup("init", "mail.jsonl", "--text", "body", "--label", "desk", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["classes"] == {"a": 10, "b": 10}
    assert trueup("init", "mail.jsonl", "--text", "body", "--label", "desk", folder=tmp_path).returncode == 2
    missing = trueup("init", "mail.jsonl", "--text", "boddy", "--label", "desk", "--force", folder=tmp_path)
    assert missing.returncode == 2
    assert "mail.jsonl, line 1: column 'boddy' is missing" in missing.stderr


def test_label_files_are_refused_by_line(tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text('{"id": "p1", "label": "a"}\n{"id"\n')
    done = trueup("labels", "labels.jsonl", folder=tmp_path)
    assert done.returncode == 2
    assert "labels.jsonl:2" in done.stderr.replace("\n", "")
