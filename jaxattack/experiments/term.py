"""Figures over rates of cells, which add, subtract and divide: what claims are made of.

    added = rate(after, but("en")) - rate(before, but("en"))
    share(sil) - best(share(rival) for rival in rivals)

A figure comes with an interval over seeds and prompts, paired by both (see `intervals`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxattack.evaluate import intervals
from jaxattack.evaluate.intervals import Bounds, Floats
from jaxattack.experiments.cell import Cell
from jaxattack.experiments.outcomes import VIOLATION, Outcomes
from jaxattack.experiments.thresholds import NOTHING

Where = Callable[[str], bool]  # which languages
Seen = Mapping[str, Outcomes]  # by metric


def anywhere(language: str) -> bool:
    """Every language that was measured."""
    return True


def only(*languages: str) -> Where:
    """These languages."""
    return lambda code: code in languages


def but(*languages: str) -> Where:
    """All languages but these."""
    return lambda code: code not in languages


@dataclasses.dataclass(frozen=True)
class Figure:
    """A number with its 95 % interval, what that is over, and the number of every seed.

    None is what cannot be told, such as a share of nothing. What is known from a table is one too.
    `draws` is what its seeds are.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    over: str = ""
    unit: str = ""
    seeds: tuple[float | None, ...] = ()
    n_seeds: int | None = None
    n_prompts: int | None = None
    draws: str = "seeds"

    def written(self) -> dict[str, Any]:
        """As results.json has it."""
        return dataclasses.asdict(self) | {"seeds": list(self.seeds)}


@dataclasses.dataclass(frozen=True)
class OfCells:
    """A figure to be computed of trials.

    Attributes:
        metric: whose rates; "": of a number.
        cells: of which it is made.
    """

    metric: str
    cells: tuple[Cell, ...]

    def measured(self, seen: Seen) -> bool:
        """Whether all of the cells were, of which there have to be some."""
        known = seen.get(self.metric)
        return bool(self.cells) and known is not None and known.has(*self.cells)

    def figure(self, seen: Seen) -> Figure:
        """The number, of outcomes that have all of the cells."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Means:
    """Mean hits, `values` `[..., cells, languages]`; nan: not measured."""

    values: Floats
    cells: tuple[Cell, ...]
    languages: tuple[str, ...]

    def rate(self, cell: Cell, where: Where) -> Floats:
        """Mean over those languages that were measured, nan where none was: `[...]`."""
        found = self.values[..., self.cells.index(cell), :]
        known = ~np.isnan(found) & [where(code) for code in self.languages]
        total, count = np.where(known, found, 0.0).sum(-1), known.sum(-1)
        return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


@dataclasses.dataclass(frozen=True)
class Term(OfCells):
    """A smooth function of rates.

    Attributes:
        at: its value `[...]`.
        bounds: the lowest and the highest value it can have; None: it has none.
    """

    at: Callable[[Means], Floats]
    bounds: Bounds

    def __add__(self, other: Term | float) -> Term:
        return _joined(np.add, (self, _term(other)), _sum)

    def __sub__(self, other: Any) -> Any:
        if isinstance(other, Best):
            return _extreme([self - each for each in other.terms], lowest=not other.lowest)
        return _joined(np.subtract, (self, _term(other)), _difference)

    def __rsub__(self, other: float) -> Term:
        return _term(other) - self

    def __truediv__(self, other: Term) -> Term:
        return _joined(ratio, (self, other), lambda _: None)

    def statistic(self, seen: Outcomes) -> intervals.Statistic:
        """The same of the means of outcomes."""
        return lambda values: self.at(Means(values, seen.cells, seen.languages))

    def estimate(self, seen: Outcomes) -> intervals.Estimate:
        """Its value and error."""
        trained = not set(seen.cells) <= seen.untrained
        found = intervals.estimate(seen.values, self.statistic(seen), self.bounds, trained)
        return dataclasses.replace(found, draw=seen.draw)

    def figure(self, seen: Seen) -> Figure:
        """The number, of outcomes that have all of the cells."""
        chosen = seen[self.metric].only(self.cells)
        found = self.estimate(chosen)
        return _written(chosen, found, (found.value, *found.interval()), self.statistic(chosen))


@dataclasses.dataclass(frozen=True)
class Best(OfCells):
    """The highest of several terms, or the lowest."""

    terms: tuple[Term, ...]
    lowest: bool

    def __sub__(self, other: Term | float) -> Best:
        return _extreme([each - other for each in self.terms], self.lowest)

    def __rsub__(self, other: float) -> Best:
        return _term(other) - self

    def figure(self, seen: Seen) -> Figure:
        """The number; its interval holds whichever of the terms it is (see `intervals.least`)."""
        chosen = seen[self.metric].only(self.cells)
        found = [term.estimate(chosen) for term in self.terms]
        if self.lowest:
            bounds = intervals.least(found)
        else:
            value, low, high = intervals.least([_negative(each) for each in found])
            bounds = -value, -high, -low

        def pick(values: Floats) -> Floats:
            means = Means(values, chosen.cells, chosen.languages)
            each = _side_by_side([term.at(means) for term in self.terms])
            return each.min(-1) if self.lowest else each.max(-1)

        return _written(chosen, found[0], bounds, pick)


@dataclasses.dataclass(frozen=True)
class Count(OfCells):
    """In how many languages a rate lies above a threshold, for the cell with most of them."""

    above: float

    def figure(self, seen: Seen) -> Figure:
        """The number; its interval holds for all languages and cells at once."""
        chosen = seen[self.metric].only(self.cells)
        counted, first = [], None
        for cell in self.cells:
            one = chosen.only([cell])
            each = [rate(cell, only(code), self.metric).estimate(one) for code in one.common]
            counted.append(intervals.how_many(each, self.above, len(self.cells)))
            first = first or each[0]
        assert first is not None
        value, low, high = (max(column) for column in zip(*counted, strict=True))

        def most(means: Floats) -> Floats:
            return np.max(np.sum(means > self.above, axis=-1), axis=-1)

        found = _written(chosen, first, (value, low, high), most)
        over = f"{found.over}; all languages at once"
        return dataclasses.replace(found, over=over, unit="count")


def rate(cell: Cell, where: Where = anywhere, metric: str = VIOLATION) -> Term:
    """Mean of a metric over the languages of `where` that were measured."""
    cell = cell.of(None)
    return Term(metric, (cell,), lambda means: means.rate(cell, where), (0.0, 1.0))


def added(after: Cell, before: Cell, where: Where = anywhere, metric: str = VIOLATION) -> Term:
    """By how much the rate of one cell is above that of another."""
    return rate(after, where, metric) - rate(before, where, metric)


def mean(terms: Iterable[Term]) -> Term:
    """Mean of terms."""
    return _joined(lambda *values: np.mean(_side_by_side(values), -1), tuple(terms), _middle)


def total(terms: Iterable[Term]) -> Term:
    """Sum of terms."""
    return _joined(lambda *values: np.sum(_side_by_side(values), -1), tuple(terms), _sum)


def best(terms: Iterable[Term]) -> Term | Best:
    """The highest of terms; of one it is that one."""
    terms = tuple(terms)
    return terms[0] if len(terms) == 1 else _extreme(terms, lowest=False)


def worst(terms: Iterable[Term]) -> Term | Best:
    """The lowest of terms."""
    terms = tuple(terms)
    return terms[0] if len(terms) == 1 else _extreme(terms, lowest=True)


def ratio(part: Floats, whole: Floats) -> Floats:
    """`part / whole`; nan (which counts against any bound) where the whole is next to nothing."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > NOTHING)


def finite(number: Any) -> float | None:
    """A number that JSON has, or None."""
    return float(number) if np.isfinite(number) else None


# --- What terms are joined by -------------------------------------------------------------------


def _term(value: Term | float) -> Term:
    if isinstance(value, Term):
        return value
    number = float(value)
    return Term("", (), lambda means: np.asarray(number), (number, number))


def _side_by_side(values: Sequence[Floats]) -> Floats:
    return np.stack(np.broadcast_arrays(*values), -1)


def _extreme(terms: Sequence[Term], lowest: bool) -> Best:
    return Best(_metric(terms), _cells(terms), tuple(terms), lowest)


def _joined(
    function: Callable[..., Floats],
    terms: Sequence[Term],
    bounds: Callable[[Sequence[Bounds]], Bounds],
) -> Term:
    return Term(
        _metric(terms),
        _cells(terms),
        lambda means: function(*(term.at(means) for term in terms)),
        bounds([term.bounds for term in terms]),
    )


def _metric(terms: Sequence[Term]) -> str:
    """The metric of all terms.

    Raises:
        ValueError: there are several, whose prompts are not paired.
    """
    known = dict.fromkeys(term.metric for term in terms if term.metric)
    if len(known) > 1:
        raise ValueError(f"a figure of {' and '.join(known)}: their prompts are not the same")
    return next(iter(known), "")


def _cells(terms: Sequence[Term]) -> tuple[Cell, ...]:
    return tuple(dict.fromkeys(cell for term in terms for cell in term.cells))


def _sum(bounds: Sequence[Bounds]) -> Bounds:
    known = [each for each in bounds if each is not None]
    if len(known) < len(bounds):
        return None
    return sum(low for low, _ in known), sum(high for _, high in known)


def _middle(bounds: Sequence[Bounds]) -> Bounds:
    found, count = _sum(bounds), max(len(bounds), 1)
    return found and (found[0] / count, found[1] / count)


def _difference(bounds: Sequence[Bounds]) -> Bounds:
    one, other = bounds
    if one is None or other is None:
        return None
    return one[0] - other[1], one[1] - other[0]


def _negative(found: intervals.Estimate) -> intervals.Estimate:
    bounds = found.bounds and (-found.bounds[1], -found.bounds[0])
    return dataclasses.replace(found, value=-found.value, bounds=bounds)


def _written(
    seen: Outcomes,
    found: intervals.Estimate,
    bounds: tuple[float, float, float],
    statistic: Callable[[Floats], Any],
) -> Figure:
    """A value with its interval, what that covers, and the value of every seed."""
    each = [statistic(intervals.means(seen.values[:, [i]])) for i in range(len(seen.seeds))]
    value, low, high = map(finite, bounds)
    unit = "ratio" if found.bounds is None else "rate"
    seeds = tuple(map(finite, each))
    draws = f"{seen.draw}s"
    return Figure(value, low, high, found.over, unit, seeds, found.seeds, found.prompts, draws)
