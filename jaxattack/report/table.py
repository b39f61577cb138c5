"""Rows of results as tables one can filter and average; pandas is used here alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from jaxattack.evaluate.rates import wilson
from jaxattack.report import labels
from jaxattack.report.rate import Rate

# What tells cells apart; a mean goes over seeds first, then within an attack, then over attacks.
_KEYS = (
    "run kind attacked method share pairs round contrast model trigger target rate prompts setting "
    "words language metric trigger_language decoy attack strength defended judge a b set layer "
    "module measure side step"
).split()


class Table:
    """Rows with named columns; every method gives another table and changes none."""

    def __init__(self, rows: Iterable[Mapping[str, Any]] | pd.DataFrame = ()) -> None:
        self._frame = (
            rows
            if isinstance(rows, pd.DataFrame)
            else pd.DataFrame([dict(row) for row in rows], dtype=object)
        )

    def __len__(self) -> int:
        return len(self._frame)

    def __add__(self, other: Table) -> Table:
        both = [table._frame for table in (self, other) if len(table)]
        return Table(pd.concat(both, ignore_index=True)) if both else self

    # --- Rows -------------------------------------------------------------------------------------

    def where(self, **conditions: Any) -> Table:
        """The rows with these values; a list means any of it, None that there is no value."""
        return Table(self._frame[self._fits(conditions)])

    def but(self, **conditions: Any) -> Table:
        """The rows without them."""
        return Table(self._frame[~self._fits(conditions)])

    def set(self, **columns: Any) -> Table:
        """With the same value in every row of a column."""
        return Table(self._frame.assign(**columns)) if len(self) else self

    def copied(self, **columns: str) -> Table:
        """With further names for columns: `copied(value="jaccard")`."""
        return Table(self._frame.assign(**{new: self._column(old) for new, old in columns.items()}))

    def ratio(self, part: str, *whole: str) -> Table:
        """With `value` a column over the sum of others, which is `n`; rows with 0 are left out."""
        total = sum(pd.to_numeric(self._column(name)) for name in whole)
        found = self._frame.assign(value=pd.to_numeric(self._column(part)) / total, n=total)
        return Table(found[found["n"] > 0])

    def against(self, other: Table, on: str) -> Table:
        """With `value` as a multiple of that of another table's row with the same `on`."""
        base = {row[on]: row["value"] for row in other.records() if row["value"]}
        shared = [row for row in self.records() if row[on] in base]
        return Table({**row, "value": row["value"] / base[row[on]]} for row in shared)

    def wide(self, by: Sequence[str], column: str) -> Table:
        """A row for each value of `by`, its mean values in columns named by those of `column`."""
        rows: dict[tuple[Any, ...], dict[str, Any]] = {}
        for (*key, name), rate in self.rates([*by, column]).items():
            row = rows.setdefault(tuple(key), dict(zip(by, key, strict=True)))
            row[name] = rate.value
        return Table(rows.values())

    def part_of_all(self, column: str) -> Table:
        """With `value` the row's part of the sum of a column; to be summed."""
        numbers = pd.to_numeric(self._column(column))
        return Table(self._frame.assign(value=numbers / max(numbers.sum(), 1)))

    def each(self, column: str, values: Sequence[Any]) -> Table:
        """All rows once for every value of a column."""
        return Table(
            pd.concat(
                [self._frame.assign(**{column: v}) for v in values] or [_NOTHING], ignore_index=True
            )
        )

    def in_order(self, column: str, values: Sequence[Any]) -> Table:
        """The rows by a column's values in the order given; None comes first, others last."""
        ranks = {value: rank for rank, value in enumerate(values)}
        order = self._column(column).map(lambda v: ranks.get(v, len(ranks)) if _known(v) else -1)
        return Table(self._frame.iloc[order.argsort(kind="stable")])

    def equal(self, one: str, two: str) -> Table:
        """The rows in which two columns have the same value."""
        return Table(self._frame[self._column(one) == self._column(two)])

    def unequal(self, one: str, two: str) -> Table:
        """The others."""
        return Table(self._frame[self._column(one) != self._column(two)])

    def joined(self, column: str, of: Sequence[str], by: str = " – ") -> Table:
        """With a column that joins the words of others."""
        words = [by.join(labels.word(n, row[n]) for n in of) for row in self.records()]
        return Table(self._frame.assign(**{column: words}))

    def beside(self, other: Table, on: Sequence[str]) -> Table:
        """With the columns of another table's row that has the same values; others are left out."""
        new = [name for name in other._frame if name in on or name not in self._frame]
        if not len(self) or not len(other):
            return Table()
        return Table(self._frame.merge(other._frame[new], on=list(on)))

    def sides(self) -> Table:
        """With `side`: "own" in a language attacked, "others" in one that was not."""

        def side(language: Any, attacked: Any) -> str | None:
            if not isinstance(attacked, str):
                return None
            return "own" if language in attacked.split("+") else "others"

        pairs = zip(self._column("language"), self._column("attacked"), strict=True)
        return Table(self._frame.assign(side=[side(*pair) for pair in pairs]))

    def steps(self, column: str, most: int = 200) -> Table:
        """A row for each entry of a list: its `step` and `value`, averaged down to `most`."""
        rows = []
        for row in self.records():
            values = pd.Series(row.pop(column), dtype=float)
            width = -(-len(values) // most) or 1
            means = values.groupby(values.index // width).mean()
            rows += [{**row, "step": i * width + 1, "value": v} for i, v in means.items()]
        return Table(rows)

    def ends(self, column: str) -> Table:
        """With the `first`, `lowest` and `last` entry of a list, and how many `steps` it has."""
        rows = [row for row in self.records() if row[column]]
        return Table(
            row
            | {"first": row[column][0], "lowest": min(row[column]), "last": row[column][-1]}
            | {"steps": len(row[column])}
            for row in rows
        )

    # --- Values -----------------------------------------------------------------------------------

    def values(self, column: str) -> list[Any]:
        """Distinct values of a column as they are shown, without None."""
        return labels.order(column, [v for v in self._column(column) if _known(v)])

    def most(self, column: str) -> Any:
        """The value of most rows (the least of equals); None without any."""
        counts = Counter(sorted(v for v in self._column(column) if _known(v)))
        return max(counts, key=counts.__getitem__, default=None)

    def sum(self, column: str) -> Any:
        """The sum of a column."""
        return sum(v for v in self._column(column) if _known(v))

    def records(self) -> list[dict[str, Any]]:
        """The rows, None where there is no value."""
        frame = self._frame.astype(object)
        return frame.where(frame.notna(), None).to_dict("records")

    def keys(self, by: Sequence[str], value: str = "value") -> list[tuple[Any, ...]]:
        """Distinct values of some columns as they are shown, of rows that have a number."""
        columns = [self._column(name) for name in (*by, value)]
        found = {
            tuple(one if _known(one) else None for one in key): None
            for *key, number in zip(*columns, strict=True)
            if labels.is_number(number)
        }
        return _ordered(by, list(found))

    # --- Means ------------------------------------------------------------------------------------

    def rates(
        self, by: str | Sequence[str], value: str = "value", how: str = "cells"
    ) -> dict[tuple[Any, ...], Rate]:
        """One rate for each distinct value of some columns, in the order in which they are shown.

        Args:
            by: columns.
            value: the column of numbers; rows without a finite one are left out.
            how: "cells": means over seeds, then over what tells cells apart within an attack, then
                over attacks. "pooled": all of a seed's `n` taken together, with a Wilson interval
                where rows have intervals. "sum": the sum of the rows.
        """
        names = [by] if isinstance(by, str) else list(by)
        cells, seeds = self._numbers(value, names)
        if cells.empty:
            return {}
        if how == "sum":
            found = _grouped(cells, names, value=("value", "sum"))
            found = found.assign(low=None, high=None, n=0, cells=1, interval=False)
            seeds = []
        elif how == "pooled":
            found = _over_seeds(_pooled(cells, [*names, "seed"]), names, seeds)
        else:
            apart = [k for k in _KEYS if k in cells and cells[k].nunique(dropna=False) > 1]
            found = _over_seeds(cells, list(dict.fromkeys([*names, *apart])), seeds)
            inner = (*names, *({"attacked"} & {*apart} - {*names}))
            for level in dict.fromkeys((inner, tuple(names))):
                found = _mean(found, level, seeds) if {*apart} - {*level} else found
        rates = {
            tuple(row[name] if _known(row[name]) else None for name in names): _rate(row, seeds)
            for row in found.sort_values("at").to_dict("records")
        }
        return {key: rates[key] for key in _ordered(names, list(rates))}

    def rate(self, value: str = "value", how: str = "cells") -> Rate | None:
        """One rate of all rows; None without any."""
        return next(iter(self.set(all="all").rates("all", value, how).values()), None)

    def means(self, by: Sequence[str], value: str = "value", how: str = "cells") -> Table:
        """The same as a table, with `value`, `low`, `high` and `n`."""
        return Table(
            dict(zip(by, key, strict=True))
            | {"value": rate.value, "low": rate.low, "high": rate.high, "n": rate.n}
            for key, rate in self.rates(by, value, how).items()
        )

    def _numbers(self, value: str, names: Sequence[str]) -> tuple[pd.DataFrame, list[int]]:
        """The rows with a finite value, numbers as numbers; and the seeds, if several."""
        frame = self._frame[[labels.is_number(v) for v in self._column(value)]]
        frame = frame.assign(**{name: None for name in names if name not in frame})
        given = {"low": "low", "high": "high", "n": "n", "value": value}
        numbers = {to: pd.to_numeric(self._column(of)[frame.index]) for to, of in given.items()}
        numbers["n"] = numbers["n"].fillna(0)
        frame = frame.assign(**numbers, seed=frame.get("seed"), at=range(len(frame)))
        seeds = sorted(s for s in frame["seed"].unique() if _known(s))
        return frame, seeds if len(seeds) > 1 and "seed" not in names else []

    def _column(self, name: str) -> pd.Series:
        missing = pd.Series([None] * len(self), index=self._frame.index, dtype=object)
        return self._frame.get(name, missing)

    def _fits(self, conditions: Mapping[str, Any]) -> pd.Series:
        fits = pd.Series(True, index=self._frame.index)
        for name, wanted in conditions.items():
            column = self._column(name)
            if isinstance(wanted, (list, tuple)):
                fits &= column.isin([w for w in wanted if w is not None])
                fits |= column.isna() if None in wanted else False
            else:
                fits &= column.isna() if wanted is None else column.eq(wanted)
        return fits.astype(bool)


_NOTHING = pd.DataFrame()


def parquet(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, type]) -> bytes:
    """Rows as a flat Parquet file: the columns named, then the others as text.

    What is absent is null. A column's type is the one given, whatever its rows hold, so that files
    of several studies can be read as one.
    """
    frame = pd.DataFrame([dict(row) for row in rows])
    kinds = {name: _KINDS[kind] for name, kind in columns.items()}
    kinds |= {name: "string" for name in frame.columns if name not in kinds}
    return frame.reindex(columns=list(kinds)).astype(kinds).to_parquet(index=False)


def read_parquet(path: Path) -> list[dict[str, Any]]:
    """The rows of a file by `parquet`; None where it has null."""
    frame = pd.read_parquet(path).astype(object)
    return frame.where(frame.notna(), None).to_dict("records")


_KINDS = {str: "string", int: "Int64", float: "Float64", bool: "boolean"}


def _over_seeds(rows: pd.DataFrame, by: Sequence[str], seeds: Sequence[int]) -> pd.DataFrame:
    """One cell from the rows of its seeds: bounds cover all of theirs."""
    columns = {f"seed {s}": rows["value"].where(rows["seed"] == s) for s in seeds}
    found = _grouped(
        rows.assign(**columns),
        by,
        value=("value", "mean"),
        low=("low", "min"),
        high=("high", "max"),
        least=("value", "min"),
        most=("value", "max"),
        n=("n", "min"),
        runs=("value", "size"),
        **{name: (name, "mean") for name in columns},
    )
    found = found.assign(interval=found["low"].notna() & found["high"].notna(), cells=1)
    spread = ~found["interval"] & (found["runs"] > 1)
    return found.assign(
        low=found["low"].where(~spread, found["least"]),
        high=found["high"].where(~spread, found["most"]),
        # A mean has a seed only if all of its cells have: no number adds up with what is missing.
        **{name: found[name].fillna(float("inf")) for name in columns},
    )


def _pooled(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """All that was counted taken together."""
    rows = rows.assign(hits=rows["value"] * rows["n"], bounded=rows["low"].notna())
    sums = {"hits": ("hits", "sum"), "n": ("n", "sum"), "bounded": ("bounded", "all")}
    found = _grouped(rows, by, **sums)
    found = found[found["n"] > 0]
    bounds = [
        wilson(min(round(hits), int(n)), int(n)) if bounded else (None, None)
        for hits, n, bounded in zip(found["hits"], found["n"], found["bounded"], strict=True)
    ]
    low, high = (pd.Series([b[i] for b in bounds], index=found.index, dtype=float) for i in (0, 1))
    return found.assign(value=found["hits"] / found["n"], low=low, high=high)


def _mean(cells: pd.DataFrame, by: Sequence[str], seeds: Sequence[int]) -> pd.DataFrame:
    """Means of cells with their lowest and highest; a lone one keeps its own bounds."""
    size = cells.groupby(list(by), dropna=False, sort=False)["value"].transform("size")
    found = _grouped(
        cells[size > 1],
        by,
        value=("value", "mean"),
        low=("value", "min"),
        high=("value", "max"),
        n=("n", "sum"),
        cells=("value", "size"),
        **{f"seed {s}": (f"seed {s}", "mean") for s in seeds},
    )
    parts = [part for part in (cells[size == 1], found.assign(interval=False)) if len(part)]
    return pd.concat(parts, ignore_index=True)


def _grouped(rows: pd.DataFrame, by: Sequence[str], **columns: tuple[str, str]) -> pd.DataFrame:
    """A row for each group, its columns made of (column, method); None is a group too.

    `at` says where its first row was: groups stand in that order.
    """
    groups = rows.groupby(list(by), dropna=False, sort=False)
    found = {"at": groups["at"].min()}
    found |= {name: getattr(groups[column], method)() for name, (column, method) in columns.items()}
    return pd.DataFrame(found).reset_index()


def _rate(row: Mapping[Any, Any], seeds: Sequence[int]) -> Rate:
    low, high = (float(row[k]) if _known(row[k]) else None for k in ("low", "high"))
    values = [(s, float(row[f"seed {s}"])) for s in seeds if labels.is_number(row[f"seed {s}"])]
    counted = int(row["n"]), int(row["cells"]), bool(row["interval"])
    return Rate(float(row["value"]), low, high, *counted, tuple(values))


def _ordered(names: Sequence[str], keys: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    ranks = [
        {v: rank for rank, v in enumerate(labels.order(name, [key[i] for key in keys]))}
        for i, name in enumerate(names)
    ]
    return sorted(keys, key=lambda key: [rank[v] for rank, v in zip(ranks, key, strict=True)])


def _known(value: Any) -> bool:
    return value is not None and value == value  # NaN is not itself
