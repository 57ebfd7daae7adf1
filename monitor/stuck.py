"""SQLite's write lock in the hands of a stopped process: found in the kernel's list, and ended.

SQLite means one machine, and its lock belongs to a process: one that is stopped (SIGSTOP, Ctrl-Z) in the
middle of a write keeps every other from writing until it wakes. The monitors of a database therefore enlist
in it, and each looks now and then at who holds the lock. A monitor that is found stopped with the lock in
its hands for longer than a lease is killed; by then it would have been replaced anyway, and what it had not
committed is undone. That is never done to a process that runs, that does not hold the lock, that is no
monitor of this very database, or that merely has the process id of one. Linux only; elsewhere others wait
until it wakes.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from functools import cache
from pathlib import Path

import structlog
from sqlalchemy import Engine, delete, select

from exporter.database import NOW, upsert
from monitor.lease import brief
from monitor.tables import monitors

_LOCKS = Path("/proc/locks")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_SHARED_MEMORY = "-shm"  # beside a database in WAL mode; its locks are bytes of this file
_WRITE, _RECOVER = 120, 122  # sqlite.org/walformat.html, section 2.3
_log = structlog.get_logger("trueup.stuck")


class LockWatch:
    """One monitor's looks at the write lock of its database; does nothing but on SQLite files on Linux."""

    def __init__(self, db: Engine, holder: str, *, patience_s: float) -> None:
        self._db, self._holder, self._patience_s = db, holder, patience_s
        self._shared = Path(f"{db.url.database}{_SHARED_MEMORY}")
        self._possible = db.dialect.name == "sqlite" and bool(db.url.database) and _LOCKS.exists()
        self._known: dict[str, str] = {}  # monitors of this database: process name -> holder
        self._suspect: tuple[str, float] | None = None  # a stopped process with the lock, and since when

    def look(self, now: float) -> int | None:
        """Look once, at `now` on the monotonic clock; returns the id of the process that had to be ended."""
        if not self._possible:
            return None
        pid = lock_holder(self._shared)
        process = None if pid is None or not is_stopped(pid) else process_name(pid)
        if pid is None or process is None:
            self._suspect = None
            self._remember()
            if process_name(os.getpid()) not in self._known:  # at first, and daily: see expired.py
                enlist(self._db, self._holder)
                self._remember()
            return None
        if self._suspect is None or self._suspect[0] != process:
            self._suspect = process, now
        if now - self._suspect[1] < self._patience_s:
            return None
        return pid if self._end(pid, process) else None

    def _remember(self) -> None:
        """Read who is enlisted, beforehand: a writer may be stopped where nobody can read, either."""
        with self._db.connect() as connection:
            found = connection.execute(select(monitors.c.process, monitors.c.holder))
            self._known = {row.process: row.holder for row in found}

    def _end(self, pid: int, process: str) -> bool:
        """Kill it, if it is one of ours and all that was seen of it still holds."""
        if process not in self._known:
            self._remember()
        if process not in self._known:
            return False
        with suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)  # from here on the number cannot mean another process
            try:
                if process_name(pid) != process or not is_stopped(pid) or lock_holder(self._shared) != pid:
                    return False
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)
            _log.error("stopped monitor with the write lock ended", holder=self._known[process], pid=pid)
            return True
        return False


def enlist(db: Engine, holder: str) -> None:
    """Write down that this process is a monitor of `db`, and forget those that are gone."""
    with db.connect() as connection:
        gone = [name for name in connection.execute(select(monitors.c.process)).scalars() if _is_gone(name)]
    with brief(db) as connection:
        connection.execute(delete(monitors).where(monitors.c.process.in_(gone)))
        row = {"process": process_name(os.getpid()), "holder": holder, "started_at": NOW}
        statement = upsert(monitors, connection.dialect.name).values(**row)
        connection.execute(
            statement.on_conflict_do_update(index_elements=["process"], set_={"holder": holder})
        )


def lock_holder(shared_memory: Path) -> int | None:
    """Process that may write to, or recovers, the SQLite database with this -shm file; None without one.

    Read from /proc/locks: to open the file and to close it again would drop this process's own locks on it.
    """
    try:
        inode = shared_memory.stat().st_ino
        listed = _LOCKS.read_text(encoding="ascii")
    except OSError:
        return None
    return next((pid for line in listed.splitlines() if (pid := _writer(line, inode)) is not None), None)


def is_stopped(pid: int) -> bool:
    """Whether the process stands still by a signal or a debugger."""
    return _status(pid)[:1] in (["T"], ["t"])


def process_name(pid: int) -> str | None:
    """A name that no other process ever had: of boot, process namespace, id and time of start."""
    status = _status(pid)
    if not status:
        return None
    return f"{_machine()}:{pid}:{status[19]}"


def _writer(line: str, inode: int) -> int | None:
    """Process of an entry such as `1: POSIX  ADVISORY  WRITE 6046 fe:00:1603 120 120`, of this inode only."""
    fields = line.split()
    if len(fields) != 8 or fields[1] != "POSIX" or fields[3] != "WRITE":  # one that waits has an arrow, too
        return None
    if int(fields[5].rpartition(":")[2]) != inode or fields[7] == "EOF":
        return None
    first, last = int(fields[6]), int(fields[7])
    return int(fields[4]) if any(first <= byte <= last for byte in (_WRITE, _RECOVER)) else None


def _status(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on, proc(5); empty where the process is gone."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    fields = line.rpartition(")")[2].split()
    return [] if fields[0] in ("Z", "X") else fields  # dead, and not waited for yet


@cache
def _machine() -> str:
    """This boot and this namespace of process ids."""
    boot = _BOOT.read_text(encoding="ascii").strip()
    return f"{boot}:{Path('/proc/self/ns/pid').stat().st_ino}"


def _is_gone(process: str) -> bool:
    """Of an earlier boot, or of this namespace and ended; another container's processes cannot be seen."""
    machine, pid, _ = process.rsplit(":", 2)
    if machine == _machine():
        return process_name(int(pid)) != process
    return machine.partition(":")[0] != _machine().partition(":")[0]
