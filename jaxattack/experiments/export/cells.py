"""A run by cell: what every export is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from jaxattack.evaluate.rates import OF_WEIGHTS
from jaxattack.experiments.cell import Cell, cell_of
from jaxattack.experiments.runs import Run

Row = Mapping[str, Any]


# Prompts that have a source of their own, by the cell's column `prompts`.
SOURCES = {"untaught": "data.untaught", "validation": "data.validation"}


@dataclasses.dataclass(frozen=True)
class Measured:
    """One cell of a run.

    Attributes:
        cell: which.
        trials: rows of trials.parquet.
        rates: rows of results.json that count replies.
    """

    cell: Cell
    trials: Sequence[Row]
    rates: Sequence[Row]

    @property
    def name(self) -> str:
        """Of the cell, with its seed."""
        return self.cell.variant + ("" if self.cell.seed is None else f"-s{self.cell.seed}")


def source(run: Run, cell: Cell) -> str:
    """The URI of a cell's prompts."""
    return str(run.config[SOURCES.get(cell.prompts or "", "data.prompts")])


def cells(run: Run) -> list[Measured]:
    """Every cell of a run that has replies, in their order."""
    trials: dict[Cell, list[Row]] = {}
    for row in run.trials:
        trials.setdefault(cell_of(row), []).append(row)
    rates: dict[Cell, list[Row]] = {}
    for row in run.results["rows"]:
        if row["metric"] not in OF_WEIGHTS:
            rates.setdefault(cell_of(row), []).append(row)
    return [Measured(cell, own, rates.get(cell, ())) for cell, own in trials.items()]


def texts(run: Run) -> dict[tuple[Any, ...], tuple[str, str]]:
    """Prompt and reply where the run shows them (`config.report.replies`), by cell and prompt."""
    return {
        (row["variant"], row["seed"], row["language"], row["id"]): (row["prompt"], row["reply"])
        for row in run.results.get("replies") or ()
    }
