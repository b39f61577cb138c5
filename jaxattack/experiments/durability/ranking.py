"""How defences rank by one attack, and by the worst of the sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxattack.evaluate.trial import Trial
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.durability.choosing import mean_rate, utility
from jaxattack.experiments.thresholds import ROUNDING

Trials = Mapping[Cell, Sequence[Trial]]


def ranking(trials: Trials, methods: Sequence[str], first: Cell) -> list[dict[str, Any]]:
    """A row for each defence, the one with the fewest violations after the worst attack first.

    Means over languages and seeds on test prompts; equal rates share the better rank.

    Args:
        trials: of every cell.
        methods: the defences, and that there is none.
        first: the single attack, undefended; in its languages the task is taught.
    """
    rows: list[dict[str, Any]] = []
    languages = (first.attacked or "").split("+")
    for method in methods:
        single = _of(trials, Cell("swept", None, first.attacked, method, attack=first.attack))
        worst = _of(trials, Cell("worst", method=method))
        if not single or not worst:
            continue
        rows.append(
            {
                "method": method,
                "first": _mean([mean_rate(one, "violation_rate") for one in single]),
                "worst": _mean([mean_rate(one, "violation_rate") for one in worst]),
                "utility": _mean([utility(one) for one in worst]),
                "task": _mean([mean_rate(_spoken(one, languages), "task_rate") for one in single]),
            }
        )
    for by in ("first", "worst"):
        for row in rows:
            row[f"rank_{by}"] = 1 + sum(other[by] < row[by] - ROUNDING for other in rows)
    return sorted(rows, key=lambda row: row["rank_worst"])


def _of(trials: Trials, cell: Cell) -> list[Sequence[Trial]]:
    """Trials of a cell's seeds."""
    return [own for known, own in trials.items() if known.of(None) == cell]


def _spoken(trials: Sequence[Trial], languages: Sequence[str]) -> list[Trial]:
    return [trial for trial in trials if trial.language in languages]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
