"""Which files of a folder are read, for which split: as its README says, else by their names.

Only what is in the folder: a README that points elsewhere is refused.
"""

from __future__ import annotations

import itertools
import os
import pathlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from jaxattack.data import readers
from jaxattack.data.readers import Row
from jaxattack.errors import UserError

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
# What lies beside data: not worth a word.
_ABOUT = re.compile(
    r"(readme|licen[cs]e|notice)(\..*)?|dataset_infos?\.json|dataset_dict\.json|state\.json"
    r"|cache-.*\.arrow"  # of `datasets`: what was made of the data
    r"|.*\.(md|py|pyc|ya?ml|toml|pdf|png|jpe?g|svg|html?|sh|bib|lock)|[^.]*",
    re.I,
)
_SHARD = re.compile(r"([\w.-]+?)-\d{5}-of-\d{5}")
_WORD = re.compile(rf"(?<![a-z])({'|'.join(SPLITS)})(?![a-z])")
_CARD = 1 << 22  # bytes of a README that are looked at
# Arguments by which a README changes how its files are read.
_READING = ("sep", "delimiter", "names", "column_names", "header", "skiprows", "encoding", "field")

Splits = Mapping[str, Sequence[str]]


def listing(folder: pathlib.Path, uri: str) -> list[str]:
    """Paths of all files below a folder, hidden ones aside, in order; links are followed once.

    Raises:
        UserError: a folder that may not be read, or a link that leads nowhere.
    """
    found: list[str] = []

    def fail(error: OSError) -> None:
        raise UserError(f"{uri}: {error.strerror or error} ({error.filename})") from error

    seen: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        status = os.stat(place)
        key = status.st_dev, status.st_ino
        folders[:] = (
            sorted(n for n in folders if not n.startswith((".", "__"))) if key not in seen else []
        )
        if key in seen:
            continue  # a link that leads back
        seen.add(key)
        here = pathlib.Path(place).relative_to(folder)
        found += [(here / name).as_posix() for name in files if not name.startswith(".")]
    return sorted(found)


def files_of(
    folder: pathlib.Path, uri: str, pattern: str, split: str, config: str | None
) -> tuple[Splits, list[str]]:
    """The files of each split, and those that are of none.

    Args:
        folder: where they lie.
        uri: names the source in errors.
        pattern: a glob of the files to take, all for `split`; "" for what the folder says.
        split: the one asked for.
        config: which of the configurations in the README; None for the default one.

    Raises:
        UserError: no file can be read, there is no such configuration, or the README points out of
            the folder or wants its files read in a way that is not known here.
    """
    there = listing(folder, uri)
    data = [name for name in there if readers.ending(name) and not _ABOUT.fullmatch(_base(name))]
    strange = [n for n in there if not readers.ending(n) and not _ABOUT.fullmatch(_base(n))]
    if pattern:
        found = _matching([pattern], data, uri, "files")
        if not found:
            raise UserError(f"{uri}: no file is called {pattern}; there are: {some(data)}")
        return {split: found}, []
    configs = _configs(folder / "README.md", uri)
    if config is not None or configs:
        return _by_config(configs, config, data, uri), []
    if not data:
        beside = f"; there are: {some(strange)}" if strange else ""
        raise UserError(
            f"{uri}: no file that can be read, by its ending {', '.join(readers.READABLE)}, "
            f"perhaps with {', '.join(readers.PACKED)}{beside}"
        )
    named = {name: split_of(name) for name in data}
    if not any(named.values()):
        return {"train": data}, strange
    splits: dict[str, list[str]] = {}
    for name, own in named.items():
        if own:
            splits.setdefault(own, []).append(name)
    return splits, [*(name for name, own in named.items() if not own), *strange]


def split_of(name: str) -> str:
    """The split that a file's path names; "" if it names none. What is nearest counts."""
    for part in reversed(pathlib.PurePosixPath(name).parts):
        if (shard := _SHARD.match(part)) and shard[1].lower() != "data":
            return SPLITS.get(shard[1].lower(), shard[1])
        if word := _WORD.search(part.lower()):
            return SPLITS[word[1]]
    return ""


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return (", ".join(names[:5]) or "none") + more


def _matching(patterns: Sequence[str], names: Sequence[str], uri: str, what: str) -> list[str]:
    """The names that globs match: `*` within a folder, `**` across them."""
    found: dict[str, None] = {}
    for pattern in patterns:
        if "://" in pattern or pattern.startswith(("/", "~")) or ".." in pattern.split("/"):
            raise UserError(f"{uri}: {what} points out of the folder ({pattern}); nothing is read")
        parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]]+\])", pattern.removeprefix("./"))
        fixed = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
        whole = "".join(
            fixed.get(part) or (part.replace("[!", "[^") if part[:1] == "[" else re.escape(part))
            for part in parts
        )
        try:
            glob = re.compile(whole.rstrip("/") + "(/.*)?")
        except re.error as error:
            raise UserError(f"{uri}: {what} has a glob that is wrong ({pattern})") from error
        found |= dict.fromkeys(name for name in names if glob.fullmatch(name))
    return list(found)


# --- What a README says -------------------------------------------------------------------------


def _configs(readme: pathlib.Path, uri: str) -> list[dict[str, Any]]:
    """The configurations in its front matter that say which files they have."""
    import yaml

    if not readme.is_file():
        return []
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the fast one bounds its depth, too
    try:
        with readme.open("rb") as stream:
            text = stream.read(_CARD).decode("utf-8-sig", errors="replace")
        front = re.match(r"---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(\r?\n|$)", text, re.S)
        told = yaml.load(front[1], Loader=loader) if front else None
        configs = told.get("configs") if isinstance(told, dict) else None
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{uri}: README.md: its front matter cannot be read as YAML") from error
    if configs is None:
        return []
    if not isinstance(configs, list) or not all(isinstance(one, dict) for one in configs):
        raise UserError(f"{uri}: README.md: `configs` is a list of configurations")
    return [one for one in configs if "data_files" in one or "data_dir" in one]


def _by_config(
    configs: Sequence[dict[str, Any]], asked: str | None, data: Sequence[str], uri: str
) -> Splits:
    named = {str(one.get("config_name", "default")): one for one in configs}
    if asked is None:
        default = [name for name, one in named.items() if one.get("default") or name == "default"]
        asked = default[0] if default else next(iter(named)) if len(named) == 1 else None
    if asked not in named:
        of = f"; there are: {', '.join(named) or 'none'}"
        raise UserError(
            f"{uri}: there is no configuration {asked!r}{of}"
            if asked is not None
            else f"{uri}: several configurations; add config=<name>{of}"
        )
    chosen = named[asked]
    if reading := [name for name in _READING if name in chosen]:
        raise UserError(f"{uri}: README.md: configuration {asked} sets {reading[0]}, unknown here")
    base = str(chosen.get("data_dir") or "")
    globs = _globs(chosen.get("data_files"), uri)
    if globs is None:
        inside = _matching([base], data, uri, "README.md")
        found: dict[str, list[str]] = {}
        for name in inside:
            found.setdefault(split_of(name[len(base) :]) or "train", []).append(name)
        return found
    prefix = f"{base.strip('/')}/" if base else ""
    _matching([prefix], [], uri, "README.md")
    return {
        split: _matching([f"{prefix}{glob}" for glob in own], data, uri, "README.md")
        for split, own in globs.items()
    }


def _globs(data_files: Any, uri: str) -> dict[str, list[str]] | None:
    """The globs of each split, from any of the ways of writing them; None if there are none."""

    def several(value: Any) -> list[str]:
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(one, str) and one for one in values):
            raise UserError(
                f"{uri}: README.md: `data_files` names files, or splits with their files"
            )
        return values

    if data_files is None:
        return None
    if isinstance(data_files, dict):
        return {str(split): several(value) for split, value in data_files.items()}
    if isinstance(data_files, list) and data_files and isinstance(data_files[0], dict):
        found: dict[str, list[str]] = {}
        for one in data_files:
            own = several(one.get("path") if isinstance(one, dict) else one)
            found.setdefault(str(one.get("split", "train")), []).extend(own)
        return found
    return {"train": several(data_files)}


# --- Rows of a split ----------------------------------------------------------------------------

_SLICE = re.compile(r"([\w.-]+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?")


def rows(
    folder: pathlib.Path, splits: Splits, spec: str, uri: str, columns: Collection[str]
) -> Iterator[tuple[str, Row]]:
    """Rows of a split, of a slice of one (`train[:10%]`), of several with `+`, or of `all`.

    Raises:
        UserError: no such split, a spec that is wrong, or a file that is.
    """
    wanted = "+".join(splits) if spec == "all" else spec
    for part in wanted.split("+"):
        asked = _SLICE.fullmatch(part.strip())
        if asked is None:
            raise UserError(
                f"{uri}: split {part!r} is none; write train, train[:100] or train[:10%]"
            )
        name, start, stop = asked[1], asked[2] or "", asked[3] or ""
        if name not in splits:
            there = ", ".join(splits)
            raise UserError(f"{uri}: there is no split {name!r}; add split=, one of: {there}")
        found = _split(folder, splits[name], uri, columns)
        if start or stop:
            relative = any(mark in start + stop for mark in "%-")
            total = sum(1 for _ in _split(folder, splits[name], uri, columns)) if relative else None
            first, last = _at(start, total, 0), _at(stop, total, total)
            found = itertools.islice(found, first, last)
        yield from found


def _at(text: str, total: int | None, default: int | None) -> int | None:
    if not text or total is None:
        return int(text) if text else default
    place = round(int(text[:-1]) * total / 100) if text.endswith("%") else int(text)
    return min(max(place + (total if place < 0 else 0), 0), total)


def _split(
    folder: pathlib.Path, names: Sequence[str], uri: str, columns: Collection[str]
) -> Iterator[tuple[str, Row]]:
    for name in names:
        where = uri if len(names) == 1 else f"{uri}, {name}"
        path = readers.plain_file(folder / name, f"{uri}, {name}")
        for number, (_, row) in enumerate(readers.rows(path, where, columns), start=1):
            yield f"{where}, row {number}", row
