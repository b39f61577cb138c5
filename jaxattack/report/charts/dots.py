"""Dots on lines: freezes, overlaps, correlations, and languages as points of a scatter."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxattack.report.charts.axes import WIDTH, Look, legend, mark, percent_axis
from jaxattack.report.languages import language_name, short
from jaxattack.report.overlaps import Dot, Strip
from jaxattack.report.palette import GRID, INK, SERIES
from jaxattack.report.tables import Tables, among, pairs
from jaxattack.report.variants import Variant


def draw_overlap(dots: Sequence[Dot], names: Sequence[str] = ()) -> Figure:
    """One dot per pair of masks against chance; the bar runs from lowest to highest seed.

    `names` are the pairs' where they are no languages.
    """
    figure = Figure((WIDTH, 0.9 + 0.26 * len(dots)), layout="constrained")
    axes = figure.add_subplot()
    for y, dot in enumerate(dots):
        axes.plot([dot.chance, dot.value], [y, y], color=GRID.light, lw=3, zorder=1)
        axes.plot([dot.low, dot.high], [y, y], color=SERIES["blue"].light, lw=1.4)
        axes.plot(dot.value, y, "o", color=SERIES["blue"].light, label="measured")
        _null(axes, y, dot.null, dot.chance)
        _value(axes, y, dot.value, max(dot.high, dot.chance))
    pairs_ = [f"{language_name(dot.a)} – {language_name(dot.b)}" for dot in dots]
    _rows(axes, [short(name) for name in names or pairs_])
    axes.set(xlim=(0, 1), xlabel="Jaccard overlap of the two masks")
    axes.grid(axis="x", lw=0.6)
    legend(figure, axes)
    return figure


def draw_strips(strips: Sequence[Strip]) -> Figure:
    """Kinds of overlap below each other: every pair a pale dot, their mean a strong one."""
    figure = Figure((WIDTH, 1.1 + 0.48 * len(strips)), layout="constrained")
    axes = figure.add_subplot()
    for y, strip in enumerate(strips):
        pale: dict[str, Any] = {"color": SERIES["blue"].light, "alpha": 0.35, "mew": 0, "ms": 5}
        # Below the line, where the mean does not hide them.
        axes.plot(strip.values, [y + 0.24] * len(strip.values), "o", label="one pair", **pale)
        axes.plot(fmean(strip.values), y, "D", color=SERIES["blue"].light, ms=6, label="mean")
        _null(axes, y, strip.null, strip.chance)
        _value(axes, y, fmean(strip.values), max(*strip.values, strip.chance))
    _rows(axes, [strip.name for strip in strips])
    top = max(value for strip in strips for value in (*strip.values, strip.chance))
    axes.set(xlim=(0, min(1.0, 1.2 * top)), xlabel="Jaccard overlap of the two masks")
    axes.grid(axis="x", lw=0.6)
    legend(figure, axes)
    return figure


def draw_freeze(tables: Tables) -> Figure:
    """Free, frozen and rewound, per attack: in the attacked language and in the others."""
    mask = Variant("", "", "sil", tables.fraction)
    random = Variant("frozen", "", "random", tables.fraction)
    # Name, variant, look and a shift off the line, so that equal values stay apart.
    stages = (
        ("attacked freely", Variant("attacked"), Look("red", "o"), 0.0),
        ("mask frozen, attacked", mask._replace(kind="frozen"), Look("blue", "s"), -0.16),
        ("random frozen, attacked", random, Look("grey", "D"), -0.32),
        ("attacked, rewound", mask._replace(kind="rewound"), Look("green", "^"), 0.16),
        ("new mask, stitched", mask._replace(kind="restitched"), Look("purple", "v"), 0.32),
        ("aligned", Variant("aligned"), Look("ink", "|"), 0.0),
    )
    tables = among(tables, *(like for _, like, _, _ in stages if like.fraction is not None))
    rows = [(language, side) for language in tables.attacked for side in ("own", "others")]
    figure = Figure((WIDTH, 1.1 + 0.44 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    free = pairs(tables, Variant("attacked"))
    for name, like, look, shift in stages:
        found = pairs(tables, like)
        for y, (language, side) in enumerate(rows):
            rate = getattr(found.get(language), side, None)
            full = getattr(free.get(language), side, None)
            if rate:
                ends = [rate.value, full.value if full else rate.value]
                axes.plot(ends, [y, y], color=GRID.light, lw=3, zorder=1)
                axes.plot(rate.value, y + shift, label=name, **mark(look))
    for y in range(2, len(rows), 2):
        axes.axhline(y - 0.5, color=GRID.light, lw=0.8)
    names = [short(language_name(c)) if side == "own" else "other languages" for c, side in rows]
    _rows(axes, names)
    axes.set_xlim(-0.03, 1.03)
    percent_axis(axes.xaxis, "violations")
    axes.grid(axis="x", lw=0.6)
    legend(figure, axes)
    return figure


def draw_rho(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Rank correlation by layer, one mark for each measure of similarity, with its interval."""
    layers = sorted({row["layer"] for row in rows})
    measures = list(dict.fromkeys(row["measure"] for row in rows))
    figure = Figure((WIDTH, 1.2 + 0.36 * len(layers)), layout="constrained")
    axes = figure.add_subplot()
    axes.axvline(0, color=INK.light, lw=1)
    looks = (Look("blue", "o"), Look("orange", "D"), Look("green", "^"))
    for row in rows:
        at = measures.index(row["measure"])
        y = layers.index(row["layer"]) + 0.24 * (at - (len(measures) - 1) / 2)
        look = looks[at % len(looks)]
        if row.get("low") is not None and row.get("high") is not None:
            axes.plot([row["low"], row["high"]], [y, y], color=SERIES[look.colour].light, lw=1.4)
        axes.plot(row["rho"], y, label=measure_name(row["measure"]), **mark(look))
    _rows(axes, [f"layer {layer}" for layer in layers])
    axes.set(xlim=(-1.03, 1.03), xlabel="rank correlation with transfer (Spearman’s ρ)")
    axes.grid(axis="x", lw=0.6)
    legend(figure, axes)
    return figure


def draw_scatter(points: Sequence[tuple[float, float]], measure: str) -> Figure:
    """Similarity of two languages against violations carried from the one into the other."""
    figure = Figure((WIDTH, 3.2), layout="constrained")
    axes = figure.add_subplot()
    style: dict[str, Any] = {"color": SERIES["blue"].light, "alpha": 0.5, "mew": 0, "ms": 5.5}
    axes.plot([x for x, _ in points], [y for _, y in points], "o", **style)
    axes.set_xlabel(f"similarity of the two languages ({measure_name(measure)})")
    percent_axis(axes.yaxis, "violations in the other language")
    axes.set_ylim(-0.04, 1.04)
    axes.grid(lw=0.6)
    return figure


def measure_name(measure: str) -> str:
    """A measure of similarity as it is written."""
    return {"cka": "CKA"}.get(measure, measure)


def _null(axes: Axes, y: float, null: tuple[float, float] | None, chance: float) -> None:
    if null:
        band: dict[str, Any] = {"solid_capstyle": "butt", "label": "random masks, 95 %"}
        axes.plot(null, [y, y], color=INK.light, lw=9, alpha=0.3, **band)
    style: dict[str, Any] = {"color": INK.light, "ms": 11, "mew": 1.6}
    axes.plot(chance, y, "|", label="by chance", **style)


def _value(axes: Axes, y: float, value: float, right: float) -> None:
    where: dict[str, Any] = {"textcoords": "offset points", "va": "center"}
    axes.annotate(f"{value:.2f}", (right, y), (7, 0), **where)


def _rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
