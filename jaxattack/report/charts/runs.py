"""How the runs went: the loss of the attacks, and where the time went."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from jaxattack.report.charts.axes import WIDTH, legend
from jaxattack.report.languages import language_name, short
from jaxattack.report.palette import SERIES
from jaxattack.report.variants import parse_variant


def draw_loss(runs: Sequence[Mapping[str, Any]], most: int = 200) -> Figure:
    """Loss of every attack, frozen ones dashed; long runs are averaged down to `most` points."""
    figure = Figure((WIDTH, 3.2), layout="constrained")
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
    legend(figure, axes)
    return figure


def draw_profile(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Seconds of every kind of stage."""
    figure = Figure((WIDTH, 0.7 + 0.32 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    seconds = [row["seconds"] for row in rows]
    axes.barh(range(len(rows)), seconds, color=SERIES["blue"].light, height=0.62)
    for y, value in enumerate(seconds):
        where: dict[str, Any] = {"textcoords": "offset points", "va": "center"}
        axes.annotate(f"{value:,.0f} s", (value, y), (5, 0), **where)
    axes.set_yticks(range(len(rows)), [short(str(row["kind"])) for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1.18 * max(seconds))
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("seconds")
    axes.grid(axis="x", lw=0.6)
    axes.set_axisbelow(True)
    return figure
