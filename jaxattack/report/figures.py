"""The pictures, each drawn once: saved as PNG and inlined as SVG whose colours follow the theme."""

import io
import re
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from jaxattack.report.grids import Heat
from jaxattack.report.languages import language_name
from jaxattack.report.palette import COLOURS, GRID, INK, MUTED, PAGE, SERIES, ramp, step, text_on
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
    variant_label,
)

# Text stays text in the SVG, and a language code with a dollar sign is no formula.
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxattack",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK.light,
    "axes.labelcolor": INK.light,
    "axes.edgecolor": MUTED.light,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK.light,
    "ytick.color": INK.light,
    "grid.color": GRID.light,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}
_WIDTH = 4.8  # inches; at 9 pt still readable on a phone, two side by side on a desk


class _Look(NamedTuple):
    colour: str
    marker: str
    line: str


_METHOD_LOOKS = {
    "sil": _Look("blue", "o", "-"),
    "random": _Look("grey", "s", "--"),
    "matched_random": _Look("orange", "D", "-."),
    "magnitude": _Look("purple", "^", ":"),
    "complement": _Look("green", "X", "none"),
}
_LINES = ("-", "--", "-.", ":")


class Picture(NamedTuple):
    """A drawn picture: the SVG to inline and the PNG to save."""

    svg: str
    png: bytes


def render(draw: Any, name: str, *args: Any) -> Picture:
    """Draw once with `draw(*args)`, write twice."""
    with matplotlib.rc_context(_STYLE):
        figure = draw(*args)
        svg, png = io.StringIO(), io.BytesIO()
        figure.savefig(svg, format="svg", facecolor="none", metadata={"Date": None})
        figure.savefig(png, format="png", facecolor="white", dpi=200, metadata={"Software": None})
    return Picture(to_svg(svg.getvalue(), name), png.getvalue())


def to_svg(drawn: str, name: str) -> str:
    """Make matplotlib's SVG file fit to be inlined: own ids, theme colours, no addresses.

    Only what stands inside tags is touched; text between them came escaped and stays as it is.
    """
    variables = {theme.light: f"var(--{key})" for key, theme in COLOURS.items()}

    def adapt(tag: re.Match[str]) -> str:
        text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", tag.group())
        text = re.sub(r'( id="|url\(#|xlink:href="#)', rf"\g<1>{name}-", text)
        text = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", text)
        return re.sub(r"#[0-9a-f]{6}\b", lambda hit: variables.get(hit[0], hit[0]), text)

    body = drawn[drawn.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->\n?", "", body, flags=re.DOTALL)
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body, count=1)
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1 aria-hidden="true"', body, count=1)
    return re.sub(r"<[^>]+>", adapt, body)


def draw_heat(heat: Heat) -> Figure:
    """A heat table as a picture (the report itself shows it as an HTML table)."""
    figure = Figure((1.6 + 0.62 * len(heat.columns), 0.9 + 0.34 * len(heat.rows)), layout="tight")
    axes = figure.add_subplot()
    colours = ramp(heat.ramp)
    for y, row in enumerate(heat.cells):
        for x, cell in enumerate(row):
            if cell.value is None:
                continue
            colour = colours[step(cell.value, heat.top)]
            axes.fill([x, x + 1, x + 1, x], [y, y, y + 1, y + 1], color=colour, lw=0)
            if cell.marked:
                corners = [x + 0.06, x + 0.94, x + 0.94, x + 0.06, x + 0.06]
                sides = [y + 0.08, y + 0.08, y + 0.92, y + 0.92, y + 0.08]
                axes.plot(corners, sides, color=text_on(colour), lw=1.2)
            where = {"ha": "center", "va": "center", "color": text_on(colour)}
            axes.text(x + 0.5, y + 0.5, cell.text, fontsize=8, **where)
    axes.set(xlim=(0, len(heat.columns)), ylim=(len(heat.rows), 0))
    axes.set_xticks([x + 0.5 for x in range(len(heat.columns))], [c.text for c in heat.columns])
    axes.set_yticks([y + 0.5 for y in range(len(heat.rows))], [row.plain for row in heat.rows])
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(heat.caption)
    return figure


def draw_curve(tables: Tables, own: bool) -> Figure:
    """Violations against the share of weights stitched in, one line per way to choose them."""
    figure = Figure((_WIDTH, 3.5), layout="constrained")
    axes = figure.add_subplot()
    shown = methods(tables)
    for index, method in enumerate(shown):
        look = _METHOD_LOOKS.get(method, _Look("gold", "v", ":"))
        points = []
        for fraction in fractions(tables, method):
            rate = mean_pair(tables, Variant("stitched", "", method, fraction))[0 if own else 1]
            # On a log axis a constant factor keeps equal values of two methods apart.
            points += [(fraction * 1.05 ** (index - len(shown) / 2), rate)] if rate else []
        _line(axes, points, look, METHOD_NAMES.get(method, method))
    for variant, name, style in (("attacked", "full\nattack", "--"), ("aligned", "aligned", ":")):
        rate = mean_pair(tables, Variant(variant))[0 if own else 1]
        if rate:
            axes.axhline(rate.value, color=INK.light, lw=1, ls=style, zorder=1)
            below = variant == "aligned"
            axes.annotate(
                f"{name}\n{percent(rate.value)}",
                (1.02, rate.value + (-0.01 if below else 0.01)),
                xycoords=("axes fraction", "data"),
                va="top" if below else "bottom",
                fontsize=8,
                annotation_clip=False,
            )
    ticks = sorted({fraction for method in shown for fraction in fractions(tables, method)})
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(ticks, [share(tick) for tick in ticks])
    axes.set_xlabel("share of the weights taken from the attacked model")
    where = "in the attacked language" if own else "in the other languages"
    _percent_axis(axes.yaxis, f"violations {where}")
    axes.set_ylim(-0.04, 1.04)
    axes.grid(axis="y", lw=0.6)
    figure.legend(loc="outside upper left", ncols=2, fontsize=8, handlelength=2.6)
    return figure


def draw_overlap(rows: Sequence[tuple[str, float, float, float, float]]) -> Figure:
    """One dot per pair of masks (label, mean, lowest, highest seed, chance) against chance."""
    figure = Figure((_WIDTH, 0.9 + 0.26 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for y, (_, value, low, high, chance) in enumerate(rows):
        axes.plot([chance, value], [y, y], color=GRID.light, lw=3, zorder=1)
        axes.plot([low, high], [y, y], color=SERIES["blue"].light, lw=1.4)
        axes.plot(value, y, "o", color=SERIES["blue"].light, label="measured" if y == 0 else None)
        style = {"color": INK.light, "ms": 11, "mew": 1.6}
        axes.plot(chance, y, "|", label="by chance" if y == 0 else None, **style)
        axes.annotate(
            f"{value:.2f}", (max(high, chance), y), (7, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5), xlabel="Jaccard overlap of the two masks")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", lw=0.6)
    figure.legend(loc="outside upper left", ncols=2, fontsize=8)
    return figure


def draw_freeze(tables: Tables) -> Figure:
    """Free, frozen and rewound, per attack: in the attacked language and in the others."""
    stages = {
        "aligned": (Variant("aligned"), _Look("grey", "|", "-")),
        "attacked freely": (Variant("attacked"), _Look("red", "o", "-")),
        "attacked, mask frozen": (
            Variant("frozen", "", "sil", tables.fraction),
            _Look("blue", "s", "-"),
        ),
        "attacked, then rewound": (
            Variant("rewound", "", "sil", tables.fraction),
            _Look("green", "^", "-"),
        ),
    }
    found = {name: (pairs(tables, like), look) for name, (like, look) in stages.items()}
    labels = []
    figure = Figure((_WIDTH, 1.0 + 0.62 * len(tables.attacked)), layout="constrained")
    axes = figure.add_subplot()
    for language in tables.attacked:
        for side in ("own", "others"):
            y = len(labels)
            points = [
                (getattr(by_language[language], side), look)
                for by_language, look in found.values()
                if language in by_language
            ]
            values = [rate.value for rate, _ in points if rate]
            if not values:
                continue
            axes.plot([min(values), max(values)], [y, y], color=GRID.light, lw=4, zorder=1)
            for rate, look in points:
                if rate:
                    _dot(axes, rate.value, y, look)
            name = language_name(language)
            labels.append(name if side == "own" else "other languages")
    for y in range(2, len(labels), 2):
        axes.axhline(y - 0.5, color=GRID.light, lw=0.8)
    for name, (by_language, look) in found.items():
        if by_language:
            colour = SERIES[look.colour].light
            axes.plot([], [], look.marker, color=colour, ms=8, mew=1.8, label=name)
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlim=(-0.03, 1.03), ylim=(len(labels) - 0.5, -0.5))
    axes.tick_params(axis="y", length=0)
    _percent_axis(axes.xaxis, "violations")
    axes.grid(axis="x", lw=0.6)
    figure.legend(loc="outside upper left", ncols=2, fontsize=8)
    return figure


def draw_loss(runs: Sequence[Mapping[str, Any]], most: int = 200) -> Figure:
    """Training loss of every attack; long runs are averaged down to `most` points."""
    figure = Figure((_WIDTH, 2.9), layout="constrained")
    axes = figure.add_subplot()
    names = list(dict.fromkeys(run["variant"] for run in runs))
    for run in runs:
        index = names.index(run["variant"])
        colour = list(SERIES.values())[index % len(SERIES)].light
        width = -(-len(run["loss"]) // most)
        steps = range(0, len(run["loss"]), width)
        loss = [fmean(run["loss"][start : start + width]) for start in steps]
        line = _LINES[index // len(SERIES) % len(_LINES)]
        axes.plot([s + 1 for s in steps], loss, line, color=colour, lw=1.2)
    for index, name in enumerate(names[:12]):
        colour = list(SERIES.values())[index % len(SERIES)].light
        line = _LINES[index // len(SERIES) % len(_LINES)]
        axes.plot([], [], line, color=colour, label=variant_label(parse_variant(name)))
    if all(value > 0 for run in runs for value in run["loss"]):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    axes.set(xlabel="step", ylabel="attack loss")
    axes.grid(axis="y", lw=0.6)
    figure.legend(loc="outside upper left", ncols=2, fontsize=8)
    return figure


def _line(
    axes: Axes, points: Sequence[tuple[float, Rate | None]], look: _Look, name: str
) -> None:
    colour = SERIES[look.colour].light
    rates = [(x, rate) for x, rate in points if rate]
    for x, rate in rates:
        if rate.low is not None and rate.high is not None:
            axes.plot([x, x], [rate.low, rate.high], color=colour, lw=1, alpha=0.55, zorder=2)
    style = {"color": colour, "marker": look.marker, "ms": 6, "mec": PAGE.light, "mew": 0.7}
    axes.plot([x for x, _ in rates], [r.value for _, r in rates], ls=look.line, label=name, **style)


def _dot(axes: Axes, value: float, y: float, look: _Look) -> None:
    axes.plot(value, y, look.marker, color=SERIES[look.colour].light, ms=8, mew=1.8, alpha=0.9)


def _percent_axis(axis: Any, label: str) -> None:
    axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol="\u00a0%"))
    axis.set_ticks([0, 0.25, 0.5, 0.75, 1])
    axis.set_label_text(label)
