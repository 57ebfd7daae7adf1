"""Reading labelled texts: what is wrong is named by file, line and mend."""

from __future__ import annotations

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from trainer.errors import DataError
from trainer.rows import (
    HoldoutRow,
    Row,
    check_rows,
    read_holdout,
    read_rows,
    read_snapshot,
    write_holdout,
    write_snapshot,
)

GOOD = '{"text": "a", "label": "x"}\n'

BAD = {
    "missing column": ("t.jsonl", GOOD + '{"text": "b"}\n', 2, "'label' is missing"),
    "null": ("t.jsonl", GOOD + '{"text": null, "label": "x"}\n', 2, "null or NaN"),
    "NaN": ("t.jsonl", GOOD + '{"text": "b", "label": NaN}\n', 2, "null or NaN"),
    "number as label": ("t.jsonl", GOOD + '{"text": "b", "label": 3}\n', 2, "not a string"),
    "empty text": ("t.jsonl", GOOD + '{"text": " ", "label": "x"}\n', 2, "text is empty"),
    "torn last line": ("t.jsonl", GOOD * 2 + '{"text": "b", "la', 3, "torn"),
    "not JSON in the middle": ("t.jsonl", "nonsense\n" + GOOD, 1, "not JSON"),
    "not an object": ("t.jsonl", "[1]\n", 1, "not a JSON object"),
    "no time": ("t.jsonl", '{"text": "b", "label": "x", "at": "soon"}\n', 1, "not a time"),
    "CSV column": ("t.csv", "text,kind\na,x\n", 2, "'label' is missing"),
    "CSV NaN": ("t.csv", "text,label\na,x\nb,NaN\n", 3, "null or NaN"),
    "CSV torn row": ("t.csv", "text,label\na,x\nb", 3, "1 cells"),
    "CSV torn quote": ("t.csv", 'text,label\na,x\n"b', 3, "torn"),
    "CSV after a text of two lines": ("t.csv", 'text,label\n"a\nb",x\n,x\n', 4, "text is empty"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_line_is_named_by_file_and_line(case: str, tmp_path: Path) -> None:
    name, content, line, problem = BAD[case]
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_rows(path)
    assert caught.value.line == line
    assert f"{path}, line {line}: " in str(caught.value)
    assert problem in str(caught.value)


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(GOOD.encode() + b'{"text": "\xff", "label": "x"}\n')
    with pytest.raises(DataError, match="line 2: it is not UTF-8"):
        read_rows(path)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("t.txt", b"x", "unknown kind"),
        ("t.jsonl", b"\n", "no rows"),
        ("t.csv", b"text,label\n", "no rows"),
        ("t.parquet", b"PAR1torn", "not a whole parquet"),
    ],
)
def test_a_file_without_rows_is_refused(name: str, content: bytes, problem: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=problem):
        read_rows(tmp_path / name)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: there is no such file"):
        read_rows(tmp_path / "none.csv")


def test_the_three_kinds_of_file_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(GOOD + '\n{"text": "long, one", "label": "y"}', encoding="utf-8")
    (tmp_path / "t.csv").write_text('\ufefftext,label\na,x\n\n"long, one",y\n', encoding="utf-8")
    table = pyarrow.table({"text": ["a", "long, one"], "label": ["x", "y"]})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    expected = [Row(text="a", label="x"), Row(text="long, one", label="y")]
    for name in ("t.jsonl", "t.csv", "t.parquet"):
        assert read_rows(tmp_path / name) == expected


def test_times_and_other_column_names_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"q": "a", "k": "x", "at": "1970-01-01T00:01:00Z"}\n', encoding="utf-8")
    assert read_rows(path, text="q", label="k") == [Row(text="a", label="x", at=60.0)]


@pytest.mark.parametrize(
    ("labels", "problem"),
    [("", "no rows"), ("xxx", "every row has the label 'x'"), ("xxy", "'y' has a single row")],
)
def test_classes_that_cannot_be_learnt_are_refused(labels: str, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        check_rows([Row(text=str(n), label=label) for n, label in enumerate(labels)], "t.jsonl")


def test_a_snapshot_is_named_by_its_content(tmp_path: Path) -> None:
    rows = [Row(text="ä\n", label="x", at=1.5, origin="traffic"), Row(text="b", label="y")]
    path, digest = write_snapshot(rows, tmp_path)
    assert path.name == f"{digest}.parquet"
    assert write_snapshot(rows, tmp_path) == (path, digest)
    assert read_snapshot(path) == rows
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_changed_snapshot_is_refused(tmp_path: Path) -> None:
    path, _ = write_snapshot([Row(text="a", label="x")], tmp_path)
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="not what its name says"):
        read_snapshot(path)


def test_a_holdout_keeps_order_and_missing_labels(tmp_path: Path) -> None:
    rows = [
        HoldoutRow(text="b", label="x"),
        HoldoutRow(text="a", label=None, in_reference=False, slice="recent"),
    ]
    write_holdout(rows, tmp_path / "h.parquet")
    assert read_holdout(tmp_path / "h.parquet") == rows


def test_a_file_that_is_no_holdout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "h.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a hold-out file"):
        read_holdout(tmp_path / "h.parquet")
