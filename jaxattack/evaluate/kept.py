"""The file of replies that a served model gave: one line for each, added as it comes."""

from __future__ import annotations

import json
import os
import pathlib
import threading
from typing import Any

from jaxattack.errors import UserError
from jaxattack.evaluate.judge import Reply

_WRITING = threading.Lock()


def open_file(folder: pathlib.Path) -> pathlib.Path:
    """The file of replies in its folder, ready for the next line."""
    file = folder / "replies.jsonl"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        ignore = "# Text of replies, which may be harmful: not to be published.\n*\n"
        (folder / ".gitignore").write_text(ignore, encoding="utf-8")
        with file.open("ab+") as out:
            if out.tell():
                out.seek(-1, os.SEEK_END)
                if out.read() != b"\n":  # a kill cut the last line short
                    out.write(b"\n")
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror or error}") from error
    return file


def add(file: pathlib.Path, row: dict[str, Any]) -> None:
    """Add a line; several threads may."""
    line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
    with _WRITING, file.open("ab") as out:
        out.write(line)


def replies(file: pathlib.Path) -> dict[str, Reply]:
    """Replies by request; a line that was cut short is no reply, and will be asked again."""
    found: dict[str, Reply] = {}
    for line in file.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
            found.setdefault(row["request"], Reply(row["text"], row["cut"]))
        except (ValueError, LookupError, TypeError):
            continue
    return found
