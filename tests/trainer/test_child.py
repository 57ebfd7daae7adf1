"""The training child: its lines, its exit status, and its death at every stage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.artifact import open_version
from trainer.errors import VersionRefusedError
from trainer.rows import HoldoutRow, Row, write_holdout, write_snapshot
from trainer.spec import TrainSpec
from trainer.train import write_request

# Forks once per stage; each fork trains and ends itself with SIGKILL when that stage begins.
KILLED = """
import os, signal, sys
from pathlib import Path
import torch, transformers, peft, onnxruntime, torch.onnx, sklearn.linear_model
from trainer.__main__ import main
from trainer.train import Progress
import trainer.__main__ as child

request, out = sys.argv[1], Path(sys.argv[2])
for stage in ("data", "fit", "export", "parity", "seal"):
    pid = os.fork()
    if pid == 0:
        def progress(self, progress, stage=stage):
            if progress.stage == stage:
                os.kill(os.getpid(), signal.SIGKILL)
        child._Lines.progress = progress
        main([request, str(out)])
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    print(stage, os.WTERMSIG(status), (out / "manifest.json").exists(), flush=True)
"""


@pytest.fixture
def request_path(rows: list[Row], spec_for: Callable[..., TrainSpec], tmp_path: Path) -> Path:
    snapshot, digest = write_snapshot(rows[:40], tmp_path)
    held = [HoldoutRow(text=row.text, label=row.label) for row in rows[40:]]
    write_holdout(held, tmp_path / "h.parquet")
    path = tmp_path / "request.json"
    write_request(
        path,
        spec_for(),
        train=snapshot,
        holdout=tmp_path / "h.parquet",
        sha256=digest,
        parent=None,
        cache=tmp_path / "cache",
    )
    return path


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment
    )


def test_killed_at_any_stage_it_leaves_nothing_that_opens_and_the_next_attempt_succeeds(
    request_path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "version"
    killed = _run("-c", KILLED, str(request_path), str(out))
    assert killed.stdout.splitlines() == [
        f"{stage} 9 False" for stage in ("data", "fit", "export", "parity", "seal")
    ]
    assert list(out.iterdir())
    with pytest.raises(VersionRefusedError, match="never completed"):
        open_version(out)

    done = _run("-m", "trainer", str(request_path), str(out))
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    stages = list(dict.fromkeys(line["stage"] for line in lines))
    assert stages == ["data", "fit", "export", "parity", "seal", "done"]
    assert done.returncode == 0
    assert open_version(Path(lines[-1]["version_dir"])).manifest.rung == "adapter"


def _spoiled(path: Path, **changes: object) -> Path:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"train": "/nowhere.parquet"}, "DataError"),
        ({"spec": {}}, "SpecError"),
        ({"surprise": 1}, "RequestError"),
    ],
)
def test_a_refusal_is_one_line_and_status_2(
    changes: dict[str, object], kind: str, request_path: Path, tmp_path: Path
) -> None:
    done = _run("-m", "trainer", str(_spoiled(request_path, **changes)), str(tmp_path / "version"))
    line = json.loads(done.stdout)
    assert (done.returncode, line["stage"], line["kind"]) == (2, "error", kind)
    assert line["message"]


def test_wrong_arguments_are_explained() -> None:
    done = _run("-m", "trainer")
    assert done.returncode == 2
    assert "REQUEST.json OUT_DIR" in json.loads(done.stdout)["message"]


def test_importing_the_trainer_loads_no_heavy_library() -> None:
    code = (
        "import pkgutil, importlib, sys, trainer\n"
        "for m in pkgutil.walk_packages(trainer.__path__, 'trainer.'): importlib.import_module(m.name)\n"
        "print(sorted({'torch','transformers','peft','onnx','onnxruntime','sklearn','pandas','pyarrow'}"
        " & set(sys.modules)))"
    )
    assert _run("-c", code).stdout.strip() == "[]"
