"""Charts of tables: lines over numbers, dots on rows, points of a scatter, bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from jaxattack.report.axes import (
    WIDTH,
    Look,
    Options,
    legend,
    looks_of,
    mark,
    number_axis,
    percent_axis,
    value_axis,
    words_of,
)
from jaxattack.report.labels import is_number, number, percent, short
from jaxattack.report.palette import COLOURS, GRID, INK, MUTED, PAGE, SERIES
from jaxattack.report.rate import Rate
from jaxattack.report.table import Table

__all__ = ["Options", "draw_bars", "draw_dots", "draw_lines", "draw_scatter"]

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
            _line(axes, words_of(series, name, look.names), points, looks[name], look.bare)
    _levels(axes, look.levels)
    number_axis(axes, x, places, look)
    axes.set_ylabel(look.ylabel)
    axes.grid(axis="y", lw=0.6)
    legend(figure, axes)
    return figure


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
            index, own_look = names.index(name), looks[name]
            shift = 0.5 * (index / (len(names) - 1) - 0.5) if len(names) > 1 else 0.0
            where = y + (0.0 if own_look.marker == "|" else shift)
            if look.whiskers and rate.low is not None and rate.high is not None:
                colour = COLOURS[own_look.colour].light
                axes.plot([rate.low, rate.high], [where, where], color=colour, lw=1.4)
                edge = max(edge, rate.high)
            label = words_of(series, name, look.names) if series else "mean"
            axes.plot(rate.value, where, label=label, **mark(own_look))
        if look.written:
            place: dict[str, Any] = {"textcoords": "offset points", "va": "center"}
            axes.annotate(number(values[0], look.unit), (max(edge, *values), y), (7, 0), **place)
    _row_names(axes, rows, lines, look.names)
    value_axis(axes, look)
    legend(figure, axes)
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
        words = words_of(rows[1:] if same else rows, line[1:] if same else line, names)
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
        style = mark(looks[name]) | {"alpha": 0.7, "ms": 6}
        axes.plot(row[x], row[y], label=words_of(series, name, look.names), **style)
    for level in look.levels.values():
        if level:
            axes.axhline(level.value, color=MUTED.light, lw=1, ls=":", zorder=1)
    axes.set(xlabel=look.xlabel, ylabel=look.ylabel)
    if look.unit == "rate":
        percent_axis(axes.yaxis)
        axes.set_ylim(-0.04, 1.04)
    if look.limits:
        axes.set_xlim(*look.limits)
        percent_axis(axes.xaxis)
    axes.grid(lw=0.6)
    if series:
        legend(figure, axes)
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
    axes.set_yticks(range(len(lines)), [short(words_of(rows, line, look.names)) for line in lines])
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.set_xlim(0, 1.18 * max(values) or 1)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(look.xlabel)
    axes.grid(axis="x", lw=0.6)
    axes.set_axisbelow(True)
    return figure
