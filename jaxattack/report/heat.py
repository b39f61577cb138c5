"""Heat tables: rates by rows and columns of a table, each a coloured square with its tip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from jaxattack.report.labels import Header, exact, header, number, percent
from jaxattack.report.rate import Rate
from jaxattack.report.table import Table

SIGNIFICANT = 0.05  # after Holm's correction

Key = tuple[Any, ...]
T = TypeVar("T")


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
        missing: what is said of a square that cannot be, which stays empty.
        tips: words -> a further column whose mean a square's tip has.
        more, under: further columns and rows.
        more_first: whether those columns stand before the others.
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
    missing: str = ""
    tips: Mapping[str, str] = field(default_factory=dict)
    more: Sequence[Extra] = ()
    under: Sequence[Extra] = ()
    more_first: bool = False


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

    Args:
        data: the rates, one a row.
        rows: columns of the data whose values stand down the side.
        columns: likewise along the top.
        caption: of the table.
        value: the data's column of rates.
        options: how it looks; see there.
    """
    look = options or Options()
    down, across = _names(rows), _names(columns)
    squares = _squares(data, down, across, value, look)
    if not squares:
        return None
    lines, places = data.keys(down, value), data.keys(across, value)
    if look.sort:
        lines.sort(key=lambda y: -sum(_level(squares.get(y + x)) for x in places[: look.sort]))
    heads = {y: _head(down, y, look.names) for y in lines}
    tops = {x: _head(across, x, look.names) for x in places}
    more = [(one, one.data.rates(down, one.value, one.how)) for one in look.more]
    body = []
    for y in lines:
        line = [
            squares.get(y + x) or _square(None, f"{heads[y].plain}, {tops[x].plain}", look)
            for x in places
        ]
        beside = [_extra(rates.get(y), heads[y], one.head, one, look) for one, rates in more]
        body.append(_in_order(line, beside, look))
    for one in look.under:
        rates = one.data.rates(across, one.value, one.how)
        line = [_extra(rates.get(x), one.head, tops[x], one, look) for x in places]
        body.append(_in_order(line, [Square("") for _ in more], look))
    return Heat(
        caption,
        look.corner,
        _in_order([*tops.values()], [one.head for one in look.more], look),
        (*heads.values(), *(one.head for one in look.under)),
        tuple(body),
        look.ramp,
        look.top or max(map(_level, squares.values())) or 1.0,
    )


def _squares(
    data: Table, down: Sequence[str], across: Sequence[str], value: str, look: Options
) -> dict[Key, Square]:
    """The measured squares by their row's and their column's values, with tests and notes."""
    by = [*down, *across]
    framed = {*data.where(**look.framed).keys(by, value)} if look.framed else set()
    tests = {tuple(test[name] for name in by): test for test in look.tests.records()}
    notes = [(words, data.rates(by, name, look.how)) for words, name in look.tips.items()]
    found = {}
    for key, rate in data.rates(by, value, look.how).items():
        first, second = key[: len(down)], key[len(down) :]
        what = f"{_head(down, first, look.names).plain}, {_head(across, second, look.names).plain}"
        square = _tested(_square(rate, what, look, key in framed), tests.get(key))
        beside = [
            f"; {w} {exact(rates[key].value, look.unit)}" for w, rates in notes if key in rates
        ]
        found[key] = square._replace(tip="".join([square.tip, *beside]))
    return found


def _in_order(own: list[T], more: list[T], look: Options) -> tuple[T, ...]:
    return tuple(more + own if look.more_first else own + more)


def _names(columns: str | Sequence[str]) -> list[str]:
    return [columns] if isinstance(columns, str) else list(columns)


def _head(columns: Sequence[str], key: Key, names: Mapping[Any, str]) -> Header:
    if len(key) == 1 and key[0] in names:
        return Header(names[key[0]])
    return header(dict(zip(columns, key, strict=True)))


def _square(rate: Rate | None, what: str, look: Options, framed: bool = False) -> Square:
    if rate is None:
        tip = f"{what}: {look.missing or 'not measured'}"
        return Square("" if look.missing else "–", tip, None, framed)
    second = rate.bounds(look.unit) if look.bounds else ""
    if second and look.unit == "rate":
        second = f"{100 * (rate.low or 0):.0f}–{100 * (rate.high or 0):.0f}"
    tip = f"{what}: {rate.describe(look.unit)}"
    colour = rate.value if look.coloured else None
    return Square(_bare(rate.value, look.unit), tip, colour, framed, second)


def _extra(rate: Rate | None, row: Header, column: Header, one: Extra, look: Options) -> Square:
    own = Options(unit=one.unit, coloured=one.coloured, bounds=look.bounds and one.bounds)
    return _square(rate, f"{row.plain}, {column.plain}", own)


def _level(square: Square | None) -> float:
    return square.value if square and square.value is not None else 0.0


def _tested(square: Square, test: Mapping[str, Any] | None) -> Square:
    if not test or test.get("holm") is None:
        return square
    tip = f"{square.tip}; exact McNemar p = {test['p']:.2g}, after Holm {test['holm']:.2g}"
    star = "*" if test["holm"] < SIGNIFICANT else ""
    return square._replace(text=square.text + star, tip=tip)


def _bare(value: float, unit: str) -> str:
    """Rates without their sign, which the caption has."""
    return percent(value).removesuffix("\u00a0%") if unit == "rate" else number(value, unit)
