"""Finished runs, read from their work directories."""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from jaxattack.errors import UserError
from jaxattack.experiments.cell import TRIAL_COLUMNS
from jaxattack.report.page import flat
from jaxattack.report.table import read_parquet

FILES = ("manifest.json", "config.json", "results.json", "trials.parquet")
AGAIN = "start its command again, which computes only what is missing"


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        name: what it is called beside the others.
        config: its settings, by dotted name.
        manifest: what it says of the model, the data and the machine.
        results: as in results.json.
        trials: rows of trials.parquet.
        written: when the run was finished, in UTC.
    """

    name: str
    config: Mapping[str, str]
    manifest: Mapping[str, Any]
    results: Mapping[str, Any]
    trials: Sequence[Mapping[str, Any]]
    written: str

    @property
    def study(self) -> str:
        """Which study it is of."""
        return str(self.results["study"])

    @property
    def judge_name(self) -> str:
        """Who judged, in words."""
        return str(self.results["judge"]["name"])

    @property
    def judge(self) -> Any:
        """What is equal exactly where violations were counted alike."""
        judge = self.results["judge"]
        return judge.get("counts") or {
            "judge": judge["name"],
            "rule": judge["rule"],
            "by": "judge",
        }

    def asked_as(self, other: Run) -> set[str]:
        """Languages in which both were asked the same, word for word."""
        ours, theirs = self.manifest["prompts"], other.manifest["prompts"]
        return {code for code, found in ours.items() if theirs.get(code) == found}


def read_several(paths: Sequence[pathlib.Path]) -> list[Run]:
    """Runs of one study, in the order given.

    Raises:
        UserError: fewer than two, one twice, one that is not finished, or of different studies.
    """
    if len(paths) < 2:
        raise UserError("name two runs or more, each by its work directory")
    resolved = [path.resolve() for path in paths]
    if twice := [
        path for path, real in zip(paths, resolved, strict=True) if resolved.count(real) > 1
    ]:
        raise UserError(f"{twice[0]}: named twice; nothing differs from itself")
    ends = [path.name for path in resolved]
    names = ends if len(set(ends)) == len(ends) else [str(path) for path in paths]
    found = [read(path, name) for path, name in zip(paths, names, strict=True)]
    other = next((run for run in found if run.study != found[0].study), None)
    if other is not None:
        raise UserError(
            f"{other.name} is of the study {other.study!r} and {found[0].name} of "
            f"{found[0].study!r}: they measure different things"
        )
    return found


def read(path: pathlib.Path, name: str = "") -> Run:
    """A finished run, called as its directory unless it is given a name.

    Raises:
        UserError: there is none.
    """
    lacking = [file for file in FILES if not (path / file).is_file()]
    if len(lacking) == len(FILES):
        raise UserError(f"{path}: no work directory of a study")
    if lacking:
        raise UserError(f"{path}: {lacking[0]} is not there, so the run is not finished; {AGAIN}")
    try:
        manifest, config, results = (
            json.loads((path / file).read_text(encoding="utf-8")) for file in FILES[:3]
        )
        if not manifest["finished"]:
            raise UserError(f"{path}: the run is not finished; {AGAIN}")
        found = Run(
            name or path.resolve().name,
            dict(flat(config)),
            manifest,
            results,
            read_parquet(path / FILES[3]),
            _time(path / FILES[0]),
        )
        _check(found)
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"{path}: its files are not those of a study ({error}); {AGAIN}") from error
    return found


def _check(run: Run) -> None:
    """See that what is read of a run is there.

    Raises:
        LookupError, TypeError, ValueError: it is not.
    """
    _ = run.study, run.judge, run.judge_name, run.asked_as(run), run.config["data.prompts"]
    _ = run.results["languages"], run.results["seeds"], run.results["judge"]["rule"]
    for claim in run.results["claims"]:
        _ = claim["id"], claim["claim"], claim["verdict"]
    if run.trials and (lacking := TRIAL_COLUMNS.keys() - run.trials[0].keys()):
        raise ValueError(f"trials.parquet has no column {min(lacking)}")
    if other := {row["seed"] for row in run.trials} - {None, *run.results["seeds"]}:
        raise ValueError(f"trials.parquet has seed {min(other)}, which results.json lacks")
    rows = [row for row in run.results["rows"] if row["metric"] == "valid_reply_rate"]
    counted = sum(row["n"] for row in rows)
    if rows and counted != len(run.trials):
        raise ValueError(f"trials.parquet has {len(run.trials)} rows of {counted}")


def _time(path: pathlib.Path) -> str:
    """When a file was last written, in UTC."""
    when = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
    return when.isoformat(timespec="seconds")
