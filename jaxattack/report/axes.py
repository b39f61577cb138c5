"""What charts share: options, looks of series, axes, words and legends."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from jaxattack.report.labels import SHARES, header, is_number, short, text, word
from jaxattack.report.palette import COLOURS, INK, SERIES
from jaxattack.report.rate import Rate

WIDTH = 4.2  # inches; at 9.5 pt still readable on a phone, two side by side on a desk
LINES, LINE = 6, 0.19  # of a legend in a picture of the usual height; inches of each one more
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


def looks_of(names: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], Look]:
    """The look of each series: its own, or one of many of equal rank.

    Of series that two values tell apart, the first decides on the colour, the second on the line.
    """
    found = {name: LOOKS[name[0]] for name in names if len(name) == 1 and name[0] in LOOKS}
    taken = {(look.colour, look.marker) for look in found.values()}
    ranked = (
        (colour, _MARKERS[(turn + i) % len(_MARKERS)])
        for turn in range(len(_MARKERS))
        for i, colour in enumerate(SERIES)
    )
    free = itertools.cycle([pair for pair in ranked if pair not in taken])
    others = [name for name in names if name not in found]
    firsts = dict(zip(dict.fromkeys(name[:1] for name in others), free, strict=False))
    seconds = list(dict.fromkeys(name[1:2] for name in others))
    for name in others:
        found[name] = Look(*firsts[name[:1]], "--" if seconds.index(name[1:2]) else "-")
    return {name: found[name] for name in names}


def number_axis(axes: Axes, x: str, places: Mapping[Any, float], look: Options) -> None:
    """The numbers of a column, on x; and y as the values need it."""
    if look.log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.tick_params(axis="x", labelsize=7.5)
    if look.at:
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol="\u00a0%"))
    elif not look.bare:
        written = [
            short(text(x, v) if is_number(v) and x not in SHARES else word(x, v)) for v in places
        ]
        axes.set_xticks(
            list(places.values()),
            [t.removesuffix(".0").replace("\u00a0", "\u202f") for t in written],
        )
    axes.set_xlabel(look.xlabel)
    if look.unit == "rate":
        percent_axis(axes.yaxis)
        axes.set_ylim(-0.04, 1.04)
    if look.log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def words_of(columns: Sequence[str], key: Sequence[Any], names: Mapping[Any, str]) -> str:
    """Some columns' values in words, on one line."""
    if len(key) == 1 and key[0] in names:
        return names[key[0]]
    found = header(dict(zip(columns, key, strict=True)))
    if len(key) == 1 and found.second:  # a language: its name says it all
        return found.second
    return ", ".join(filter(None, found))


def mark(look: Look) -> dict[str, Any]:
    """Style of a lone marker."""
    tall = {"ms": 15, "mew": 1.8} if look.marker == "|" else {"ms": 7, "mew": 0}
    return {"marker": look.marker, "ls": "none", "color": COLOURS[look.colour].light, **tall}


def value_axis(axes: Axes, look: Options) -> None:
    """The values of rows, on x."""
    if look.unit == "rate":
        axes.set_xlim(-0.03, 1.03)
        percent_axis(axes.xaxis)
    if look.limits:
        axes.set_xlim(*look.limits)
        if look.limits[0] < 0 < look.limits[1]:
            axes.axvline(0, color=INK.light, lw=1)
    axes.set_xlabel(look.xlabel)
    axes.grid(axis="x", lw=0.6)


def percent_axis(axis: Any) -> None:
    """An axis from 0 to 100 %."""
    axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol="\u00a0%"))
    axis.set_ticks([0, 0.25, 0.5, 0.75, 1])


def legend(figure: Figure, axes: Axes) -> None:
    """One entry for every name, above the axes, whose room many names do not take."""
    handles, names = axes.get_legend_handles_labels()
    first = {name: handle for handle, name in zip(handles[::-1], names[::-1], strict=True)}
    shown = list(dict.fromkeys(names))
    more = math.ceil(len(shown) / 2) - LINES
    figure.set_figheight(figure.get_figheight() + LINE * max(0, more))
    style: dict[str, Any] = {"ncols": 2, "fontsize": 8.5, "handlelength": 2.6}
    figure.legend(
        [first[n] for n in shown], [short(n) for n in shown], loc="outside upper left", **style
    )
