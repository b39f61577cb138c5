"""Rows of one file: JSON Lines, JSON, CSV or TSV, plain or compressed, Parquet or Arrow.

Nothing is guessed and nothing cached: what stands in a file is what comes out, a cell of CSV always
as text, and always from the bytes that are there now. Memory does not grow with the file.
"""

from __future__ import annotations

import bz2
import csv
import glob
import gzip
import logging
import lzma
import os
import pathlib
import stat
import tempfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

from jaxattack.data import jsons
from jaxattack.errors import UserError
from jaxattack.paths import expand

Row = dict[str, Any]
Rows = Iterator[tuple[str, Row]]

READABLE = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow")
# Of those that are no text, how they begin.
_STARTS = {".parquet": (b"PAR",), ".arrow": (b"ARROW", b"\xff\xff\xff\xff")}
PACKED: Mapping[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def ending(name: str) -> str:
    """The file's kind by its name, one of READABLE; "" if it is none of them."""
    plain, packed = name.lower(), ""
    for packed in PACKED:
        if plain.endswith(packed):
            plain = plain.removesuffix(packed)
            break
    else:
        packed = ""
    kind = next((kind for kind in READABLE if plain.endswith(kind)), "")
    return "" if packed and kind in _STARTS else kind


def missing(where: str, columns: Iterable[str], there: Iterable[str]) -> UserError:
    """The error for columns that a row or a set should have."""
    return UserError(
        f"{where}: missing or empty columns: {', '.join(columns)}; there are: "
        f"{', '.join(sorted(there)) or 'none'}"
    )


def plain_file(path: pathlib.Path, uri: str) -> pathlib.Path:
    """The path, if a file is there that ends some day.

    Raises:
        UserError: nothing is there, or a folder, a device or a pipe is, or it may not be read.
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{uri}: no such file") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{uri}: {_because(error)}") from error
    if stat.S_ISDIR(mode):
        raise UserError(f"{uri}: a folder, not a file; a folder is read as hf:./folder")
    if not stat.S_ISREG(mode):
        raise UserError(f"{uri}: not a plain file")
    if not os.access(path, os.R_OK):
        raise UserError(f"{uri}: may not be read (permissions)")
    return path


def jsonl(path: str, needed: Sequence[str]) -> Rows:
    """Rows of a file of one's own, with all their columns, each with the needed ones.

    Raises:
        UserError: no such file, or not what its ending says, or a row lacks a column, or no rows.
    """
    uri = f"jsonl:{path}"
    file = plain_file(expand(path, uri), uri)
    word = "line" if ending(file.name) in ("", ".jsonl", ".ndjson") else "row"
    number = 0
    for number, row in rows(file, uri):
        where = f"{uri}, {word} {number}"
        if lacking := [column for column in needed if column not in row]:
            raise missing(where, lacking, row)
        yield where, row
    if not number:
        raise UserError(f"{uri}: the file has no rows")


def rows(
    path: pathlib.Path, where: str, columns: Collection[str] | None = None
) -> Iterator[tuple[int, Row]]:
    """All rows of a file, each with its number: of its line in JSON Lines, else among the rows.

    Args:
        path: of a plain file; one without a known ending is read as JSON Lines.
        where: names the file in errors.
        columns: those of use, where the format allows to read no others.

    Raises:
        UserError: the file is not what its ending says; names line or row.
    """
    kind = ending(path.name) or ".jsonl"
    try:
        if kind in _STARTS:
            yield from _columnar(path, where, columns)
            return
        with _open(path) as stream:
            if kind in (".csv", ".tsv"):
                yield from _table(stream, where, "\t" if kind == ".tsv" else ",")
            elif kind == ".json":
                yield from jsons.rows(stream, where)
            else:
                yield from jsons.lines(stream, where)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{where}: {_because(error)}") from error


def _open(path: pathlib.Path) -> IO[bytes]:
    packed = PACKED.get(path.suffix.lower())
    return path.open("rb") if packed is None else packed(path)


def _because(error: BaseException) -> str:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(reason).split())[:300]


def count(path: pathlib.Path, where: str) -> int:
    """How many rows a file has.

    Raises:
        UserError: as `rows`; lines of JSON Lines are counted and not looked at.
    """
    if ending(path.name) not in ("", ".jsonl", ".ndjson"):
        return sum(1 for _ in rows(path, where))
    try:
        with _open(path) as stream:
            return sum(bool(line.strip()) for line in jsons.text_lines(stream, where))
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{where}: {_because(error)}") from error


# --- Formats ------------------------------------------------------------------------------------


def _table(stream: IO[bytes], where: str, delimiter: str) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(jsons.LONGEST)
    lines = jsons.text_lines(stream, where)
    first = next(lines, "")
    if delimiter == "," and "," not in first and ";" in first:
        delimiter = ";"  # where a comma is the decimal point
    table = csv.reader(_chain(first, lines), delimiter=delimiter, strict=True)
    number = 0
    try:
        header = next(table, [])
        _check_names(header, where)
        for cells in table:
            if not cells:
                continue  # an empty line
            number += 1
            if len(cells) != len(header):
                raise UserError(
                    f"{where}, row {number}: {len(cells)} cells, and the header has {len(header)}; "
                    "a text with a separator in it stands in double quotes"
                )
            yield number, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise UserError(f"{where}, row {number + 1}: not CSV ({error})") from error


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


# --- Parquet and Arrow --------------------------------------------------------------------------


def _columnar(
    path: pathlib.Path, where: str, columns: Collection[str] | None
) -> Iterator[tuple[int, Row]]:
    """Rows as `datasets` streams them: from the file itself, without its cache."""
    import datasets  # here, because importing it takes a second

    kind = ending(path.name)
    with path.open("rb") as stream:
        start = stream.read(64)
        if start and not start.startswith(_STARTS[kind]):
            jsons.check_start(start, where)
    datasets.logging.set_verbosity(logging.CRITICAL)  # what it says of a bad file is said below
    try:
        with tempfile.TemporaryDirectory() as nowhere:  # a folder is made, though nothing is cached
            found = datasets.load_dataset(
                kind.removeprefix("."),
                data_files=glob.escape(str(path)),
                split="train",
                streaming=True,
                cache_dir=nowhere,
            )
            there = found.column_names or []
            _check_names(there, where)
            if columns is not None:
                found = found.select_columns([name for name in there if name in columns] or there)
            yield from enumerate(found, 1)
    except UserError:
        raise
    except Exception as error:  # whatever the libraries below raise for a file that is damaged
        reason = _because(error.__cause__ or error)
        raise UserError(f"{where}: no {kind} file that can be read ({reason})") from error


def _check_names(names: Sequence[str], where: str) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{where}: two columns are called {twice!r}")
