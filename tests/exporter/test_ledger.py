from __future__ import annotations

import errno
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine

from exporter.errors import LedgerWriteError
from exporter.ledger import Ledger, frame, read_segment, segment_sizes, segments, writer_is_dead
from exporter.loader import Loader
from exporter.prediction import decode, encode
from tests.exporter.rows import closed_segment, ledger, only_segment, prediction


def test_a_prediction_survives_its_ledger_form() -> None:
    rows = [
        prediction(1),
        prediction(2, text=None, similarity=None, metadata={}, embedding=b""),
        prediction(3, descriptors=(0.1, None, 1.0), words=b"\x01\x00"),
    ]
    assert decode(encode(rows)) == rows
    for cut in range(len(encode(rows))):
        with pytest.raises((ValueError, TypeError)):
            decode(encode(rows)[:cut])


def test_a_number_that_is_none_is_not_recorded() -> None:
    with pytest.raises(ValueError, match="number"):
        encode([prediction(1, score=float("nan"))])


@pytest.mark.parametrize("durability", ["process", "power"])
def test_what_was_appended_is_read_back_in_order(tmp_path: Path, durability: str) -> None:
    writer = Ledger(tmp_path, "x", durability=durability, segment_bytes=4096)  # type: ignore[arg-type]
    writer.append([prediction(0)])
    writer.append([prediction(1), prediction(2)])
    reading = read_segment(only_segment(tmp_path), 0)
    writer.close()
    assert [row.id for row in reading.predictions] == ["p0", "p1", "p2"]
    assert not reading.torn


def test_an_old_segment_is_closed_though_nothing_more_comes(tmp_path: Path) -> None:
    clock = [100.0]
    writer = Ledger(
        tmp_path, "x", durability="process", segment_bytes=4096, segment_age_s=60, now=lambda: clock[0]
    )
    assert writer.ages_in() is None  # nothing in it that could grow old
    writer.append([prediction(0)])
    clock[0] = 159.0
    assert writer.ages_in() == 1
    writer.renew()
    assert len(list((tmp_path / "x").glob("*.ledger"))) == 1
    clock[0] = 160.0
    writer.renew()
    assert writer.ages_in() is None
    old, new = sorted((tmp_path / "x").glob("*.ledger"))
    writer.append([prediction(1)])
    assert [row.id for row in read_segment(old, 0).predictions] == ["p0"]
    assert [row.id for row in read_segment(new, 0).predictions] == ["p1"]
    writer.close()


def test_a_segment_cut_at_any_byte_gives_its_whole_frames(tmp_path: Path) -> None:
    whole = closed_segment(tmp_path).read_bytes()
    cut = tmp_path / "cut"
    ends = [0]
    while ends[-1] < len(whole):
        ends.append(read_segment(closed := only_segment(tmp_path), ends[-1], limit=1).position)
    assert closed.exists()
    for size in range(len(whole) + 1):
        cut.write_bytes(whole[:size])
        reading = read_segment(cut, 0)
        frames = sum(end <= size for end in ends[1:])
        assert [row.id for row in reading.predictions] == [f"p{n}" for n in range(2 * frames)]
        assert reading.position == ends[frames]
        assert reading.torn == (size not in ends)
        assert not reading.damages


@pytest.mark.parametrize("offset", [0, 2, 5, 9, 40])
def test_a_corrupted_frame_in_the_middle_is_reported_and_passed_over(tmp_path: Path, offset: int) -> None:
    path = closed_segment(tmp_path)
    content = bytearray(path.read_bytes())
    second = read_segment(path, 0, limit=1).position
    third = read_segment(path, second, limit=1).position
    content[second + offset] ^= 0xFF
    path.write_bytes(content)
    reading = read_segment(path, 0)
    assert [row.id for row in reading.predictions] == ["p0", "p1", "p4", "p5"]
    assert [(damage.start, damage.end) for damage in reading.damages] == [(second, third)]
    assert not reading.torn


def test_a_whole_frame_of_something_else_is_a_damage(tmp_path: Path) -> None:
    path = tmp_path / "segment"
    path.write_bytes(frame(b'{"no": "row"}') + frame(b"[[1]]") + frame(encode([prediction(1)])))
    reading = read_segment(path, 0)
    assert [row.id for row in reading.predictions] == ["p1"]
    assert len(reading.damages) == 2


def test_segments_rotate_and_sort_by_time(tmp_path: Path) -> None:
    writer = ledger(tmp_path, segment_bytes=600)
    for number in range(10):
        writer.append([prediction(number)])
    ((_, paths),) = segments(tmp_path)
    assert len(paths) > 2
    ids = [row.id for path in paths for row in read_segment(path, 0).predictions]
    assert ids == [f"p{number}" for number in range(10)]
    writer.close()


def test_a_full_disk_takes_nothing_back_that_was_appended(tmp_path: Path) -> None:
    writer = ledger(tmp_path)
    writer.append([prediction(0)])
    size = only_segment(tmp_path).stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, limits[1]))  # the next frame is cut after 20 bytes
    try:
        with pytest.raises(LedgerWriteError) as refused:
            writer.append([prediction(1)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert isinstance(refused.value.__cause__, OSError)
    assert refused.value.__cause__.errno == errno.EFBIG
    writer.append([prediction(2)])
    reading = read_segment(only_segment(tmp_path), 0)
    writer.close()
    assert [row.id for row in reading.predictions] == ["p0", "p2"]
    assert not reading.damages


def budgeted(folder: Path, waiting: Callable[[], int], name: str = "x") -> Ledger:
    return Ledger(folder, name, durability="process", segment_bytes=600, budget_bytes=1800, waiting=waiting)


def test_a_budget_stops_the_ledger_until_the_database_has_taken_a_segment(tmp_path: Path) -> None:
    writer = budgeted(tmp_path, lambda: sum(segment_sizes(tmp_path).values()))

    def fill() -> None:
        for number in range(100):
            writer.append([prediction(number)])

    with pytest.raises(LedgerWriteError, match="behind"):
        fill()
    assert not writer.writable()
    ((_, paths),) = segments(tmp_path)
    assert sum(path.stat().st_size for path in paths) <= 1800
    paths[0].unlink()
    assert writer.writable()
    writer.append([prediction(100)])
    writer.close()


def test_what_the_database_has_does_not_count_though_its_segments_are_open(
    tmp_path: Path, sqlite_db: Engine
) -> None:
    loader = Loader(sqlite_db, tmp_path / "ledger", interval_s=60)
    writers = [budgeted(tmp_path / "ledger", lambda: loader.lag()[1], name) for name in "xyz"]
    for number in range(5):
        for place, writer in enumerate(writers):
            writer.append([prediction(1000 * number + 100 * place + one) for one in range(10)])  # > 600 bytes
            loader.run_once()
    assert all(writer.writable() for writer in writers)
    for writer in writers:
        writer.close()


def test_a_ledger_whose_folder_is_gone_is_not_writable(tmp_path: Path) -> None:
    writer = ledger(tmp_path)
    assert writer.writable()
    (tmp_path / "x").rename(tmp_path / ".y")
    assert not writer.writable()
    writer.close()


def test_a_writer_lives_until_it_closes(tmp_path: Path) -> None:
    writer = ledger(tmp_path)
    assert not writer_is_dead(tmp_path, "x")
    writer.close()
    assert writer_is_dead(tmp_path, "x")
