"""A number of a page with what is needed to judge it.

Two kinds of interval must not be confused, so a `Rate` knows which one it carries: a measured cell
has its 95 % interval, a mean of several the lowest and highest of them.
"""

from dataclasses import dataclass

from jaxattack.report.labels import exact


@dataclass(frozen=True)
class Rate:
    """A rate, or another number, with what is needed to judge it.

    Attributes:
        value: mean over seeds, and over cells.
        low, high: bounds; None where the rows give none.
        n: what was counted, for one seed.
        cells: how many cells were averaged; 1 is a measured cell.
        interval: whether the bounds are of a 95 % interval; else they are the lowest and highest.
        seeds: each seed's own value; empty where there is only one.
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int = 0
    cells: int = 1
    interval: bool = False
    seeds: tuple[tuple[int, float], ...] = ()

    def bounds(self, unit: str = "rate") -> str:
        """`41.2 % to 60.3 %`; empty without any."""
        if self.low is None or self.high is None:
            return ""
        return f"{exact(self.low, unit)} to {exact(self.high, unit)}"

    def by_seed(self, unit: str = "rate") -> str:
        """`seed 0: 62.5 %, seed 1: 66.7 %`; empty for one seed."""
        return ", ".join(f"seed {seed}: {exact(value, unit)}" for seed, value in self.seeds)

    def describe(self, unit: str = "rate") -> str:
        """All of it on one line."""
        mean = f"mean of {self.cells}, from" if self.cells > 1 else "seeds from"
        parts = [f"{'95 % interval' if self.interval else mean} {self.bounds(unit)}"]
        parts = parts if self.bounds() else []
        if self.n:
            parts.append(f"n = {self.n:,}" + (" for each seed" if self.seeds else ""))
        parts += [self.by_seed(unit)] if self.seeds else []
        return exact(self.value, unit) + (f" ({'; '.join(parts)})" if parts else "")
