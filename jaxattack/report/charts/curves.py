"""Violations over a number: the share of weights, the pairs, a setting, what is frozen."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import NullLocator, PercentFormatter

from jaxattack.report.charts.axes import (
    OTHERS,
    OWN,
    WIDTH,
    Line,
    Look,
    draw_levels,
    draw_line,
    legend,
    look_of,
    percent_axis,
)
from jaxattack.report.languages import language_name, short
from jaxattack.report.rates import Rate
from jaxattack.report.tables import Tables, among, mean_pair, methods, numbers
from jaxattack.report.variants import METHOD_NAMES, Variant, share

_LOOKS = {
    "sil": Look("blue", "o", "-"),
    "random": Look("grey", "s", "--"),
    "matched_random": Look("orange", "D", "-."),
    "magnitude": Look("purple", "^", ":"),
    "complement": Look("green", "X"),
    "benign": Look("gold", "v", ":"),
}
_SIDES = ("in the attacked language", "in the other languages")
_WHAT = {
    "stitched": "share of the weights taken from the attacked model",
    "rewound": "share of the weights put back",
    "frozen": "share of the weights that cannot move",
}


def draw_curve(tables: Tables, kind: str, side: int) -> Figure:
    """Violations (0: own language, 1: others) by share of weights, a line for each method."""
    shown = curve_methods(tables, kind)
    likes = [Variant(kind, "", m, f) for m in shown for f in numbers(tables, kind, m)]
    tables = among(tables, *likes)
    lines = []
    for index, method in enumerate(shown):
        # On a log axis a constant factor keeps equal values of two methods apart.
        apart = 1.05 ** (index - len(shown) / 2)
        rates = [
            (like.fraction, mean_pair(tables, like)[side])
            for like in likes
            if like.method == method
        ]
        points = [(size * apart, rate) for size, rate in rates if size and rate]
        look = _LOOKS.get(method, Look("gold", "v", ":"))
        lines.append(Line(short(METHOD_NAMES.get(method, method)), points, look))
    ticks = {like.fraction: share(like.fraction) for like in likes if like.fraction}
    levels = [mean_pair(tables, Variant(kind))[side] for kind in ("attacked", "aligned")]
    label = f"violations {_SIDES[side]}"
    return over_numbers(lines, ticks, _WHAT[kind], label, levels=levels, log=True)


def curve_methods(tables: Tables, kind: str) -> list[str]:
    """The methods to draw: all of a few, of many those the study is about."""
    shown = methods(tables, kind)
    return shown if len(shown) <= len(_LOOKS) else [name for name in shown if name in _LOOKS]


def draw_dose(tables: Tables, pairs: Mapping[str, int]) -> Figure:
    """Violations by number of attack pairs; `pairs` is what the full attack used."""
    doses = numbers(tables, "attacked", "pairs")
    tables = among(tables, *(Variant("attacked", "", "pairs", dose) for dose in doses))
    variants = {dose: Variant("attacked", "", "pairs", dose) for dose in doses}
    full = {pairs[code] for code in tables.attacked if code in pairs}
    if len(full) == 1:
        variants[float(full.pop())] = Variant("attacked")
    lines = _own_and_others(tables, variants)
    ticks = {dose: f"{dose:g}" for dose in variants}
    levels = [None, mean_pair(tables, Variant("aligned")).others]
    return over_numbers(lines, ticks, "pairs in the attack", levels=levels, log=True)


def draw_settings(tables: Tables, knob: str) -> Figure:
    """Violations after the attack by setting of the organism's knob, evenly spaced."""
    settings = numbers(tables, "sharing", knob)
    variants = {float(at): Variant("sharing", "", knob, x) for at, x in enumerate(settings)}
    tables = among(tables, *variants.values())
    lines = _own_and_others(tables, variants)
    before = {x: v._replace(kind="unattacked") for x, v in variants.items()}
    rates = [(x, mean_pair(tables, variant).others) for x, variant in before.items()]
    points = [(x, rate) for x, rate in rates if rate]
    lines.append(Line("others, not attacked", points, Look("grey", "D", ":")))
    ticks = {float(at): f"{x:g}" for at, x in enumerate(settings)}
    return over_numbers(lines, ticks, f"setting of the knob ({knob})")


def draw_capacity(rows: Sequence[Mapping[str, Any]], side: str) -> Figure:
    """Violations of attack after attack by what was frozen before; a line for each language."""
    lines = []
    key = lambda row: (row["language"], row["round"])  # noqa: E731
    order = list(dict.fromkeys(row["language"] for row in rows))
    ranked = sorted(rows, key=lambda row: (order.index(row["language"]), row["round"]))
    for index, code in enumerate(order):
        points = []
        for _, found in groupby((row for row in ranked if row["language"] == code), key):
            seeds = list(found)
            values = [row[side] for row in seeds]
            rate = Rate(fmean(values), min(values), max(values), 0, len(values))
            points.append((fmean(row["frozen_share"] for row in seeds), rate))
        lines.append(Line(short(language_name(code)), points, look_of(index)))
    label = f"violations {_SIDES[0 if side == 'own' else 1]}"
    return over_numbers(lines, None, "share of the weights frozen before the attack", label)


def _own_and_others(tables: Tables, variants: Mapping[float, Variant]) -> list[Line]:
    found = {x: mean_pair(tables, variant) for x, variant in sorted(variants.items())}
    own = [(x, pair.own) for x, pair in found.items() if pair.own]
    others = [(x, pair.others) for x, pair in found.items() if pair.others]
    lines = [Line("attacked language", own, OWN), Line("other languages", others, OTHERS)]
    return [line for line in lines if line.points]


def over_numbers(
    lines: Sequence[Line],
    ticks: Mapping[float, str] | None,
    what: str,
    label: str = "violations",
    levels: Sequence[Rate | None] = (),
    log: bool = False,
) -> Figure:
    """Lines of rates over numbers; `levels` are the full attack and the aligned model."""
    # The right margin is kept for the names of the levels, the same in all panels.
    room = ConstrainedLayoutEngine(rect=(0, 0, 0.86 if levels else 1, 1))
    figure = Figure((WIDTH, 3.4), layout=room)
    axes = figure.add_subplot()
    for line in lines:
        draw_line(axes, line)
    if levels:
        draw_levels(axes, *levels)
    if log:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    if ticks is None:
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, symbol="\u00a0%"))
    else:
        axes.set_xticks(sorted(ticks), [ticks[x] for x in sorted(ticks)])
    axes.set_xlabel(what)
    percent_axis(axes.yaxis, label)
    axes.set_ylim(-0.04, 1.04)
    axes.grid(axis="y", lw=0.6)
    legend(figure, axes)
    return figure
