"""Rows of a source: JSON Lines, a Hugging Face data set or a prepared tfds one.

All return `(where, row)` one by one, `where` naming the row in an error. The libraries do the
reading; here their failures become one line each. Code that comes with a set is neither fetched
nor run.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from jaxattack.data.registry import DataSet
from jaxattack.data.uri import Address
from jaxattack.errors import UserError
from jaxattack.hub import hub_error

Rows = Iterator[tuple[str, dict[str, Any]]]


def reason(error: BaseException) -> str:
    """What a library's exception says, on one line."""
    if type(error).__name__ == "DatasetGenerationError" and error.__cause__:
        error = error.__cause__
    line = " ".join(str(error).split())
    return line if len(line) <= 300 else f"{line[:299]}…"


def missing(where: str, columns: Iterable[str], there: Iterable[str]) -> UserError:
    """The error for columns that a row or a set should have."""
    return UserError(
        f"{where}: missing or empty columns: {', '.join(columns)}; there are: "
        f"{', '.join(sorted(there)) or 'none'}"
    )


def _present(
    uri: str, needed: Sequence[str], useful: Sequence[str], there: Sequence[str]
) -> list[str]:
    """The needed columns and those of the useful ones that are there."""
    if lacking := [column for column in needed if column not in there]:
        raise missing(uri, lacking, there)
    return [column for column in there if column in needed or column in useful]


# --- JSON Lines ---------------------------------------------------------------------------------


def jsonl(path: str, needed: Sequence[str]) -> Rows:
    """Rows of a JSON Lines file, with all their columns.

    Raises:
        UserError: no such file, not UTF-8, a line that is not a JSON object with the needed
            columns, or no lines.
    """
    uri = f"jsonl:{path}"
    file = pathlib.Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"{uri}: no such file")
    empty = True
    try:
        with file.open(encoding="utf-8-sig", newline="\n") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    continue
                where = f"{uri}, line {number}"
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise UserError(f"{where}: not JSON ({error})") from error
                if not isinstance(row, dict):
                    raise UserError(f"{where}: a row is an object, with a value for each column")
                if lacking := [column for column in needed if column not in row]:
                    raise missing(where, lacking, row)
                empty = False
                yield where, row
    except UnicodeDecodeError as error:
        raise UserError(f"{uri}: not UTF-8 ({error.reason})") from error
    if empty:
        raise UserError(f"{uri}: the file has no rows")


# --- Hugging Face -------------------------------------------------------------------------------


def hub_folder(address: Address, files: Sequence[str], cached: bool = False) -> pathlib.Path:
    """The folder of a set: local, or the snapshot of one commit in the hub's cache.

    A snapshot's folder is named by its commit, so what is read is what the revision says, online
    or not. (`datasets.load_dataset` with a hub id would, when the hub does not answer, take
    whatever revision it has seen last.)

    Args:
        address: of a set on the hub or a folder.
        files: globs of the files needed; all if empty.
        cached: look only at what is there already.

    Raises:
        UserError: no such folder, set or revision; terms not accepted; the hub does not answer.
    """
    if address.folder is not None:
        if not address.folder.is_dir():
            raise UserError(f"{address.uri}: no such folder")
        return address.folder
    import huggingface_hub

    try:
        return pathlib.Path(
            huggingface_hub.snapshot_download(
                address.name,
                repo_type="dataset",
                revision=address.revision,
                allow_patterns=list(files) or None,
                ignore_patterns=["*.py"],
                local_files_only=cached,
            )
        )
    except (huggingface_hub.errors.HTTPError, OSError, ValueError) as error:
        raise hub_error(error, f"hf:{address.name}", address.revision) from error


def hub(
    address: Address,
    folder: pathlib.Path,
    entry: DataSet,
    needed: Sequence[str],
    useful: Sequence[str],
) -> Rows:
    """Rows of a set in its folder, by `datasets`.

    Raises:
        UserError: what `datasets` says, or a needed column is missing.
    """
    import datasets  # here, because importing it takes a second

    name = entry.split.partition("[")[0]
    files = {name: entry.files} if name != "all" else entry.files
    try:
        with _quiet():
            table = datasets.load_dataset(
                str(folder),
                name=address.options.get("config"),
                data_files=files if entry.files else None,
                split=entry.split,
            )
    except (datasets.exceptions.DatasetsError, OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{address.uri}: {reason(error)}") from error
    columns = _present(address.uri, needed, useful, table.column_names)
    number = 0
    for batch in table.select_columns(columns).iter(batch_size=1000):
        for values in zip(*batch.values(), strict=True):
            number += 1
            yield f"{address.uri}, row {number}", dict(zip(batch, values, strict=True))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without `datasets`' own bars and messages."""
    import datasets
    from datasets.utils import logging

    level, bars = logging.get_verbosity(), not datasets.are_progress_bars_disabled()
    logging.set_verbosity(logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            datasets.enable_progress_bars()


# --- TensorFlow Datasets ------------------------------------------------------------------------


def tfds_builder(address: Address) -> Any:
    """A prepared set of tfds, read from its files: its code is not run, TensorFlow not needed.

    Raises:
        UserError: it is not there.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import read_only_builder

    try:
        if address.folder is not None:
            return tfds.builder_from_directory(address.folder)
        name = address.name + (f":{address.revision}" if address.revision else "")
        return read_only_builder.builder_from_files(name)
    except Exception as error:  # whatever tfds raises: there is no set that can be read
        raise UserError(
            f"{address.uri}: not prepared here; write it with tfds in the array_record format (on "
            "any machine) to TFDS_DATA_DIR, or ~/tensorflow_datasets"
        ) from error


def tfds(address: Address, entry: DataSet, needed: Sequence[str], useful: Sequence[str]) -> Rows:
    """Rows of a prepared set, in its order.

    Raises:
        UserError: not prepared, no such split, a format without random access, a column missing.
    """
    builder = tfds_builder(address)
    columns = _present(address.uri, needed, useful, list(builder.info.features))
    try:
        source = builder.as_data_source(split=entry.split)
    except (ValueError, NotImplementedError) as error:
        raise UserError(f"{address.uri}: {reason(error)}") from error
    for number in range(len(source)):
        row = source[number]
        yield f"{address.uri}, row {number + 1}", {name: _text(row[name]) for name in columns}


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
