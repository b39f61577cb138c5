"""The work directory: files that appear whole or not at all; what a killed run left goes.

Nothing is replaced or deleted that is not ours: links, devices, folders, other programs' files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import stat
import tempfile
import time
from typing import Any

from jaxattack import distributed, leases, owner, savepoint, sums
from jaxattack.errors import UserError


def write_bytes(path: pathlib.Path, content: bytes, private: bool = False) -> None:
    """Write a file atomically, perhaps for its owner alone; of several processes the first does.

    Raises:
        UserError: something that is no file stands there.
    """
    if not distributed.is_first():
        return
    check_replaceable(path)
    partial = path.with_name(f".{path.name}{owner.mark()}")
    try:
        if private:
            partial.touch(0o600)
        partial.write_bytes(content)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def write_text(path: pathlib.Path, text: str, private: bool = False) -> None:
    """Write a text in UTF-8 (see `write_bytes`); names in another encoding keep their bytes."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"), private)


def write_json(path: pathlib.Path, value: Any) -> None:
    """Write JSON atomically, keys sorted, so that equal values give equal bytes."""
    write_text(path, sums.render(value))


def check_replaceable(path: pathlib.Path) -> None:
    """Refuse to put a file where a link, a device or a folder is.

    Raises:
        UserError: names it.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFLNK: "a link", stat.S_IFDIR: "a directory"}
        kind = kinds.get(stat.S_IFMT(mode), "no ordinary file")
        raise UserError(f"{path} is {kind}, which is not replaced; move it away")


SHARED = 30.0  # seconds in which a network's file system shows others what was written

# Folders of a work directory in which things are written.
HELD = ("stages", savepoint.FOLDER, "figures", "organism", "grown")


def open_workdir(path: str | pathlib.Path) -> pathlib.Path:
    """Make the directory if need be, and clear away what a killed run of this host left.

    Raises:
        UserError: it cannot be made or written.
    """
    try:
        root = pathlib.Path(path).expanduser()
        (root / "stages").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root / "stages"):
            pass
        if distributed.is_first():
            for place in (root, *(root / name for name in HELD)):
                for rubbish in place.glob(".*~*"):
                    # Another process may be at work here: only what nobody writes any more goes.
                    if owner.is_abandoned(rubbish):
                        remove(rubbish)
                leases.clear(place)
            savepoint.clear_finished(root)
    except (OSError, RuntimeError, ValueError) as error:  # expanduser and null characters
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--workdir={path}: {reason}") from error
    if distributed.several():
        _check_shared(root)
    return root


def _check_shared(root: pathlib.Path) -> None:
    """See that what the first process writes is seen by this one.

    Raises:
        UserError: it is not.
    """
    prefix = f".shared{owner.mark()}"
    made = distributed.first(lambda: tempfile.mkdtemp(prefix=prefix, dir=root), "share a directory")
    deadline = time.monotonic() + SHARED
    while not (root / pathlib.Path(made).name).is_dir():
        if time.monotonic() > deadline:
            raise UserError(
                f"--workdir={root}: on {os.uname().nodename} there is not what the first process "
                "writes; give a directory that all hosts share"
            )
        time.sleep(0.1)
    distributed.first(lambda: os.rmdir(made), "a directory is shared")


def check_place(root: pathlib.Path) -> None:
    """See that a work directory could be made and written, without making it.

    Raises:
        UserError: it could not.
    """
    place = root.absolute()
    try:
        while not os.path.lexists(place):
            place = place.parent
        if not place.is_dir():
            raise UserError(f"--workdir={root}: {place} is not a directory")
    except (OSError, ValueError) as error:
        raise UserError(f"--workdir={root}: {getattr(error, 'strerror', error)}") from error
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"--workdir={root}: {place} is not writable")


def read_object(path: pathlib.Path) -> dict[str, Any]:
    """A JSON object, empty if there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def remove(path: pathlib.Path) -> None:
    """Take away a file or folder; of a link only the link."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def digest(value: Any) -> str:
    """A short hash of a JSON value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
