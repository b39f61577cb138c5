"""From work directories to one page and two flat tables."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

from jaxattack import workdir
from jaxattack.errors import UserError
from jaxattack.experiments import inputs, runs
from jaxattack.experiments.cell import COLUMNS
from jaxattack.experiments.compare import across, differences, effects
from jaxattack.experiments.runs import Run
from jaxattack.report.page import render
from jaxattack.report.table import parquet

ROWS: dict[str, type] = {"run": str} | COLUMNS
EFFECTS: dict[str, type] = {
    "first": str,
    "run": str,
    **{name: kind for name, kind in COLUMNS.items() if name not in ("language", "value", "n")},
    "judge": str,
    "paired": bool,
    "over": str,
    **dict.fromkeys(("languages", "seeds", "prompts"), int),
    **dict.fromkeys(("value_first", "value", "difference", "p", "holm"), float),
}


@dataclasses.dataclass(frozen=True)
class Compared:
    """What a comparison is made of: the page's parts, by name."""

    results: dict[str, Any]
    effects: list[dict[str, Any]]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of all runs, each with its run."""
        found: list[dict[str, Any]] = self.results["rows"]
        return found


def compare(found: Sequence[Run]) -> Compared:
    """Runs of one study beside each other, the first as what the others are held against."""
    named = " and ".join(run.name for run in found) if len(found) == 2 else f"{len(found)} runs"
    parallel = all(inputs.parallel(run.config["data.prompts"]) for run in found)
    rows = effects.rows(found, parallel)
    judges = dict.fromkeys((run.judge_name, run.results["judge"]["rule"]) for run in found)
    names, rules = ("; ".join(dict.fromkeys(part)) for part in zip(*judges, strict=True))
    results = {
        "study": f"{found[0].study} runs beside each other",
        "headline": f"{named}, compared",
        "languages": list(dict.fromkeys(c for run in found for c in run.results["languages"])),
        "seeds": sorted({seed for run in found for seed in run.results["seeds"]}),
        "judge": {"name": names, "rule": rules},
        "cautions": [*differences.cautions(found), *across.cautions(found)],
        "runs": [_facts(run) for run in found],
        "columns": {differences.column(run): run.name for run in found},
        "verdicts": _verdicts(found),
        "claims": across.claims(found),
        "claims_are": "The claims over all checkpoints, a run each",
        "settings": differences.settings(found),
        "effects": rows,
        "rows": [{"run": run.name, **row} for run in found for row in run.results["rows"]],
    }
    return Compared(results, rows)


def _facts(run: Run) -> dict[str, Any]:
    return {
        "run": run.name,
        "checkpoint": run.manifest.get("model"),
        "parameters": run.manifest.get("parameters"),
        "judge": run.judge_name,
        "languages": len(run.results["languages"]),
        "seeds": ", ".join(map(str, run.results["seeds"])),
        "commit": str(run.manifest.get("commit") or "")[:10],
    }


def _verdicts(found: Sequence[Run]) -> list[dict[str, Any]]:
    """A row for every claim with each run's verdict and first figure."""
    claims: dict[str, dict[str, Any]] = {}
    for run in found:
        for claim in run.results["claims"]:
            row = claims.setdefault(claim["id"], {"id": claim["id"], "claim": claim["claim"]})
            row[differences.column(run)] = claim["verdict"]
    return list(claims.values())


def _check_studies(paths: Sequence[pathlib.Path]) -> None:
    """Refuse runs of a study that leaves nothing to compare; they are no unfinished ones.

    Raises:
        UserError: one of them is.
    """
    for path in paths:
        try:
            manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
            study = manifest["study"]
        except (OSError, ValueError, LookupError, TypeError):
            continue  # what is read next says what is wrong
        try:
            effects.check(study)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None


def write(paths: Sequence[pathlib.Path], out: pathlib.Path) -> list[pathlib.Path]:
    """Compare work directories; returns what was written: the page, its rows, the differences.

    Raises:
        UserError: the runs cannot be compared, or something else is where a file should go.
    """
    if out.suffix != ".html":
        raise UserError(f"--out={out}: the page is an HTML file; let its name end in .html")
    beside = [out.with_suffix(".parquet"), out.with_name(f"{out.stem}-differences.parquet")]
    if (out.parent / "manifest.json").exists():
        raise UserError(f"--out={out}: {out.parent} is a run's own directory; name another place")
    for path in (out, *beside):
        workdir.check_replaceable(path)
    _check_studies(paths)
    found = compare(runs.read_several(paths))
    template = (resources.files("jaxattack.experiments.compare") / "page.html.j2").read_text()
    html, _ = render(found.results, {}, {}, template)
    out.parent.mkdir(parents=True, exist_ok=True)
    for path, content in (
        (out, html.encode()),
        (beside[0], parquet(found.rows, ROWS)),
        (beside[1], parquet(found.effects, EFFECTS)),
    ):
        workdir.write_bytes(path, content)
    return [out, *beside]
