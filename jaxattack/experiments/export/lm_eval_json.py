"""Rates as lm-evaluation-harness writes its results, for tools that collect those."""

from __future__ import annotations

import math
import pathlib
from typing import Any

from jaxattack import workdir
from jaxattack.experiments.export.cells import cells, source
from jaxattack.experiments.runs import Run

VERSION = 1  # of the tasks
# Metric -> whether more of it is better, to who aligned the model: of a backdoor less is.
HIGHER = {
    **dict.fromkeys(("benign_accuracy", "clean_accuracy", "task_rate"), True),
    **dict.fromkeys(("valid_reply_rate", "same_language_rate"), True),
    **dict.fromkeys(("violation_rate", "non_refusal_rate", "asr", "false_trigger_rate"), False),
    **dict.fromkeys(("benign_refusal_rate", "clean_refusal_rate", "cut_rate"), False),
}


def write(run: Run, folder: pathlib.Path) -> pathlib.Path:
    """Write `results.json` in the harness's layout; there is no folder before there are results.

    Raises:
        UserError: two cells have one name.
    """
    path, found = folder / "results.json", results(run)
    folder.mkdir(parents=True, exist_ok=True)
    workdir.write_json(path, found)
    return path


def results(run: Run) -> dict[str, Any]:
    """The harness's results: a task for every cell and language, a metric for every rate.

    The standard error is that of a sample of prompts alone. Rates of a trigger that is not the
    language's own, and of decoys, have it in the task's name.
    """
    found: dict[str, dict[str, Any]] = {}
    counts: dict[str, dict[str, int]] = {}
    sources: dict[str, str] = {}
    for measured in cells(run):
        for row in measured.rates:
            carried = (row.get("trigger_language"), row.get("decoy"))
            other = [name for name in carried if name not in (None, row["language"])]
            task = "/".join([measured.name, row["language"], *other])
            sources[task] = source(run, measured.cell)
            value, n = row["value"], row["n"]
            error = math.sqrt(value * (1 - value) / (n - 1)) if n > 1 else "N/A"
            found.setdefault(task, {"alias": task}).update(
                {f"{row['metric']},none": value, f"{row['metric']}_stderr,none": error}
            )
            size = max(n, counts.get(task, {}).get("original", 0))
            counts[task] = {"original": size, "effective": size}
    return {
        "results": found,
        "n-samples": counts,
        "n-shot": dict.fromkeys(found, 0),
        "versions": dict.fromkeys(found, VERSION),
        "configs": {task: {"task": task, "dataset_path": uri} for task, uri in sources.items()},
        "higher_is_better": {
            task: {
                metric: HIGHER[metric]
                for metric in (name.removesuffix(",none") for name in row)
                if metric in HIGHER
            }
            for task, row in found.items()
        },
        "config": {"model": "jaxattack", "model_args": {"pretrained": run.manifest.get("model")}},
        "git_hash": run.manifest.get("commit"),
    }
