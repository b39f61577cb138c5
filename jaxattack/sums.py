"""Checksums of a folder: what is in it, and what of it is not as it was written.

`seal` writes what a folder holds into a record beside it, the record's own checksum included;
`damage` says what is wrong with a folder that bears one. One flipped bit is seen in any file.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
import pathlib
import stat
from typing import Any

RECORD = "stage.json"

_IGNORED = (".DS_Store", ".nfs")  # systems put them into any folder

Signature = tuple[tuple[str, int, int, int, int], ...]


def render(value: Any) -> str:
    """JSON whose bytes are a function of the value."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text + "\n"


def sealed(folder: pathlib.Path, facts: dict[str, Any]) -> dict[str, Any]:
    """The facts with the checksums of a folder's files and of the whole."""
    record = {**facts, "files": _sums(folder, _files(folder))}
    return {**record, "sum": _sum(record)}


def damage(folder: pathlib.Path, identity: dict[str, Any]) -> str:
    """What is wrong with a sealed folder, in a few words; "" for nothing.

    Args:
        folder: what is checked, every byte of it.
        identity: facts that its record must hold.
    """
    try:
        text = (folder / RECORD).read_bytes()
        record = json.loads(text)
        if not isinstance(record, dict) or render(record).encode() != text:
            return f"{RECORD} is not as it was written"
        told = record.pop("sum", None)
        if told != _sum(record):
            return f"{RECORD} is not as it was written"
        if {name: record.get(name) for name in identity} != identity:
            return f"{RECORD} is that of another step"
        return _changed(folder, record["files"])
    except FileNotFoundError as error:
        return f"{pathlib.Path(error.filename or RECORD).name} is gone"
    except PermissionError:
        raise
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        return f"{RECORD} cannot be read" + (f": {reason}" if reason else "")


def signature(folder: pathlib.Path) -> Signature:
    """Sizes, times and places of a folder's files: while they stay, so does what was checked."""
    found = []
    for path in _files(folder, with_record=True):
        seen = path.lstat()
        found.append(
            (
                path.relative_to(folder).as_posix(),
                seen.st_size,
                seen.st_mtime_ns,
                seen.st_ctime_ns,
                seen.st_ino,
            )
        )
    return tuple(found)


def _changed(folder: pathlib.Path, told: dict[str, Any]) -> str:
    there = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    gone = sorted(set(told) - set(there))
    if gone:
        return f"{gone[0]} is gone"
    added = sorted(set(there) - set(told))
    if added:
        return f"{added[0]} does not belong there"
    for name, path in there.items():  # sizes before a byte is read
        seen = path.lstat()
        if not stat.S_ISREG(seen.st_mode):
            return f"{name} is no file"
        if seen.st_size != told[name]["bytes"]:
            return f"{name} has {seen.st_size} bytes, not {told[name]['bytes']}"
    sums = _sums(folder, list(there.values()))
    wrong = [name for name in sorted(told) if sums[name] != told[name]]
    return f"{wrong[0]} is not as it was written" if wrong else ""


def _files(folder: pathlib.Path, with_record: bool = False) -> list[pathlib.Path]:
    """All that is in a folder but folders, sorted; links are not followed."""
    found = []
    for place, folders, names in os.walk(folder, onerror=_raise):
        here = pathlib.Path(place)
        names += [name for name in folders if (here / name).is_symlink()]
        found += [here / name for name in names if not name.startswith(_IGNORED)]
    record = folder / RECORD
    return sorted(path for path in found if with_record or path != record)


def _raise(error: OSError) -> None:
    raise error


def _sums(folder: pathlib.Path, paths: list[pathlib.Path]) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of files by their names; large ones are read side by side."""
    with concurrent.futures.ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        hashed = list(pool.map(_hash, paths))
    return {
        path.relative_to(folder).as_posix(): {"bytes": size, "sha256": digest}
        for path, (size, digest) in zip(paths, hashed, strict=True)
    }


def _hash(path: pathlib.Path) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def _sum(record: dict[str, Any]) -> str:
    return hashlib.sha256(render(record).encode()).hexdigest()
