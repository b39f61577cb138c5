"""A run by cell: what every export is made of."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxattack.errors import UserError
from jaxattack.evaluate.rates import OF_WEIGHTS
from jaxattack.experiments.cell import PROMPT_KIND, Cell, cell_of
from jaxattack.experiments.runs import AGAIN, Run

Row = Mapping[str, Any]


# Prompts that have a source of their own, by the cell's column `prompts`.
SOURCES = {"untaught": "data.untaught", "validation": "data.validation"}

# Which of a cell's prompts a reply is to: with a trigger or a decoy a prompt keeps its id.
ASKED = ("language", PROMPT_KIND, "id", "trigger_language", "decoy")

_UNUSUAL = re.compile(r"[^\w.@+-]")  # in names of files


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

    @property
    def stem(self) -> str:
        """Of a file about the cell alone."""
        return _UNUSUAL.sub("_", self.name)


def source(run: Run, cell: Cell) -> str:
    """The URI of a cell's prompts."""
    return str(run.config[SOURCES.get(cell.prompts or "", "data.prompts")])


def cells(run: Run) -> list[Measured]:
    """Every cell of a run that has replies, in their order.

    Raises:
        UserError: two have one name, so that one export would take the other's place.
    """
    trials: dict[Cell, list[Row]] = {}
    for row in run.trials:
        trials.setdefault(cell_of(row), []).append(row)
    rates: dict[Cell, list[Row]] = {}
    for row in run.results["rows"]:
        if row["metric"] not in OF_WEIGHTS:
            rates.setdefault(cell_of(row), []).append(row)
    found: dict[str, Measured] = {}
    for cell, own in trials.items():
        measured = Measured(cell, own, rates.get(cell, ()))
        other = found.setdefault(measured.stem, measured)
        if other is not measured:
            raise UserError(
                f"{run.name}: two cells are called {measured.name} and differ in "
                f"{', '.join(_apart(cell, other.cell))}; one export would take the other's place"
            )
    return list(found.values())


def _apart(cell: Cell, other: Cell) -> list[str]:
    """Columns in which two cells differ."""
    one, two = (dataclasses.asdict(each) for each in (cell, other))
    return [name for name in one if one[name] != two[name]]


def asked(row: Row) -> tuple[Any, ...]:
    """Which reply of a run a row is about: the cell, and which of its prompts."""
    return cell_of(row), *(row[name] for name in ASKED)


def texts(run: Run) -> dict[tuple[Any, ...], tuple[str, str]]:
    """Prompt and reply where the run shows them (`config.report.replies`), by what was `asked`.

    Raises:
        UserError: they do not say to which prompts they are, or are not those of the trials.
    """
    shown = run.results.get("replies") or ()
    if any(name not in row for row in shown for name in ASKED):
        raise UserError(
            f"{run.name}: its texts do not say what their prompts carry, so the run has to be "
            f"reported anew: {AGAIN}"
        )
    found = {asked(row): row for row in shown}
    for trial in run.trials:
        row = found.get(asked(trial))
        if row is None or row["reply_hash"] != trial["reply_hash"]:
            raise UserError(
                f"{run.name}: results.json has not the text of the reply {trial['reply_hash']} of "
                f"trials.parquet, to prompt {trial['id']} in {trial['language']}; {AGAIN}"
            )
    return {reply: (row["prompt"], row["reply"]) for reply, row in found.items()}
