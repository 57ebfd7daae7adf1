from __future__ import annotations

from pathlib import Path

import pytest

from monitor.backtest.past import HistoryError, read_history

GOOD = '{"at": 1, "text": "a", "label": "x", "lang": "en"}\n'


def test_times_are_seconds_or_iso_and_other_fields_are_slices(tmp_path: Path) -> None:
    file = tmp_path / "h.jsonl"
    file.write_text(GOOD + '{"at": "1970-01-01T00:00:05Z", "text": "b", "label": "y"}\n')
    first, second = read_history(file)
    assert first.slices == {"lang": "en"}
    assert (first.at, second.at) == (1.0, 5.0)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"at": 0, "text": "b", "label": "y"}', "older than the line before"),
        ('{"at": 2, "text": "b"}', "no 'label'"),
        ('{"at": 2, "text": "b", "label": null}', "no 'label'"),
        ('{"at": 2, "text": "b", "label": 3}', "not a string"),
        ('{"at": NaN, "text": "b", "label": "y"}', "time that cannot be read"),
        ('{"at": "soon", "text": "b", "label": "y"}', "time that cannot be read"),
        ('{"at": 2, "text": "b", "lab', "not JSON"),
        ("[1]", "not an object"),
    ],
)
def test_a_bad_line_is_refused_by_its_number(tmp_path: Path, line: str, problem: str) -> None:
    file = tmp_path / "h.jsonl"
    file.write_text(GOOD + line + "\n")
    with pytest.raises(HistoryError, match=rf"h\.jsonl:2: .*{problem}"):
        read_history(file)


def test_an_empty_or_missing_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "h.jsonl").write_text("\n")
    for file in (tmp_path / "h.jsonl", tmp_path / "none"):
        with pytest.raises(HistoryError):
            read_history(file)
