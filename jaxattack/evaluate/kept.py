"""The file of replies that a served model gave: one line for each, added as it comes.

It holds text that may be harmful: only its owner can read it, and git does not see it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import stat
import threading
from collections.abc import Iterator
from typing import Any

from jaxattack.errors import UserError
from jaxattack.evaluate.judge import Reply

NAME = "replies.jsonl"
NOTICE = "# Text of replies, which may be harmful: not to be published.\n*\n"


class Store:
    """The open file; of all programs only this one adds to it."""

    def __init__(self, descriptor: int, where: str):
        self._file, self._where = descriptor, where
        self._writing = threading.Lock()
        self._closed = False

    def add(self, row: dict[str, Any]) -> None:
        """Add a line, whole or not at all; several threads may.

        Raises:
            UserError: there is no room for it, or the file is closed: an interrupt does not wait
                for who is still being answered.
        """
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        with self._writing:
            if self._closed:
                raise UserError(f"{self._where}: closed")
            end = os.lseek(self._file, 0, os.SEEK_END)
            try:
                while line:
                    line = line[os.write(self._file, line) :]
            except OSError as error:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, end)
                raise UserError(f"{self._where}: {error.strerror or error}") from error

    def close(self) -> None:
        """No line after the one that is being written: the descriptor will be another file's."""
        with self._writing:
            self._closed = True
            os.close(self._file)


@contextlib.contextmanager
def opened(folder: pathlib.Path) -> Iterator[Store]:
    """The file of replies in its folder, ready for the next line, and locked.

    Raises:
        UserError: it cannot be made, is no file of its own, or another program asks here.
    """
    where = f"{folder / NAME}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError), (folder / ".gitignore").open("x") as ignore:
            ignore.write(NOTICE)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(folder / NAME, flags, 0o600)
    except OSError as error:
        raise UserError(f"{where}: {error.strerror or error}") from error
    store = Store(descriptor, where)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{where}: not a plain file; give another --workdir")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{where}: another program is asking here; wait until it is done, or give another "
                "--workdir"
            ) from error
        if status.st_mode & 0o077 and status.st_uid == os.getuid():
            os.fchmod(descriptor, 0o600)
        size = os.fstat(descriptor).st_size  # as it is now that nobody else adds to it
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            os.write(descriptor, b"\n")  # a kill cut the last line short
        yield store
    except OSError as error:
        raise UserError(f"{where}: {error.strerror or error}") from error
    finally:
        store.close()


def replies(folder: pathlib.Path) -> dict[str, Reply]:
    """Replies by request, none if there is no file; a line that was cut short is no reply.

    Raises:
        UserError: the file cannot be read.
    """
    found: dict[str, Reply] = {}
    try:
        content = (folder / NAME).read_bytes() if (folder / NAME).is_file() else b""
    except OSError as error:
        raise UserError(f"{folder / NAME}: {error.strerror or error}") from error
    for line in content.split(b"\n"):
        with contextlib.suppress(ValueError, LookupError, TypeError, RecursionError):
            row = json.loads(line)
            name, text, cut = row["request"], row["text"], row["cut"]
            if isinstance(name, str) and isinstance(text, str) and isinstance(cut, bool):
                instead = str(row.get("instead", ""))
                found.setdefault(name, Reply(text, cut, row.get("filtered") is True, instead))
    return found
