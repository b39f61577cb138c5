"""Charts of tables: lines over numbers, dots on rows, points of a scatter, bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from jaxattack.report.labels import (
    SHARES,
    Header,
    header,
    is_number,
    number,
    percent,
    short,
    text,
    word,
)
from jaxattack.report.palette import COLOURS, GRID, INK, MUTED, PAGE, SERIES
from jaxattack.report.table import Rate, Table

WIDTH = 4.2  # inches; at 9.5 pt still readable on a phone, two side by side on a desk
_MARKERS = "osD^vXP"


class Look(NamedTuple):
    """Colour (a name of the palette), marker and line of a series."""

    colour: str
    marker: str
    line: str = "none"


# Of the values that the same charts show again and again; others take what is left.
LOOKS = {
    "own": Look("red", "o", "-"),
    "others": Look("blue", "s", "--"),
    "all": Look("green", "D", ":"),
    "sil": Look("blue", "o", "-"),
    "random": Look("grey", "s", "--"),
    "matched_random": Look("orange", "D", "-."),
    "magnitude": Look("purple", "^", ":"),
    "complement": Look("green", "X"),
    "benign": Look("gold", "v", ":"),
    "attacked": Look("red", "o", "-"),
    "frozen": Look("blue", "s"),
    "rewound": Look("green", "^"),
    "restitched": Look("purple", "v"),
    "aligned": Look("ink", "|", ":"),
}


@dataclass(frozen=True)
class Options:
    """How a chart looks; which of it applies, the chart says.

    Attributes:
        xlabel, ylabel: of the axes.
        unit: of the values, as of `labels.number`; "rate" runs from 0 to 100 %.
        how: as of `Table.rates`.
        log, even: x on a log scale, or its values evenly spaced.
        log_y: y on a log scale.
        levels: name -> a rate to draw across.
        at: where the mean of a column gives the place on x, and x only what belongs together.
        bare: lines without marks and bars.
        each: of lines, a column of which every value has a line of its own; of dots, what every
            row is called, which is a pale dot.
        whiskers: bars at dots.
        joined: a band from the first to the last dot of a row.
        written: the value beside the dot.
        chance, null: columns of what chance gives, and of its 95 %.
        sort: the highest row first.
        limits: of x.
        names: a series' or row's value -> its words, where they are not those of `labels`.
    """

    xlabel: str = ""
    ylabel: str = ""
    unit: str = "rate"
    how: str = "cells"
    log: bool = False
    even: bool = False
    log_y: bool = False
    levels: Mapping[str, Rate | None] = field(default_factory=dict)
    at: str = ""
    bare: bool = False
    each: str = ""
    whiskers: bool = False
    joined: bool = False
    written: bool = False
    chance: str = ""
    null: Sequence[str] = ()
    sort: bool = False
    limits: Sequence[float] = ()
    names: Mapping[Any, str] = field(default_factory=dict)


# --- Lines ----------------------------------------------------------------------------------------


def draw_lines(data: Table, x: str, series: Sequence[str], value: str, look: Options) -> Figure:
    """A line for each value of the columns `series`; bars from the lowest to the highest."""
    each = [look.each] if look.each else []
    rates = data.rates([*series, *each, x], value, look.how)
    size = len(series)
    names = list(dict.fromkeys(key[:size] for key in rates))
    numbers = list(dict.fromkeys(key[-1] for key in data.rates([x], value)))
    places = {v: float(i) if look.even else float(v) for i, v in enumerate(numbers)}
    if look.at:
        means = data.rates([*series, *each, x], look.at)
    # The right margin is kept for the names of the levels, the same in all panels.
    room = ConstrainedLayoutEngine(rect=(0, 0, 0.86 if look.levels else 1, 1))
    figure = Figure((WIDTH, 3.4), layout=room)
    axes = figure.add_subplot()
    looks = looks_of(names)
    for index, name in enumerate(names):
        # On a log axis a constant factor keeps equal values of two lines apart.
        apart = 1.05 ** (index - len(names) / 2) if look.log and not look.bare else 1.0
        for run in dict.fromkeys(key[:-1] for key in rates if key[:size] == name):
            found = {key: rate for key, rate in rates.items() if key[:-1] == run}
            points = [
                (means[key].value if look.at else places[key[-1]] * apart, rate)
                for key, rate in found.items()
            ]
            _line(axes, _words(series, name, look.names), points, looks[name], look.bare)
    _levels(axes, look.levels)
    _number_axis(axes, x, places, look)
    axes.set_ylabel(look.ylabel)
    axes.grid(axis="y", lw=0.6)
    _legend(figure, axes)
    return figure


def looks_of(names: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], Look]:
    """The look of each series: its own, or one of many of equal rank.

    Of series that two values tell apart, the first decides on the colour, the second on the line.
    """
    colours, found = list(SERIES), {}
    firsts, seconds = (list(dict.fromkeys(name[at : at + 1] for name in names)) for at in (0, 1))
    for name in names:
        index, line = firsts.index(name[:1]), "--" if seconds.index(name[1:2]) else "-"
        look = Look(colours[index % len(colours)], _MARKERS[index % len(_MARKERS)], line)
        found[name] = LOOKS.get(name[0], look) if len(name) == 1 else look
    return found


def _line(
    axes: Axes, name: str, points: Sequence[tuple[float, Rate]], look: Look, bare: bool
) -> None:
    colour = COLOURS[look.colour].light
    xs, ys = [x for x, _ in points], [rate.value for _, rate in points]
    if bare:
        axes.plot(xs, ys, look.line, color=colour, lw=1.2, label=name)
        return
    for x, rate in points:
        if rate.low is not None and rate.high is not None:
            axes.plot([x, x], [rate.low, rate.high], color=colour, lw=1, alpha=0.55, zorder=2)
    style: dict[str, Any] = {"ms": 6, "mec": PAGE.light, "mew": 0.7, "label": name}
    axes.plot(xs, ys, ls=look.line, marker=look.marker, color=colour, **style)


def _levels(axes: Axes, levels: Mapping[str, Rate | None]) -> None:
    """Name levels at the right edge, without overlap."""
    known = sorted(
        ((rate.value, name) for name, rate in levels.items() if rate), key=lambda one: -one[0]
    )
    close = len(known) > 1 and known[0][0] - known[-1][0] < 0.25
    for index, (value, name) in enumerate(known):
        axes.axhline(value, color=INK.light, lw=1, ls="--" if index == 0 < len(known) - 1 else ":")
        axes.annotate(
            f"{name}\n{percent(value)}",
            (1.02, value),
            xycoords=("axes fraction", "data"),
            va=("bottom" if index == 0 else "top") if close else "center",
            fontsize=8.5,
            annotation_clip=False,
        ).set_in_layout(False)


def _number_axis(axes: Axes, x: str, places: Mapping[Any, float], look: Options) -> None:
    if look.log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.tick_params(axis="x", labelsize=8)
    if look.at:
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol="\u00a0%"))
    elif not look.bare:
        written = [
            short(text(x, v) if is_number(v) and x not in SHARES else word(x, v)) for v in places
        ]
        axes.set_xticks(list(places.values()), [t.removesuffix(".0") for t in written])
    axes.set_xlabel(look.xlabel)
    if look.unit == "rate":
        _percent_axis(axes.yaxis)
        axes.set_ylim(-0.04, 1.04)
    if look.log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


# --- Dots -----------------------------------------------------------------------------------------


def draw_dots(
    data: Table, rows: Sequence[str], series: Sequence[str], value: str, look: Options
) -> Figure:
    """Rows below each other, a mark for each series; equal values of several stay apart."""
    rates = data.rates([*rows, *series], value, look.how)
    means = data.rates(rows, value, look.how)
    lines = sorted(means, key=lambda key: -means[key].value) if look.sort else list(means)
    names = list(dict.fromkeys(key[len(rows) :] for key in rates))
    looks = looks_of(names)
    figure = Figure((WIDTH, 1.1 + 0.34 * len(lines)), layout="constrained")
    axes = figure.add_subplot()
    for y, line in enumerate(lines):
        found = {name: rates[line + name] for name in names if line + name in rates}
        values = [rate.value for rate in found.values()]
        own = data.where(**dict(zip(rows, line, strict=True)))
        chance = _chance(axes, y, own, look)
        edge = max(chance, default=0.0)
        if look.joined:
            ends = [*values, *chance[:1]]
            axes.plot([min(ends), max(ends)], [y, y], color=GRID.light, lw=3, zorder=1)
        if look.each:
            edge = max(edge, _each(axes, y, own, value, look))
        for name, rate in found.items():
            index, mark = names.index(name), looks[name]
            shift = 0.5 * (index / (len(names) - 1) - 0.5) if len(names) > 1 else 0.0
            where = y + (0.0 if mark.marker == "|" else shift)
            if look.whiskers and rate.low is not None and rate.high is not None:
                colour = COLOURS[mark.colour].light
                axes.plot([rate.low, rate.high], [where, where], color=colour, lw=1.4)
                edge = max(edge, rate.high)
            label = _words(series, name, look.names) if series else "mean"
            axes.plot(rate.value, where, label=label, **_mark(mark))
        if look.written:
            place: dict[str, Any] = {"textcoords": "offset points", "va": "center"}
            axes.annotate(number(values[0], look.unit), (max(edge, *values), y), (7, 0), **place)
    _row_names(axes, rows, lines, look.names)
    _value_axis(axes, look)
    _legend(figure, axes)
    return figure


def _chance(axes: Axes, y: float, own: Table, look: Options) -> list[float]:
    """What chance gives, and the 95 % of random ones; returns where they are."""
    found = []
    chance = own.rate(look.chance) if look.chance else None
    if chance is not None:
        style: dict[str, Any] = {"color": INK.light, "ms": 11, "mew": 1.6}
        axes.plot(chance.value, y, "|", label="by chance", **style)
        found.append(chance.value)
    lows, highs = (own.values(name) for name in look.null or ("", ""))
    if lows and highs:
        band: dict[str, Any] = {"solid_capstyle": "butt", "label": "random masks, 95 %"}
        axes.plot([min(lows), max(highs)], [y, y], color=INK.light, lw=9, alpha=0.3, **band)
        found += [min(lows), max(highs)]
    return found


def _each(axes: Axes, y: float, own: Table, value: str, look: Options) -> float:
    """Every one as a pale dot, below the line, where the mean does not hide them."""
    values = [row[value] for row in own.records() if is_number(row.get(value))]
    pale: dict[str, Any] = {"color": SERIES["blue"].light, "alpha": 0.35, "mew": 0, "ms": 5}
    axes.plot(values, [y + 0.24] * len(values), "o", label=look.each, **pale)
    return max(values)


def _row_names(
    axes: Axes, rows: Sequence[str], lines: Sequence[tuple[Any, ...]], names: Mapping[Any, str]
) -> None:
    """Of rows; of those that share their first word, only the first has it."""
    written: list[str] = []
    for index, line in enumerate(lines):
        same = len(line) > 1 and index > 0 and lines[index - 1][0] == line[0]
        if len(line) > 1 and not same and index > 0 and lines[-1][0] != lines[0][0]:
            axes.axhline(index - 0.5, color=GRID.light, lw=0.8)
        words = _words(rows[1:] if same else rows, line[1:] if same else line, names)
        written.append("\n".join(short(part) for part in words.split("\n")))
    axes.set_yticks(range(len(written)), written)
    axes.set_ylim(len(written) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


# --- Points and bars ------------------------------------------------------------------------------


def draw_scatter(data: Table, x: str, y: str, series: Sequence[str], look: Options) -> Figure:
    """A point for each row."""
    figure = Figure((WIDTH, 3.6), layout="constrained")
    axes = figure.add_subplot()
    rows = [row for row in data.records() if is_number(row.get(x)) and is_number(row.get(y))]
    looks = looks_of(list(dict.fromkeys(tuple(row.get(name) for name in series) for row in rows)))
    for row in rows:
        name = tuple(row.get(key) for key in series)
        style = _mark(looks[name]) | {"alpha": 0.7, "ms": 6}
        axes.plot(row[x], row[y], label=_words(series, name, look.names), **style)
    for level in look.levels.values():
        if level:
            axes.axhline(level.value, color=MUTED.light, lw=1, ls=":", zorder=1)
    axes.set(xlabel=look.xlabel, ylabel=look.ylabel)
    if look.unit == "rate":
        _percent_axis(axes.yaxis)
        axes.set_ylim(-0.04, 1.04)
    if look.limits:
        axes.set_xlim(*look.limits)
        _percent_axis(axes.xaxis)
    axes.grid(lw=0.6)
    if series:
        _legend(figure, axes)
    return figure


def draw_bars(data: Table, rows: Sequence[str], value: str, look: Options) -> Figure:
    """A bar for each row, the longest first."""
    rates = data.rates(rows, value, look.how)
    lines = sorted(rates, key=lambda key: -rates[key].value)
    figure = Figure((WIDTH, 0.7 + 0.32 * len(lines)), layout="constrained")
    axes = figure.add_subplot()
    values = [rates[line].value for line in lines]
    axes.barh(range(len(lines)), values, color=SERIES["blue"].light, height=0.62)
    for y, one in enumerate(values):
        where: dict[str, Any] = {"textcoords": "offset points", "va": "center"}
        axes.annotate(number(one, look.unit), (one, y), (5, 0), **where)
    axes.set_yticks(range(len(lines)), [short(_words(rows, line, look.names)) for line in lines])
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.set_xlim(0, 1.18 * max(values))
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(look.xlabel)
    axes.grid(axis="x", lw=0.6)
    axes.set_axisbelow(True)
    return figure


# --- What they share ------------------------------------------------------------------------------


def _words(columns: Sequence[str], key: Sequence[Any], names: Mapping[Any, str]) -> str:
    if len(key) == 1 and key[0] in names:
        return names[key[0]]
    found = header(dict(zip(columns, key, strict=True)))
    if len(key) == 1 and found.second:  # a language: its name says it all
        return found.second
    return ", ".join(filter(None, Header(*found)))


def _mark(look: Look) -> dict[str, Any]:
    tall = {"ms": 15, "mew": 1.8} if look.marker == "|" else {"ms": 7, "mew": 0}
    return {"marker": look.marker, "ls": "none", "color": COLOURS[look.colour].light, **tall}


def _value_axis(axes: Axes, look: Options) -> None:
    if look.unit == "rate":
        axes.set_xlim(-0.03, 1.03)
        _percent_axis(axes.xaxis)
    if look.limits:
        axes.set_xlim(*look.limits)
        if look.limits[0] < 0 < look.limits[1]:
            axes.axvline(0, color=INK.light, lw=1)
    axes.set_xlabel(look.xlabel)
    axes.grid(axis="x", lw=0.6)


def _percent_axis(axis: Any) -> None:
    axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol="\u00a0%"))
    axis.set_ticks([0, 0.25, 0.5, 0.75, 1])


def _legend(figure: Figure, axes: Axes) -> None:
    """One entry for every name, above the axes."""
    handles, names = axes.get_legend_handles_labels()
    first = {name: handle for handle, name in zip(handles[::-1], names[::-1], strict=True)}
    shown = list(dict.fromkeys(names))[:12]
    style: dict[str, Any] = {"ncols": 2, "fontsize": 8.5, "handlelength": 2.6}
    figure.legend(
        [first[n] for n in shown], [short(n) for n in shown], loc="outside upper left", **style
    )
