"""`trueup bench engines` on a tiny version: what it measures, not how fast."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exporter.database import open_database, sqlite_url
from exporter.gpu import Peak, peak
from exporter.registry import promote, register
from exporter.speed import flops_per_token
from monitor.commands import Context
from monitor.commands.bench import Contestant, _share, engines
from monitor.config import load_settings
from monitor.migrate import upgrade
from tests.benchmarks.int8 import ENGINES, with_int8
from tests.exporter.versions import HIDDEN, build_version
from tests.monitor.test_cli import trueup
from trainer.artifact import open_version


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A home with two versions: v1 serves, the export of v2 refused its int8 graph."""
    refused = ENGINES | {"cpu-int8": ENGINES["cpu-int8"] | {"refused": "labels agree on 99.1 %"}}
    built = build_version(tmp_path / "fp32")
    db = open_database(sqlite_url(tmp_path / ".trueup"))
    upgrade(db)
    for number, named in enumerate((ENGINES, refused)):
        made = with_int8(built, tmp_path / f"int8-{number}", named)
        register(db, tmp_path / ".trueup", made, threads=1, now=1e9)
    promote(db, "router", "v1", expected=None, reason="first", actor="test")
    db.dispose()
    return tmp_path


def test_every_engine_is_timed_beside_its_bare_session(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    context = Context(load_settings(None), None)
    found = engines(context, model="router", version=None, texts=16, rounds=2, torch=False, quiet=True)
    data = json.loads(json.dumps(found.data, allow_nan=False))
    assert [row["name"] for row in data["rows"]] == [
        "cpu-fp32", "cpu-int8", "bare session, cpu-fp32", "bare session, cpu-int8",
    ]  # fmt: skip
    assert all(len(row["seconds"]) == 2 and row["texts_per_second"] > 0 for row in data["rows"])
    assert data["rows"][2]["times bare session, cpu-fp32"] == 1.0
    assert data["changes_with_batch_mates"] == {"cpu-fp32": 0.0, "cpu-int8": 0.0}
    assert data["refused"] == {}
    assert data["machine"]["versions"]["numpy"]
    assert (data["version"], data["texts"], found.status) == ("v1", 16, 0)
    assert len(found.view) > 3
    found = engines(context, model="router", version="v2", texts=8, rounds=1, torch=False, quiet=True)
    assert [row["name"] for row in found.data["rows"]] == ["cpu-fp32", "bare session, cpu-fp32"]
    assert found.data["refused"] == {"cpu-int8": "labels agree on 99.1 %"}


def test_a_peak_is_measured_and_shares_of_it_are_of_products_with_weights(tmp_path: Path) -> None:
    """On a processor, whose half precision is slow: the code is the GPU's, the figures are not."""
    reached = peak("cpu", size=32, copied=1 << 16)
    assert 0 < reached.tflops < 100
    assert 0 < reached.copied_tb_s < 100
    version = open_version(build_version(tmp_path / "v"))
    assert flops_per_token(version) == 2 * HIDDEN * 3  # its head is its only product
    twice = Contestant("x", lambda: None, [2.0, 2.0])
    assert _share(twice, int(1e12), Peak(tflops=1.0, copied_tb_s=1.0)) == {"share_of_peak": 0.5}
    assert _share(twice, 1, None) == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["nobody"], "no model 'nobody'"), (["router", "v9"], "v9"), (["router", "--texts", "1"], "--texts")],
)
def test_what_cannot_be_timed_is_one_line_and_status_2(folder: Path, arguments: list[str], said: str) -> None:
    done = trueup("bench", "engines", *arguments, folder=folder)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
