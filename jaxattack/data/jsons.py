"""JSON in files: rows one on each line, in an array of any length, or in an object that holds one.

Every failure is one line that names the place. Memory does not grow with the file.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO, Any

from jaxattack.errors import UserError

Row = dict[str, Any]

LONGEST = 1 << 25  # bytes of a line, a cell or an element; a longer one is no row
WHOLE = 1 << 28  # bytes of a JSON object that holds all rows
# Under which key such an object has them.
HOLDERS = ("data", "rows", "examples", "instances")
_CHUNK = 1 << 20
# How files begin that are no text, whatever they are called.
_NOT_TEXT = {
    b"\x1f\x8b": "compressed by gzip; its name should end in .gz",
    b"BZh": "compressed by bzip2; its name should end in .bz2",
    b"\xfd7zXZ": "compressed by xz; its name should end in .xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd, which is not read; unpack it",
    b"PK\x03\x04": "a zip archive or an office document, which is not read; unpack or export it",
    b"PAR1": "a Parquet file; its name should end in .parquet",
    b"ARROW1": "an Arrow file; its name should end in .arrow",
    b"version https://git-lfs": "a pointer of Git LFS, not the file; fetch it (git lfs pull)",
}
_SPACE = re.compile(r"[ \t\r\n]*")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, whose keys are different: of two values one would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:80]!r} occurs twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_once)


def text_lines(stream: IO[bytes], where: str) -> Iterator[str]:
    """Lines of a file with their ends, decoded; only a line feed ends one.

    Raises:
        UserError: not UTF-8, or a line without end.
    """
    for number, line in enumerate(iter(lambda: stream.readline(LONGEST + 1), b""), start=1):
        if number == 1:
            check_start(line, where)
            line = line.removeprefix(codecs.BOM_UTF8)
        if len(line) > LONGEST:
            raise UserError(f"{where}, line {number}: longer than {LONGEST >> 20} MiB")
        yield _decode(line, f"{where}, line {number}")


def check_start(start: bytes, where: str) -> None:
    """Refuse what does not begin like a text in UTF-8.

    Raises:
        UserError: it is something else; names it.
    """
    for mark, what in _NOT_TEXT.items():
        if start.startswith(mark):
            raise UserError(f"{where}: {what}")
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in start[:64]:
        raise UserError(f"{where}: not UTF-8 (UTF-16, or not a text); save it as UTF-8")


def _decode(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 ({error.reason}); save it as UTF-8") from error


def parse(text: str, where: str) -> Any:
    """A JSON value.

    Raises:
        UserError: it is none, or nested too deeply to be read.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError as error:
        raise UserError(f"{where}: JSON that is nested too deeply") from error
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error})") from error


def _row(value: Any, where: str) -> Row:
    if not isinstance(value, dict):
        raise UserError(f"{where}: a row is an object, with a value for each column")
    return value


def lines(stream: IO[bytes], where: str) -> Iterator[tuple[int, Row]]:
    """Rows of JSON Lines with the numbers of their lines; empty lines are none.

    Raises:
        UserError: a line is not UTF-8, or no JSON object.
    """
    for number, line in enumerate(text_lines(stream, where), start=1):
        if line.strip():
            here = f"{where}, line {number}"
            yield number, _row(parse(line, here), here)


def rows(stream: IO[bytes], where: str) -> Iterator[tuple[int, Row]]:
    """Rows with their numbers: of an array, of an object that holds one, or one on each line.

    Raises:
        UserError: not UTF-8, or not JSON of this kind.
    """
    head = b""
    while not head.strip() and (more := stream.read(_CHUNK)):
        head = more
        check_start(head, where)
        head = head.removeprefix(codecs.BOM_UTF8)
    if head.lstrip().startswith(b"["):
        yield from _elements(_pieces(head, stream, where), where)
        return
    first, _, rest = head.lstrip().partition(b"\n")
    if rest.strip() and _is_json(first):
        stream.seek(0)
        yield from lines(stream, where)
        return
    whole = head + stream.read(WHOLE + 1 - len(head))
    if len(whole) > WHOLE:
        raise UserError(
            f"{where}: an object of more than {WHOLE >> 20} MiB; write its rows as JSON Lines"
        )
    if whole.strip():
        yield from _held(parse(_decode(whole, where), where), where)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _held(value: Any, where: str) -> Iterator[tuple[int, Row]]:
    row = _row(value, where)
    found = [key for key in HOLDERS if isinstance(row.get(key), list)]
    if len(found) == 1 and all(isinstance(one, dict) for one in row[found[0]]):
        yield from enumerate(row[found[0]], start=1)
    else:
        yield 1, row


def _pieces(head: bytes, stream: IO[bytes], where: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    data = head
    try:
        while data:
            yield decoder.decode(data)
            data = stream.read(_CHUNK)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 ({error.reason}); save it as UTF-8") from error


def _elements(pieces: Iterator[str], where: str) -> Iterator[tuple[int, Row]]:
    """The objects of an array, of which only some are in memory at a time."""
    window = _Window(pieces)
    window.skip()
    window.at += 1  # the bracket
    number = 0
    mark = window.skip()
    while mark != "]":
        number += 1
        here = f"{where}, row {number}"
        yield number, _row(window.value(here), here)
        mark = window.skip()
        if mark not in ("]", ","):
            raise UserError(f"{here}: the array goes on without a comma, or does not end")
        if mark == ",":
            window.at += 1
            window.skip()
    window.at += 1
    if window.skip():
        raise UserError(f"{where}: more after the end of the array")


class _Window:
    """A part of a text that moves on."""

    def __init__(self, pieces: Iterator[str]):
        self._pieces, self._text, self.at = pieces, "", 0

    def skip(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            rest = _SPACE.match(self._text, self.at)
            self.at = rest.end() if rest else self.at
            if self.at < len(self._text):
                return self._text[self.at]
            piece = next(self._pieces, None)
            if piece is None:
                return ""
            self._text, self.at = piece, 0

    def value(self, where: str) -> Any:
        """The JSON value that begins here."""
        while True:
            try:
                found, self.at = _DECODER.raw_decode(self._text, self.at)
                return found
            except RecursionError as error:
                raise UserError(f"{where}: JSON that is nested too deeply") from error
            except ValueError as error:  # perhaps because it goes on
                if len(self._text) - self.at > LONGEST or not self._grow():
                    raise UserError(f"{where}: not JSON ({error})") from error

    def _grow(self) -> bool:
        """Read at least as much again as there is, so that all tries together stay linear."""
        parts, size = [self._text[self.at :]], 0
        while size <= len(parts[0]) and (piece := next(self._pieces, None)) is not None:
            parts.append(piece)
            size += len(piece)
        self._text, self.at = "".join(parts), 0
        return len(parts) > 1
