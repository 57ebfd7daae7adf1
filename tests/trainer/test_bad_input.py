"""What people hand in by mistake: each is told by what is wrong, where, and the mend."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from trainer import tabular
from trainer.errors import BaseModelError, DataError
from trainer.findings import Data, examine
from trainer.rows import HoldoutRow, Row, check_rows, read_rows
from trainer.sources import resolve_base

GOOD = b'{"text": "a", "label": "x"}\n'


@pytest.mark.parametrize(
    ("name", "content", "line", "problem"),
    [
        ("t.jsonl", b"", None, "it is empty"),
        ("t.csv", b"", None, "it is empty"),
        ("t.jsonl", b'{"text": "a", "label": "x", "text": "b"}\n', 1, "'text' is there twice"),
        ("t.csv", b"text,label,text\na,x,b\n", 1, "'text' is there twice"),
        ("t.csv", b"text,label\na,x\n\xffb,x\n", 3, r"not UTF-8 \(byte 1 of the line\)"),
        ("t.jsonl", "{}".encode("utf-16"), 1, "not UTF-8"),
        ("t.jsonl", GOOD + b'{"text": NaN, "label": "x"}\n', 2, "text is missing"),
        ("t.jsonl", GOOD + b'{"text": "b", "label": null}\n', 2, "label is missing"),
        ("t.jsonl", b"[" * 100_000 + b"\n", 1, "not JSON"),
    ],
)
def test_a_bad_file_is_told_by_file_and_line(
    name: str, content: bytes, line: int | None, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=problem) as caught:
        read_rows(path)
    assert (caught.value.file, caught.value.line) == (str(path), line)
    assert caught.value.mend


def test_parquet_with_one_name_twice_is_refused(tmp_path: Path) -> None:
    made = pyarrow.Table.from_arrays([pyarrow.array(["a"])] * 3, names=["text", "label", "text"])
    pyarrow.parquet.write_table(made, tmp_path / "t.parquet")
    with pytest.raises(DataError, match="'text' is there twice"):
        read_rows(tmp_path / "t.parquet")


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv"])
def test_two_gigabytes_without_an_end_of_line_are_refused_unread(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tabular, "LONGEST_LINE", 1 << 20)
    path = tmp_path / name
    with path.open("wb") as file:
        file.write(b'text,label\n"' if name == "t.csv" else GOOD)
        file.truncate(2 << 30)  # a hole: it takes no disk, and would take 2 GB of memory
    with pytest.raises(DataError, match="line 2: the line is longer than 1 MiB"):
        read_rows(path)


def test_a_cell_over_many_lines_has_the_same_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tabular, "LONGEST_LINE", 1000)
    (tmp_path / "t.csv").write_text('text,label\n"' + "many words\n" * 200 + '",x\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"line 2: the row is torn .*field limit"):
        read_rows(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (
            [Row(text=f"t{n}", label=f"l{n}") for n in range(200)],
            "200 classes, 200 of them with a single row",
        ),
        (
            [Row(text=f"t{n}", label=f"l{n % 10_000}") for n in range(20_000)],
            "20000 rows have 10000 classes: that is no column of classes",
        ),
    ],
)
def test_a_text_column_given_as_label_is_recognised(rows: list[Row], problem: str) -> None:
    with pytest.raises(DataError, match=problem) as caught:
        check_rows(rows, "t.jsonl")
    assert "[data] label" in str(caught.value)


def test_classes_that_only_the_holdout_has_are_named_with_the_mend() -> None:
    rows = [Row(text=f"text {n}", label="ab"[n % 2]) for n in range(40)]
    (found,) = examine(
        Data(rows=rows, holdout=[HoldoutRow(text="x", label="new")]), {}, only=["rare_classes"]
    )
    assert "1 classes are only in the hold-out (new)" in found.message
    assert "add training rows" in found.message


@pytest.mark.parametrize(
    ("files", "problem", "mend"),
    [
        ({"vocab.txt": "[PAD]"}, r"slow tokenizer only \(vocab.txt\)", "AutoTokenizer"),
        ({"tokenizer.json": "{}", "pytorch_model.bin": ""}, "code or pickles", "safetensors"),
        ({"tokenizer.json": "{}", "modeling_own.py": ""}, "code or pickles", "without code"),
        ({"tokenizer.json": "{}", "config.json": '{"auto_map": {}}'}, "auto_map", "without code"),
    ],
)
def test_a_base_model_that_cannot_be_trusted_or_read_is_refused(
    files: dict[str, str], problem: str, mend: str, tmp_path: Path
) -> None:
    there = {"config.json": json.dumps({"model_type": "bert"}), "model.safetensors": ""} | files
    for name, content in there.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(BaseModelError, match=problem) as caught:
        resolve_base(str(tmp_path), tmp_path)
    assert mend in str(caught.value)
