"""The local ledger: answered predictions, appended before the answer leaves, loaded into the database later.

A frame is "TU", the payload's length and CRC-32 (both little endian, 4 bytes), and the payload: one frame and
one write() per micro-batch. The page cache keeps it when the process dies; "power" adds fdatasync.
Segments lie in `folder/<exporter id>/`, named so that they sort by time. A writer holds an flock for as long
as it lives, so that others can tell a frame that is being written from one that never will be.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import SEEK_END
from pathlib import Path
from typing import BinaryIO
from zlib import crc32

from exporter.errors import LedgerWriteError
from exporter.prediction import Prediction, decode, encode
from exporter.settings import Durability

MAGIC = b"TU"
SUFFIX = ".ledger"
LOCK = "writer.lock"
PROBE, PROBE_BYTES = "probe", 4096
READ_BYTES = 8 * 1024 * 1024
_HEADER = struct.Struct("<2sII")


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes [start, end) of a segment that hold no predictions, though more follows."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What `read_segment` found. `torn`: bytes after `position` are an incomplete last frame."""

    predictions: list[Prediction]
    position: int
    torn: bool
    damages: tuple[Damage, ...] = ()


class Ledger:
    """One writer's segments; several threads may append."""

    def __init__(
        self,
        folder: Path,
        exporter_id: str,
        *,
        durability: Durability,
        segment_bytes: int,
        segment_age_s: float = math.inf,
        budget_bytes: int = 0,
        waiting: Callable[[], int] = lambda: 0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`budget_bytes` of all that `waiting` says still waits for the database; 0 means no budget."""
        self._folder = folder / exporter_id
        self._budget_bytes, self._waiting = budget_bytes, waiting
        self._segment_age_s, self._now, self._filled_at = segment_age_s, now, 0.0
        self._durability = durability
        self._segment_bytes = segment_bytes
        self._number = 0
        self._lock = _claim(folder, exporter_id)
        self._appending = threading.Lock()
        self._open_segment()

    def append(self, predictions: Sequence[Prediction]) -> None:
        """Write all or nothing. Raises LedgerWriteError; later calls may succeed."""
        data = frame(encode(predictions))
        with self._appending:
            self._append(data)

    def _append(self, data: bytes) -> None:
        if self._size and self._size + len(data) > self._segment_bytes:
            self._rotate()
        try:
            _write(self._segment, data)
        except OSError as error:
            self._take_back()
            raise LedgerWriteError(self._folder, error) from error
        if not self._size:
            self._filled_at = self._now()
        self._size += len(data)
        if self._durability == "power":
            self._sync()

    def ages_in(self) -> float | None:
        """Seconds until `renew` has something to do, None while the open segment is empty or may stay."""
        if not self._size or self._segment_age_s == math.inf:
            return None
        return max(0.0, self._filled_at + self._segment_age_s - self._now())

    def renew(self) -> None:
        """Begin another segment where the first frame of the open one is old, so that it can be removed."""
        with self._appending:
            if self.ages_in() == 0:
                self._filled_at = self._now()  # a disk without room is tried again after as long
                with suppress(LedgerWriteError):
                    self._rotate()

    def writable(self) -> bool:
        """Whether a frame would find room now; it tries, and may block as long as the disk does."""
        probe = self._folder / PROBE
        try:
            if self._size + PROBE_BYTES > self._segment_bytes:
                self._require_budget()
            probe.write_bytes(bytes(PROBE_BYTES))
        except OSError:
            return False
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)
        return True

    def close(self) -> None:
        """Let loaders finish and remove the segments."""
        os.close(self._segment)
        os.close(self._lock)

    def _open_segment(self) -> None:
        name = f"{time.time_ns():020d}-{self._number:06d}{SUFFIX}"
        flags = os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY
        self._segment = os.open(self._folder / name, flags, 0o600)
        self._size = 0
        self._number += 1
        if self._durability == "power":
            _sync_folder(self._folder)

    def _require_budget(self) -> None:
        """Raise OSError where the bytes that wait leave no room for another segment."""
        if not self._budget_bytes:
            return
        if self._waiting() + self._segment_bytes > self._budget_bytes:
            raise OSError(errno.EDQUOT, "ledger_budget_mb is used up: the database is behind")

    def _rotate(self) -> None:
        full = self._segment
        try:
            self._require_budget()
            self._open_segment()
        except OSError as error:
            raise LedgerWriteError(self._folder, error) from error
        os.close(full)

    def _sync(self) -> None:
        """Bring the whole frame to the disk. A loader may have read it already, so it is never taken back."""
        try:
            os.fdatasync(self._segment)
        except OSError as error:
            with suppress(LedgerWriteError):
                self._rotate()  # what the kernel still holds of this file is not to be trusted
            raise LedgerWriteError(self._folder, error) from error

    def _take_back(self) -> None:
        """Cut off half a frame, so that the next one is found; readers pass over it where that fails."""
        with suppress(OSError):
            os.ftruncate(self._segment, self._size)


def frame(payload: bytes) -> bytes:
    """`payload` with its header.

    >>> frame(b"[]").hex()
    '54550200000029bb4c0d5b5d'
    """
    return _HEADER.pack(MAGIC, len(payload), crc32(payload)) + payload


def read_segment(path: Path, position: int, *, limit: int = READ_BYTES) -> Reading:
    """Frames from `position` on, about `limit` bytes of them.

    A bad frame that another one follows is a damage and is passed over; a bad one at the end is torn.
    A whole frame that is no list of predictions is a damage too.
    """
    predictions: list[Prediction] = []
    damages: list[Damage] = []
    start = position
    with path.open("rb") as file:
        size = file.seek(0, SEEK_END)
        while position < size and position - start < limit:
            payload = _frame_at(file, position, size)
            if payload is None:
                following = _next_frame(file, position + 1, size)
                if following is None:
                    return Reading(predictions, position, torn=True, damages=tuple(damages))
                damages.append(Damage(position, following))
            else:
                following = position + _HEADER.size + len(payload)
                try:
                    predictions += decode(payload)
                except (ValueError, TypeError):
                    damages.append(Damage(position, following))
            position = following
    return Reading(predictions, position, torn=False, damages=tuple(damages))


def segments(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """Every exporter id with its segments, oldest first."""
    if not folder.is_dir():
        return
    for writer in sorted(folder.iterdir()):
        if writer.is_dir() and not writer.name.startswith("."):
            yield writer.name, sorted(writer.glob(f"*{SUFFIX}"))


def segment_sizes(folder: Path) -> dict[Path, int]:
    """Bytes of every segment in `folder`."""
    found: dict[Path, int] = {}
    for path in (path for _, paths in segments(folder) for path in paths):
        with suppress(FileNotFoundError):  # a loader finished it
            found[path] = path.stat().st_size
    return found


def writer_is_dead(folder: Path, exporter_id: str) -> bool:
    """True once the writer has closed its ledger or died, however it died."""
    try:
        lock = os.open(folder / exporter_id / LOCK, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def _claim(folder: Path, exporter_id: str) -> int:
    """Descriptor of the writer's lock; the folder appears under its name only once the lock is held."""
    hidden = folder / f".{exporter_id}"
    hidden.mkdir(parents=True)
    lock = os.open(hidden / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    hidden.rename(folder / exporter_id)
    _sync_folder(folder)
    return lock


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _frame_at(file: BinaryIO, position: int, size: int) -> bytes | None:
    file.seek(position)
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    magic, length, checksum = _HEADER.unpack(header)
    if magic != MAGIC or position + _HEADER.size + length > size:
        return None
    payload = file.read(length)
    return payload if len(payload) == length and crc32(payload) == checksum else None


def _next_frame(file: BinaryIO, position: int, size: int) -> int | None:
    """Where the next whole frame begins, or None. Reads the rest of the segment: only on damage."""
    file.seek(position)
    rest = file.read(size - position)
    found = rest.find(MAGIC)
    while found >= 0:
        if _frame_at(file, position + found, size) is not None:
            return position + found
        found = rest.find(MAGIC, found + 1)
    return None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
