"""Where public sets lie on this machine: the hub's cache, and sets that tfds has prepared.

Code that comes with a set is neither fetched nor run.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from jaxattack.data.readers import Row, missing
from jaxattack.data.uri import Address
from jaxattack.errors import UserError
from jaxattack.hub import hub_error


def folder_of(address: Address, files: Sequence[str], cached: bool = False) -> pathlib.Path:
    """The folder of a set: local, or the snapshot of one commit in the hub's cache.

    A snapshot's folder is named by its commit, so what is read is what the revision says, online
    or not.

    Args:
        address: of a set on the hub or a folder.
        files: globs of the files needed; all if empty.
        cached: look only at what is there already.

    Raises:
        UserError: no such folder, set or revision; terms not accepted; the hub does not answer.
    """
    folder = address.folder
    if folder is not None:
        try:
            there = folder.is_dir()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{address.uri}: {reason}") from error
        if not there:
            beside = " (a file is read as jsonl:<file>)" if folder.is_file() else ""
            raise UserError(f"{address.uri}: no such folder{beside}")
        return folder
    import huggingface_hub
    from huggingface_hub import errors

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
    except (errors.HTTPError, OSError, ValueError) as error:
        raise hub_error(error, f"hf:{address.name}", address.revision) from error


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


def tfds_rows(
    address: Address, split: str, needed: Sequence[str], useful: Sequence[str]
) -> Iterator[tuple[str, Row]]:
    """Rows of a prepared set, in its order.

    Raises:
        UserError: not prepared, no such split, a format without random access, a column missing,
            a text that is not UTF-8.
    """
    builder = tfds_builder(address)
    there = list(builder.info.features)
    if lacking := [column for column in needed if column not in there]:
        raise missing(address.uri, lacking, there)
    columns = [column for column in there if column in needed or column in useful]
    try:
        source = builder.as_data_source(split=split)
        for number in range(len(source)):
            row = source[number]
            yield f"{address.uri}, row {number + 1}", {name: _plain(row[name]) for name in columns}
    except (ValueError, NotImplementedError, OSError) as error:
        raise UserError(f"{address.uri}: {error}") from error


def _plain(value: Any) -> Any:
    """A value as Python's own: texts are bytes there, and numbers numpy's."""
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value
