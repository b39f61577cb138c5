"""Whose the files of a work directory are: a study writes and takes away only its own."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable, Mapping

from jaxattack.errors import UserError
from jaxattack.workdir import check_replaceable, read_object, remove, write_bytes

TABLES = ("results.parquet", "trials.parquet", "progress.jsonl")
NAMES = ("manifest.json", "config.json", "results.json", "report.html")


def claim(root: pathlib.Path, study: str) -> None:
    """See that the files of the directory are of this study.

    Raises:
        UserError: there is one that is not, or that is no ordinary file.
    """
    for name in NAMES:
        check_replaceable(root / name)
    if (root / "figures").is_symlink():
        raise UserError(f"{root / 'figures'} is a link, through which nothing is written")
    there = [name for name in NAMES if (root / name).exists()]
    if not there:
        return
    manifest = read_object(root / "manifest.json")
    found = manifest.get("study") or read_object(root / "results.json").get("study")
    found = found or read_object(root / "config.json").get("study")
    if "versions" not in manifest or found is None:
        raise UserError(
            f"--workdir={root}: its {there[-1]} is not of a study of jaxattack; give another "
            "directory"
        )
    if found != study:
        raise UserError(
            f"--workdir={root}: it holds the study {found!r}; give another directory for {study!r}"
        )


def publish(
    root: pathlib.Path, page: bytes, figures: Mapping[str, bytes], private: bool = False
) -> None:
    """Write `report.html` and `figures/*`; an earlier report's figures, if not among them, go.

    A `private` page is for its owner alone.

    The page names its figures (`listing`): so it is known which are ours, and they are named
    there before they are there.

    Raises:
        UserError: something that is not of an earlier report is where a file should go.
    """
    report = root / "report.html"
    before = _figures_of(report)
    for name in figures:
        path = root / "figures" / name
        check_replaceable(path)
        # Looked up again: another run may have listed and written it just now.
        if name not in before and path.exists() and name not in _figures_of(report):
            raise UserError(f"{path} is of no earlier report and not replaced; move it away")
    (root / "figures").mkdir(exist_ok=True)
    both = listing(sorted({*before, *figures}))
    write_bytes(report, page.replace(listing(figures).encode(), both.encode(), 1), private)
    for name, content in figures.items():
        write_bytes(root / "figures" / name, content)
    for name in {*before} - {*figures}:
        path = root / "figures" / name
        if path.is_file() and not path.is_symlink():
            remove(path)
    write_bytes(report, page, private)


def files(root: pathlib.Path, shown: pathlib.Path) -> list[pathlib.Path]:
    """A run's own files beside its stages: what it showed last, figures, tables, the manifest."""
    figures = [root / "figures" / name for name in _figures_of(root / "report.html")]
    names = ("config.json", "results.json", *TABLES, "report.html", "manifest.json")
    return list(dict.fromkeys([shown, *figures, *(root / name for name in names)]))


def listing(figures: Iterable[str]) -> str:
    """What a page says of its figures, in its head."""
    return f'<meta name="figures" content="{" ".join(sorted(figures))}">'


def _figures_of(report: pathlib.Path) -> list[str]:
    """Names of the figures that a report of ours lists."""
    try:
        head = report.read_text(encoding="utf-8", errors="replace")[:20_000]
    except FileNotFoundError:
        return []
    found = re.search(r'<meta name="figures" content="([\w. -]*)">', head)
    return found[1].split() if found else []
