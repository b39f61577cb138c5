"""The address of a data source: `scheme:name@revision?option=value&option=value`."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Mapping

from jaxattack.errors import UserError
from jaxattack.paths import expand

# Which column of the source holds which of our fields.
COLUMNS = ("id", "prompt", "input", "response", "answers", "text", "language_column")
# What its rows are, and which of them are wanted.
ROWS = ("as", "language", "kind", "part", "by")
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "organism": ("policy", "language", "reply", "benign"),
    "jsonl": (*COLUMNS, *ROWS),
    "hf": ("config", "split", "files", *COLUMNS, *ROWS),
    "tfds": ("split", *COLUMNS, *ROWS),
}
VALUES: Mapping[str, tuple[str, ...]] = {
    "kind": ("restricted", "benign"),
    "part": ("attack", "calibration", "test"),
    "by": ("prompt", "id"),
    "reply": ("answer", "refusal"),
    "benign": ("all",),
}


@dataclasses.dataclass(frozen=True)
class Address:
    """A parsed URI; `revision` is "" where none is given."""

    uri: str
    scheme: str
    name: str
    revision: str
    options: Mapping[str, str]

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that are asked for, as they are written; (): none is named."""
        return tuple(filter(None, self.options.get("language", "").split(",")))

    @property
    def folder(self) -> pathlib.Path | None:
        """The local folder that an `hf:` or `tfds:` URI names instead of a set's id."""
        if self.scheme not in ("hf", "tfds"):
            return None
        # No set's id has two slashes, so a folder that is here can only be meant by it.
        deep = self.scheme == "hf" and self.name.count("/") > 1 and pathlib.Path(self.name).is_dir()
        if deep or self.name.startswith((".", "/", "~")):
            return expand(self.name, self.uri)
        return None


def split_uris(uris: str) -> list[str]:
    """URIs that stand apart by spaces; names of files may have spaces too."""
    return re.split(r"\s+(?=(?:organism|jsonl|hf|tfds):)", uris.strip())


def parse(uri: str) -> Address:
    """Take a URI apart.

    Raises:
        UserError: names what is wrong with it.
    """
    several = split_uris(uri)
    if len(several) > 1:
        raise UserError(f"{len(several)} data URIs where one is asked for: {', '.join(several)}")
    scheme, _, rest = uri.partition(":")
    if scheme not in OPTIONS or not rest:
        raise UserError(
            f"data URI {uri!r}: give organism:<split>, jsonl:<file>, hf:<owner/name>@<revision> "
            "or tfds:<name>"
        )
    name, _, query = rest.partition("?")
    address = Address(uri, scheme, name, "", _options(uri, scheme, query))
    if address.folder is not None or scheme not in ("hf", "tfds"):
        return address
    name, _, revision = name.partition("@")
    if scheme == "hf" and not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UserError(f"{uri}: a set on the hub is owner/name, a folder starts with ./ or /")
    if scheme == "hf" and not revision:
        raise UserError(
            f"{uri}: say which revision after an @, a commit or a tag so that others get the same "
            f"rows, or hf:{name}@main for the newest (its commit is recorded)"
        )
    return dataclasses.replace(address, name=name, revision=revision)


def _options(uri: str, scheme: str, query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for part in query.split("&") if query else ():
        key, equals, value = part.partition("=")
        if key not in OPTIONS[scheme]:
            known = ", ".join(OPTIONS[scheme]) or "none"
            raise UserError(f"{uri}: {scheme}: has no option {key!r}; there are: {known}")
        if not equals or (not value and key != "id"):
            raise UserError(f"{uri}: option {key} has no value; write {key}=<value>")
        if key in options:
            raise UserError(f"{uri}: option {key} is given twice")
        if key in VALUES and value not in VALUES[key]:
            raise UserError(f"{uri}: {key} is {value!r}; give one of {', '.join(VALUES[key])}")
        options[key] = value
    return options
