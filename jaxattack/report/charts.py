"""The charts: matplotlib's object interface only, no global state."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from jaxattack.report.languages import language_name, short
from jaxattack.report.masks import Dot
from jaxattack.report.palette import COLOURS, GRID, INK, PAGE, SERIES
from jaxattack.report.tables import (
    METHOD_NAMES,
    Rate,
    Tables,
    Variant,
    fractions,
    mean_pair,
    methods,
    pairs,
    parse_variant,
    percent,
    share,
)

_WIDTH = 4.2  # inches; at 9.5 pt still readable on a phone, two side by side on a desk


class _Look(NamedTuple):
    colour: str
    marker: str
    line: str = "none"


_METHOD_LOOKS = {
    "sil": _Look("blue", "o", "-"),
    "random": _Look("grey", "s", "--"),
    "matched_random": _Look("orange", "D", "-."),
    "magnitude": _Look("purple", "^", ":"),
    "complement": _Look("green", "X"),
}


def draw_curve(tables: Tables, own: bool) -> Figure:
    """Violations against the share of weights stitched in, one line per way to choose them."""
    # The right margin is kept for the names of the two levels, the same in both panels.
    figure = Figure((_WIDTH, 3.4), layout=ConstrainedLayoutEngine(rect=(0, 0, 0.86, 1)))
    axes = figure.add_subplot()
    shown, side = methods(tables), 0 if own else 1
    for index, method in enumerate(shown):
        look = _METHOD_LOOKS.get(method, _Look("gold", "v", ":"))
        points = []
        for fraction in fractions(tables, method):
            rate = mean_pair(tables, Variant("stitched", "", method, fraction))[side]
            # On a log axis a constant factor keeps equal values of two methods apart.
            points += [(fraction * 1.05 ** (index - len(shown) / 2), rate)] if rate else []
        _line(axes, points, look, short(METHOD_NAMES.get(method, method)))
    _levels(axes, *(mean_pair(tables, Variant(k))[side] for k in ("attacked", "aligned")))
    ticks = sorted({fraction for method in shown for fraction in fractions(tables, method)})
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(ticks, [share(tick) for tick in ticks])
    axes.set_xlabel("share of the weights taken from the attacked model")
    where = "in the attacked language" if own else "in the other languages"
    _percent_axis(axes.yaxis, f"violations {where}")
    axes.set_ylim(-0.04, 1.04)
    axes.grid(axis="y", lw=0.6)
    _legend(figure, axes)
    return figure


def draw_overlap(dots: Sequence[Dot]) -> Figure:
    """One dot per pair of masks against chance; the bar runs from lowest to highest seed."""
    figure = Figure((_WIDTH, 0.9 + 0.26 * len(dots)), layout="constrained")
    axes = figure.add_subplot()
    for y, (_, _, value, low, high, chance) in enumerate(dots):
        axes.plot([chance, value], [y, y], color=GRID.light, lw=3, zorder=1)
        axes.plot([low, high], [y, y], color=SERIES["blue"].light, lw=1.4)
        axes.plot(value, y, "o", color=SERIES["blue"].light, label="measured")
        style: dict[str, Any] = {"color": INK.light, "ms": 11, "mew": 1.6}
        axes.plot(chance, y, "|", label="by chance", **style)
        axes.annotate(
            f"{value:.2f}", (max(high, chance), y), (7, 0), textcoords="offset points", va="center"
        )
    names = [f"{language_name(dot.a)} – {language_name(dot.b)}" for dot in dots]
    axes.set_yticks(range(len(dots)), [short(name) for name in names])
    axes.set(xlim=(0, 1), ylim=(len(dots) - 0.5, -0.5), xlabel="Jaccard overlap of the two masks")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", lw=0.6)
    _legend(figure, axes)
    return figure


def draw_freeze(tables: Tables) -> Figure:
    """Free, frozen and rewound, per attack: in the attacked language and in the others."""
    mask = Variant("", "", "sil", tables.fraction)
    # Name, variant, look and a shift off the line, so that equal values stay apart.
    stages = (
        ("attacked freely", Variant("attacked"), _Look("red", "o"), 0.0),
        ("mask frozen, attacked", mask._replace(kind="frozen"), _Look("blue", "s"), -0.2),
        ("attacked, rewound", mask._replace(kind="rewound"), _Look("green", "^"), 0.2),
        ("aligned", Variant("aligned"), _Look("ink", "|"), 0.0),
    )
    rows = [(language, side) for language in tables.attacked for side in ("own", "others")]
    figure = Figure((_WIDTH, 1.1 + 0.36 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for name, like, look, shift in stages:
        found = pairs(tables, like)
        for y, (language, side) in enumerate(rows):
            rate = getattr(found.get(language), side, None)
            free = getattr(pairs(tables, Variant("attacked")).get(language), side, None)
            if rate:
                ends = [rate.value, free.value if free else rate.value]
                axes.plot(ends, [y, y], color=GRID.light, lw=3, zorder=1)
                axes.plot(rate.value, y + shift, label=name, **_mark(look))
    for y in range(2, len(rows), 2):
        axes.axhline(y - 0.5, color=GRID.light, lw=0.8)
    names = [short(language_name(c)) if side == "own" else "other languages" for c, side in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.set(xlim=(-0.03, 1.03), ylim=(len(rows) - 0.5, -0.5))
    axes.tick_params(axis="y", length=0)
    _percent_axis(axes.xaxis, "violations")
    axes.grid(axis="x", lw=0.6)
    _legend(figure, axes)
    return figure


def draw_loss(runs: Sequence[Mapping[str, Any]], most: int = 200) -> Figure:
    """Loss of every attack, frozen ones dashed; long runs are averaged down to `most` points."""
    figure = Figure((_WIDTH, 3.2), layout="constrained")
    axes = figure.add_subplot()
    languages = list(dict.fromkeys(parse_variant(run["variant"]).language for run in runs))
    for run in runs:
        variant = parse_variant(run["variant"])
        width = -(-len(run["loss"]) // most)
        steps = range(0, len(run["loss"]), width)
        loss = [fmean(run["loss"][start : start + width]) for start in steps]
        colour = list(SERIES.values())[languages.index(variant.language) % len(SERIES)].light
        line = "-" if variant.kind == "attacked" else "--"
        label = short(language_name(variant.language))
        label += "" if variant.kind == "attacked" else f", {variant.kind}"
        axes.plot([s + 1 for s in steps], loss, line, color=colour, lw=1.2, label=label)
    if all(value > 0 for run in runs for value in run["loss"]):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    axes.set(xlabel="step", ylabel="attack loss")
    axes.grid(axis="y", lw=0.6)
    _legend(figure, axes)
    return figure


def _line(axes: Axes, points: Sequence[tuple[float, Rate | None]], look: _Look, name: str) -> None:
    colour = SERIES[look.colour].light
    rates = [(x, rate) for x, rate in points if rate]
    for x, rate in rates:
        if rate.low is not None and rate.high is not None:
            axes.plot([x, x], [rate.low, rate.high], color=colour, lw=1, alpha=0.55, zorder=2)
    style: dict[str, Any] = {"ms": 6, "mec": PAGE.light, "mew": 0.7, "label": name}
    xs, ys = [x for x, _ in rates], [rate.value for _, rate in rates]
    axes.plot(xs, ys, ls=look.line, marker=look.marker, color=colour, **style)


def _levels(axes: Axes, full: Rate | None, base: Rate | None) -> None:
    """Name the full attack and the aligned model at the right edge, without overlap."""
    close = full is not None and base is not None and abs(full.value - base.value) < 0.25
    for rate, name, style, away in (
        (full, "full\nattack", "--", "bottom"),
        (base, "aligned", ":", "top"),
    ):
        if rate:
            axes.axhline(rate.value, color=INK.light, lw=1, ls=style, zorder=1)
            axes.annotate(
                f"{name}\n{percent(rate.value)}",
                (1.02, rate.value),
                xycoords=("axes fraction", "data"),
                va=away if close else "center",
                fontsize=8.5,
                annotation_clip=False,
            ).set_in_layout(False)


def _mark(look: _Look) -> dict[str, Any]:
    tall = {"ms": 15, "mew": 1.8} if look.marker == "|" else {"ms": 7, "mew": 0}
    return {"marker": look.marker, "ls": "none", "color": COLOURS[look.colour].light, **tall}


def _percent_axis(axis: Any, label: str) -> None:
    axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol="\u00a0%"))
    axis.set_ticks([0, 0.25, 0.5, 0.75, 1])
    axis.set_label_text(label)


def _legend(figure: Figure, axes: Axes) -> None:
    """One entry for every name, above the axes."""
    handles, labels = axes.get_legend_handles_labels()
    first = {label: handle for handle, label in zip(handles[::-1], labels[::-1], strict=True)}
    names = list(dict.fromkeys(labels))[:12]
    style: dict[str, Any] = {"ncols": 2, "fontsize": 8.5, "handlelength": 2.6}
    figure.legend([first[name] for name in names], names, loc="outside upper left", **style)
