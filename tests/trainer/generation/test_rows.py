"""Rows of a generative model: OpenAI's format in, every fault named by its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trainer.errors import DataError
from trainer.generation.rows import Chat, Completion, Message, as_record, chat, read_samples

WEATHER = {
    "messages": [
        {"role": "system", "content": "Answer in one word."},
        {"role": "user", "content": [{"type": "text", "text": "Is it "}, {"type": "text", "text": "wet?"}]},
        {"role": "assistant", "content": "Perhaps", "weight": 0},
        {"role": "user", "content": "Well?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "rain", "tool_call_id": "1"},
        {"role": "assistant", "content": "Yes", "weight": 1},
    ],
    "tools": [{"type": "function", "function": {"name": "weather"}}],
    "parallel_tool_calls": False,
}


def written(folder: Path, *records: object) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_a_conversation_is_read_with_weights_parts_and_tools(tmp_path: Path) -> None:
    (sample,) = read_samples(written(tmp_path, WEATHER))
    assert isinstance(sample, Chat)
    assert sample.messages[1] == Message("user", "Is it wet?")
    assert [one.weight for one in sample.messages if one.role == "assistant"] == [0, 1, 1]
    assert sample.messages[4].extra["tool_calls"][0]["function"]["name"] == "weather"
    assert sample.tools[0]["type"] == "function"
    assert (sample.prompt, sample.answer) == ("Well?", "Yes")


def test_a_prompt_with_its_completion_is_read(tmp_path: Path) -> None:
    rows = read_samples(written(tmp_path, {"prompt": "2 + 2 =", "completion": " 4", "origin": "traffic"}))
    assert rows == [Completion(prompt="2 + 2 =", answer=" 4", origin="traffic")]


@pytest.mark.parametrize("record", [WEATHER, {"prompt": "a", "completion": "b", "origin": "traffic"}])
def test_what_is_written_again_reads_as_it_was(tmp_path: Path, record: object) -> None:
    first = read_samples(written(tmp_path, record))
    assert read_samples(written(tmp_path, *map(as_record, first))) == first


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"text": "a", "label": "b"}, "neither `messages` nor `prompt`"),
        ({"messages": []}, "messages is empty"),
        ({"messages": "hello"}, "not a list of objects"),
        ({"messages": [{"content": "hello"}]}, r"messages\[0\] has no role"),
        ({"messages": [{"role": "assistant", "content": "a", "weight": 0.5}]}, "weight 0.5"),
        ({"messages": [{"role": "assistant", "content": "a", "weight": True}]}, "weight True"),
        ({"messages": [{"role": "user", "content": "a", "weight": 0}]}, "Weigh answers only"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "Only text can be learnt"),
        ({"prompt": 3, "completion": "b"}, "prompt is 3, not text"),
    ],
)
def test_a_bad_line_is_refused_with_its_number(tmp_path: Path, record: object, told: str) -> None:
    good = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    with pytest.raises(DataError, match=told) as caught:
        read_samples(written(tmp_path, good, record))
    assert caught.value.line == 2


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows"):
        read_samples(written(tmp_path))


def test_a_conversation_of_turns() -> None:
    assert chat(("user", "hello"), ("assistant", "hi")).prompt == "hello"
