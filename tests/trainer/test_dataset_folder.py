"""Hugging Face dataset folders, written as `datasets` 5 writes them: read by pyarrow, nothing executed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from trainer.dataset_folder import held_out, shards
from trainer.errors import DataError
from trainer.rows import Row, read_rows
from trainer.spec import parse_spec
from trainer.split import prepare

NAMES = ["card", "loan"]
FEATURES = {
    "text": {"dtype": "string", "_type": "Value"},
    "label": {"names": NAMES, "_type": "ClassLabel"},
}


def table(texts: list[str], numbers: list[Any], features: dict[str, Any] = FEATURES) -> pyarrow.Table:
    made = pyarrow.table({"text": texts, "label": numbers})
    return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def save(folder: Path, *parts: pyarrow.Table) -> Path:
    """A folder as `Dataset.save_to_disk` makes it, a file for each part."""
    folder.mkdir(parents=True)
    names = [f"data-{n:05}-of-{len(parts):05}.arrow" for n in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        with (
            pyarrow.OSFile(str(folder / name), "wb") as file,
            pyarrow.ipc.new_stream(file, part.schema) as out,
        ):
            out.write_table(part)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0", "_split": None}
    (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")
    (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}), encoding="utf-8")
    return folder


def parquet(path: Path, made: pyarrow.Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(made, path)


def test_a_saved_dataset_is_read_in_order_with_the_names_of_its_classes(tmp_path: Path) -> None:
    folder = save(tmp_path / "d", table(["a", "b"], [0, 1]), table(["c"], [1]))
    assert read_rows(folder) == [
        Row(text="a", label="card"),
        Row(text="b", label="loan"),
        Row(text="c", label="loan"),
    ]
    assert held_out(folder) is None


@pytest.mark.parametrize("kind", ["saved", "hub", "converted"])
def test_the_test_split_of_a_dataset_is_the_holdout(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    train, test = table(["a", "b", "c", "d"], [0, 1, 0, 1]), table(["e", "f"], [1, 0])
    if kind == "saved":
        save(folder / "train", train)
        save(folder / "test", test)
        (folder / "dataset_dict.json").write_text('{"splits": ["train", "test"]}', encoding="utf-8")
    elif kind == "hub":
        parquet(folder / "data" / "train-00000-of-00002.parquet", train.slice(0, 2))
        parquet(folder / "data" / "train-00001-of-00002.parquet", train.slice(2))
        parquet(folder / "data" / "test-00000-of-00001-9f86d0.parquet", test)
        (folder / "README.md").write_text("# a card", encoding="utf-8")
    else:
        parquet(folder / "train" / "0000.parquet", train)
        parquet(folder / "test" / "0000.parquet", test)
    spec = parse_spec({"model": {"name": "m"}, "data": {"train": str(folder)}})
    rows, held = prepare(spec)
    assert [(row.text, row.label) for row in rows] == [
        ("a", "card"), ("b", "loan"), ("c", "card"), ("d", "loan")
    ]  # fmt: skip
    assert [(row.text, row.label) for row in held] == [("e", "loan"), ("f", "card")]


def test_lists_of_class_numbers_become_lists_of_names(tmp_path: Path) -> None:
    features = FEATURES | {"label": {"feature": FEATURES["label"], "length": -1, "_type": "Sequence"}}
    folder = save(tmp_path / "d", table(["a", "b"], [[1, 0], []], features))
    found = read_rows(folder, task="multi-label")
    assert [row.label for row in found] == ['["card", "loan"]', "[]"]


@pytest.mark.parametrize("name", ["emails.py", "data/rows.pkl", "model.pt"])
def test_a_folder_with_a_script_or_pickles_is_refused(name: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "d", table(["a"], [0]))
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"import os")
    with pytest.raises(DataError, match="never run here") as caught:
        read_rows(folder)
    assert name in str(caught.value)


def test_a_torn_shard_and_a_row_without_a_label_are_named(tmp_path: Path) -> None:
    folder = save(tmp_path / "d", table(["a", "b"], [0, -1]))
    with pytest.raises(DataError, match=r"data-00000-of-00001\.arrow, line 2: label is missing"):
        read_rows(folder)
    path = folder / "data-00000-of-00001.arrow"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="not a whole Arrow stream"):
        read_rows(folder)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({}, "no dataset"),
        ({"state.json": "{}"}, "does not list its data files"),
        (
            {"state.json": '{"_data_files": [{"filename": "../secret.arrow"}]}'},
            "does not list its data files",
        ),
        ({"state.json": "{"}, "cannot be read"),
        ({"dataset_dict.json": '{"splits": [".."]}'}, "does not list its splits"),
    ],
)
def test_a_folder_that_is_no_dataset_is_refused(files: dict[str, str], problem: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=problem):
        read_rows(tmp_path)


def test_two_configurations_and_a_missing_split_are_named(tmp_path: Path) -> None:
    for name in ("en", "de"):
        parquet(tmp_path / name / "train-00000-of-00001.parquet", table(["a"], [0]))
    with pytest.raises(DataError, match=r"several configurations \(de, en\)"):
        read_rows(tmp_path)
    with pytest.raises(DataError, match=r"no split 'test' \(there: train\)"):
        shards(tmp_path / "en", "test")
