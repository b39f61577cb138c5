"""Whose an unfinished file is: a mark in its name, and whether the one who made it still lives.

A work directory may be shared by hosts and containers, which know nothing of each other's
processes. Of our own host we see whether a process lives. Of others we see only that they touch
what they are writing, every minute (`alive`); what nobody touched for a day is abandoned.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pathlib
import re
import socket
import tempfile
import threading
from collections.abc import Iterator

BEAT = 60.0  # seconds between two touches
EXPIRED = 86_400.0  # seconds; long, since a computer may sleep and clocks differ

_MARK = re.compile(r"~([0-9a-f]{8})-(\d+)-([0-9a-f]{8})~")


def mark() -> str:
    """What names of this process's unfinished files hold: host, process, when it was born."""
    pid = os.getpid()
    return f"~{_host()}-{pid}-{_born(pid)}~"


def is_abandoned(path: pathlib.Path) -> bool:
    """Whether an unfinished file bears a mark and the one who made it is gone."""
    if _MARK.search(path.name) is None:
        return False  # some other program's
    lives = is_alive(path.name)
    return untouched(path) > EXPIRED if lives is None else not lives


def is_alive(text: str) -> bool | None:
    """Whether the process whose mark is in a text lives; None if this host cannot tell."""
    found = _MARK.search(text)
    if found is None or found[1] != _host():
        return None
    pid = int(found[2])
    return _runs(pid) and _born(pid) == found[3]


def untouched(path: pathlib.Path) -> float:
    """Seconds since a file was touched, by its file system's own clock; 0 if it is not there."""
    try:
        return _now(path.parent) - path.lstat().st_mtime
    except OSError:
        return 0.0


@contextlib.contextmanager
def alive(path: pathlib.Path) -> Iterator[None]:
    """Touch a path every minute, so that other hosts see that it is still written."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(path)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@functools.lru_cache(maxsize=1)
def _host() -> str:
    """The host, its boot, and the container: within them a process's number is its own."""
    parts = [socket.gethostname(), _read("/proc/sys/kernel/random/boot_id")]
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]


def _born(pid: int) -> str:
    """When a process began, as far as the system says: numbers are given out again."""
    after_name = _stat(pid)
    return f"{int(after_name[19]) & 0xFFFFFFFF:08x}" if len(after_name) > 19 else "0" * 8


def _stat(pid: int) -> list[str]:
    """What the system says of a process, from its state on."""
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def _read(path: str) -> str:
    try:
        return pathlib.Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return _stat(pid)[:1] not in (["Z"], ["X"])  # ended, and its parent has not asked how


def _now(folder: pathlib.Path) -> float:
    """The file system's own time, by which files there are dated."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime
