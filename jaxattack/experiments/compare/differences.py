"""What was done otherwise in one run than in another: settings, data, judges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jaxattack.experiments.runs import Run

# What may differ without a word: where it ran and how fast, what is shown.
SILENT = ("mesh", "attention", "remat", "measure.batch_size", "report.", "replies")
# What is told in words below, or is what is compared.
TOLD = ("measure.judge", "data.prompts", "measure.prompts", "measure.languages", "seeds")


def column(run: Run) -> str:
    """Of a run, in tables that have others."""
    return f"run {run.name}"


def settings(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Settings that are not the same in all runs: a row each, with a column for every run.

    One that not all of them have is newer than some of them, and no difference that was made.
    """
    found = []
    for name in sorted(set.intersection(*(set(run.config) for run in runs))):
        values = {column(run): run.config[name] for run in runs}
        if len(set(values.values())) > 1:
            found.append({"setting": name, **values})
    return found


def cautions(runs: Sequence[Run]) -> list[dict[str, str]]:
    """What keeps the runs from being compared as they stand, a topic and a sentence each."""
    found = [
        {"topic": topic, "text": says(runs)}
        for topic, differs, says in _CHECKS
        if any(differs(runs[0], run) for run in runs[1:])
    ]
    named = [row["setting"] for row in settings(runs)]
    other = [name for name in named if not name.startswith(SILENT) and name not in (*TOLD, "model")]
    if other:
        text = f"The runs were also set otherwise in {', '.join(other)}."
        found.append({"topic": "settings", "text": text})
    return found


def _judges(runs: Sequence[Run]) -> str:
    said = "; ".join(f"{run.name}: {run.judge_name}" for run in runs)
    return (
        "The judges differ, so a difference in rates may be theirs and not the models': "
        f"{said}. Judge all runs alike before you compare them."
    )


def _prompts(runs: Sequence[Run]) -> str:
    said = "; ".join(
        f"{run.name}: {', '.join(sorted(runs[0].asked_as(run))) or 'in none'}" for run in runs[1:]
    )
    return (
        f"The same prompts as in {runs[0].name} were asked only in some languages ({said}), and "
        "only these are compared. Without any, the differences are of two samples and have no p."
    )


def _others_asked(first: Run, other: Run) -> bool:
    common = set(first.results["languages"]) & set(other.results["languages"])
    return first.asked_as(other) != common


def _languages(runs: Sequence[Run]) -> str:
    common = set.intersection(*(set(run.results["languages"]) for run in runs))
    return (
        "The runs measured different languages; a mean of two runs is over those that both "
        f"measured. All of them measured {', '.join(sorted(common)) or 'none'}."
    )


def _seeds(runs: Sequence[Run]) -> str:
    said = "; ".join(f"{run.name}: {', '.join(map(str, run.results['seeds']))}" for run in runs)
    return (
        f"The runs have different seeds ({said}). With one seed in a run its interval is over the "
        "prompts of that run alone and says nothing of other trainings."
    )


Check = tuple[str, Callable[[Run, Run], bool], Callable[[Sequence[Run]], str]]
_CHECKS: tuple[Check, ...] = (
    ("judges", lambda a, b: a.judge != b.judge, _judges),
    ("prompts", _others_asked, _prompts),
    ("languages", lambda a, b: a.results["languages"] != b.results["languages"], _languages),
    ("seeds", lambda a, b: a.results["seeds"] != b.results["seeds"], _seeds),
)
