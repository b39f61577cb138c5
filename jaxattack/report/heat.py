"""Heat tables: rates by rows and columns of a table, each a coloured square with its tip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jaxattack.report.labels import Header, header, number, percent
from jaxattack.report.table import Rate, Table

SIGNIFICANT = 0.05  # after Holm's correction

Key = tuple[Any, ...]


class Square(NamedTuple):
    """One cell; `value` gives its colour, `tip` what pointing at or tapping it shows.

    `second` is a smaller line below the text.
    """

    text: str
    tip: str = ""
    value: float | None = None
    marked: bool = False
    second: str = ""


@dataclass(frozen=True)
class Heat:
    """A heat table: shown as HTML in the page, drawn by `figures` for the PNG."""

    caption: str
    corner: str
    columns: tuple[Header, ...]
    rows: tuple[Header, ...]
    cells: tuple[tuple[Square, ...], ...]
    ramp: str
    top: float = 1.0


@dataclass(frozen=True)
class Extra:
    """A further column (or row) of a heat table, of other rows of results.

    Attributes:
        head: what it is called.
        data: its rows; they are told apart by the heat's row (or column) columns.
        value, how: as of `Table.rates`.
        unit: as of `labels.number`.
        coloured: whether its squares have a colour.
        bounds: whether bounds stand below its figures, where they do below the heat's.
    """

    head: Header
    data: Table
    value: str = "value"
    how: str = "cells"
    unit: str = "rate"
    coloured: bool = True
    bounds: bool = True


@dataclass(frozen=True)
class Options:
    """How a heat table looks.

    Attributes:
        corner: what its rows and columns are.
        ramp: "violations" (bad) or "density" (neither good nor bad).
        top: the value of the deepest colour; None: the highest.
        unit: as of `labels.number`.
        how: as of `Table.rates`.
        framed: conditions on the data; squares with such rows have a frame.
        tests: paired tests with the heat's columns, `p` and `holm`; a star marks significant ones.
        bounds: whether bounds stand below each figure.
        coloured: whether squares have a colour.
        sort: rows fall in the sum of so many first columns; 0: they stand in their order.
        names: a row's or column's value -> its words, where they are not those of `labels`.
        more, under: further columns and rows.
    """

    corner: str = ""
    ramp: str = "violations"
    top: float | None = 1.0
    unit: str = "rate"
    how: str = "cells"
    framed: Mapping[str, Any] | None = None
    tests: Table = field(default_factory=Table)
    bounds: bool = False
    coloured: bool = True
    sort: int = 0
    names: Mapping[Any, str] = field(default_factory=dict)
    more: Sequence[Extra] = ()
    under: Sequence[Extra] = ()


def heat(
    data: Table,
    rows: str | Sequence[str],
    columns: str | Sequence[str],
    caption: str,
    value: str = "value",
    options: Options | None = None,
) -> Heat | None:
    """A heat table of a value by some columns of the data; None without a single rate.

    Whatever else differs between the rows of one square is averaged as `Table.rates` says.
    """
    look = options or Options()
    down, across = _names(rows), _names(columns)
    found = data.rates([*down, *across], value, look.how)
    if not found:
        return None
    lines = list(data.rates(down, value, look.how))
    places = list(data.rates(across, value, look.how))
    if look.sort:
        levels = {y: [found[y + x].value if y + x in found else 0.0 for x in places] for y in lines}
        lines.sort(key=lambda y: -sum(levels[y][: look.sort]))
    framed = {*data.where(**look.framed).rates([*down, *across], value)} if look.framed else set()
    tests = {tuple(test[name] for name in [*down, *across]): test for test in look.tests.records()}
    heads = {y: _head(down, y, look.names) for y in lines}
    tops = {x: _head(across, x, look.names) for x in places}
    extra = [(one, one.data.rates(down, one.value, one.how)) for one in look.more]
    body = []
    for y in lines:
        squares = []
        for x in places:
            what = f"{heads[y].plain}, {tops[x].plain}"
            square = _square(found.get(y + x), what, look, y + x in framed)
            squares.append(_tested(square, tests.get(y + x)))
        for one, rates in extra:
            squares.append(_extra(rates.get(y), f"{heads[y].plain}, {one.head.plain}", one, look))
        body.append(tuple(squares))
    for one in look.under:
        rates = one.data.rates(across, one.value, one.how)
        squares = [
            _extra(rates.get(x), f"{one.head.plain}, {tops[x].plain}", one, look) for x in places
        ]
        body.append((*squares, *(Square("") for _ in extra)))
    return Heat(
        caption,
        look.corner,
        (*tops.values(), *(one.head for one in look.more)),
        (*heads.values(), *(one.head for one in look.under)),
        tuple(body),
        look.ramp,
        look.top or max(rate.value for rate in found.values()) or 1.0,
    )


def _names(columns: str | Sequence[str]) -> list[str]:
    return [columns] if isinstance(columns, str) else list(columns)


def _head(columns: Sequence[str], key: Key, names: Mapping[Any, str]) -> Header:
    if len(key) == 1 and key[0] in names:
        return Header(names[key[0]])
    return header(dict(zip(columns, key, strict=True)))


def _square(rate: Rate | None, what: str, look: Options, framed: bool) -> Square:
    if rate is None:
        return Square("–", f"{what}: not measured", None, framed)
    second = rate.bounds(look.unit) if look.bounds else ""
    if second and look.unit == "rate":
        second = f"{100 * (rate.low or 0):.0f}–{100 * (rate.high or 0):.0f}"
    shown = rate.value if look.coloured else None
    return Square(
        _bare(rate.value, look.unit), f"{what}: {rate.describe(look.unit)}", shown, framed, second
    )


def _extra(rate: Rate | None, what: str, one: Extra, look: Options) -> Square:
    own = Options(unit=one.unit, coloured=one.coloured, bounds=look.bounds and one.bounds)
    return _square(rate, what, own, False)


def _tested(square: Square, test: Mapping[str, Any] | None) -> Square:
    if not test or test.get("holm") is None:
        return square
    tip = f"{square.tip}; exact McNemar p = {test['p']:.2g}, after Holm {test['holm']:.2g}"
    star = "*" if test["holm"] < SIGNIFICANT else ""
    return square._replace(text=square.text + star, tip=tip)


def _bare(value: float, unit: str) -> str:
    """Rates without their sign; below one per cent with two digits, where they are no counts."""
    return percent(value).removesuffix("\u00a0%") if unit == "rate" else number(value, unit)
