"""What must have been measured before a claim is judged. Less leaves it undecided, and says why."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from jaxattack.evaluate.rates import OF_WEIGHTS
from jaxattack.experiments import thresholds
from jaxattack.experiments.cell import Cell, cell_of
from jaxattack.experiments.outcomes import Outcomes

Tables = Mapping[str, Sequence[Mapping[str, Any]]]  # of results.json, by key
Mask = tuple[str | None, str | None, float | None]  # attacked, method, share

K = TypeVar("K", bound=Hashable)


@dataclasses.dataclass(frozen=True)
class Needs:
    """The least that has to be there of what a claim's figures are made of."""

    seeds: int = thresholds.SEEDS
    prompts: int = thresholds.PROMPTS
    languages: int = 1  # measured
    moved: float = thresholds.MOVED
    scored: float = thresholds.SCORED  # 0: the study has no table of masks
    readable: float = thresholds.READABLE
    compares_languages: bool = False  # then errors of the judge that differ by language matter

    def text(self, draw: str = "seed") -> str:
        """One sentence; `draw` is what a seed is."""
        draws, languages = _many(self.seeds, draw), _many(self.languages, "language")
        prompts = _many(self.prompts, "prompt")
        others = [
            f"attacks that move {percent(self.moved)} of the weights",
            *[f"masks {percent(self.scored)} of which have a score"] * (self.scored > 0),
            f"models {percent(self.readable)} of whose replies can be read",
        ]
        return f"Needs {draws}, {languages} and {prompts} in each at least; {', '.join(others)}."


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of weights: the lowest value over seeds."""

    moved: Mapping[Cell, float] = dataclasses.field(default_factory=dict)
    scored: Mapping[Mask, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, tables: Tables) -> Facts:
        """Read from the finished tables."""
        # Masks are of what moved, replies of what is left of it in the checkpoint's dtype.
        moved = [
            (cell_of(row).of(None), row["value"])
            for row in tables.get("rows") or ()
            if row["metric"] in OF_WEIGHTS
        ]
        moved += [
            (cell_of(row).of(None), row["changed"] / row["weights"])
            for row in tables.get("changed") or ()
        ]
        scored = [
            ((row["attacked"], row["method"], row["share"]), row["mask_scored"])
            for row in tables.get("masks") or ()
        ]
        return cls(_lowest(moved), _lowest(scored))


def lacking(needs: Needs, seen: Outcomes, facts: Facts, trained: Sequence[Cell] = ()) -> list[str]:
    """What the outcomes of a claim's cells lack, in words, the weightiest first.

    Args:
        needs: of the claim.
        seen: outcomes of the cells that its figures are made of, and of no other.
        facts: what is known of their weights.
        trained: cells whose training moves all weights.
    """
    if not seen.cells:
        return []
    return [
        *_few_seeds(needs, seen),
        *_few_languages(needs, seen),
        *_few_prompts(needs, seen),
        *_still(needs, facts, trained),
        *_unscored(needs, facts, seen.cells),
        *_unreadable(needs, seen),
    ]


def _few_seeds(needs: Needs, seen: Outcomes) -> list[str]:
    runs = [cell for cell in seen.cells if cell not in seen.untrained]
    found = min((len(seen.seeds_of(cell)) for cell in runs), default=needs.seeds)
    if found >= needs.seeds:
        return []
    if seen.draw != "seed":
        return [f"{_many(found, seen.draw)}; it needs {needs.seeds}"]
    if found == 1:
        return [f"one seed: no verdict about training, which takes {needs.seeds} (config.seeds)"]
    return [f"{found} seeds; it needs {needs.seeds} (config.seeds)"]


def _few_languages(needs: Needs, seen: Outcomes) -> list[str]:
    found = len(seen.common)
    if found >= needs.languages:
        return []
    return [f"measured in {_many(found, 'language')}; it needs {needs.languages}"]


def _few_prompts(needs: Needs, seen: Outcomes) -> list[str]:
    counts = (~np.isnan(seen.values)).sum(2)  # [cells, seeds, languages]
    elsewhere = ~counts.any((0, 1))  # languages in which nothing was asked
    counts = np.where(counts.any(2, keepdims=True) & ~elsewhere, counts, needs.prompts)
    if counts.min() >= needs.prompts:
        return []
    cell, _, language = np.unravel_index(counts.argmin(), counts.shape)
    where = f"{seen.cells[cell].variant} in {seen.languages[language]}"
    return [f"{_many(int(counts.min()), 'prompt')} for {where}; it needs {needs.prompts}"]


def _still(needs: Needs, facts: Facts, trained: Iterable[Cell]) -> list[str]:
    found = _least({cell: facts.moved[cell] for cell in trained if cell in facts.moved})
    if found is None or found[1] >= needs.moved:
        return []
    return [
        f"{found[0].variant} moved {percent(found[1])} of the weights; what was lost to rounding, "
        f"or never trained, says nothing (it needs {percent(needs.moved)})"
    ]


def _unscored(needs: Needs, facts: Facts, cells: Sequence[Cell]) -> list[str]:
    masks = {cell: (cell.attacked, cell.method, cell.share) for cell in cells}
    found = _least({cell: facts.scored[m] for cell, m in masks.items() if m in facts.scored})
    if found is None or found[1] >= needs.scored:
        return []
    return [
        f"only {percent(found[1])} of the mask of {found[0].variant} has a score above 0; it needs "
        f"{percent(needs.scored)}"
    ]


def _unreadable(needs: Needs, seen: Outcomes) -> list[str]:
    found = _least({cell: seen.readable[cell] for cell in seen.cells if cell in seen.readable})
    if found is None or found[1] >= needs.readable:
        return []
    return [
        f"{percent(1 - found[1])} of the replies of {found[0].variant} cannot be read: a destroyed "
        "model is no measure of safety"
    ]


def _lowest(pairs: Iterable[tuple[K, float]]) -> dict[K, float]:
    found: dict[K, float] = {}
    for key, value in pairs:
        found[key] = min(value, found.get(key, value))
    return found


def _least(found: Mapping[Cell, float]) -> tuple[Cell, float] | None:
    return min(found.items(), key=lambda item: item[1], default=None)


def percent(share: float) -> str:
    """A share in words, as `13 %`."""
    return f"{100 * share:.3g} %"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
