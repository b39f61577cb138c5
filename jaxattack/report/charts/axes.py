"""What the charts share: looks of markers and lines, axes in per cent, levels, legends."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from jaxattack.report.palette import COLOURS, INK, PAGE, SERIES
from jaxattack.report.rates import Rate, percent

WIDTH = 4.2  # inches; at 9.5 pt still readable on a phone, two side by side on a desk


class Look(NamedTuple):
    """Colour (a name of the palette), marker and line of a series."""

    colour: str
    marker: str
    line: str = "none"


class Line(NamedTuple):
    """A series of rates over numbers."""

    name: str
    points: Sequence[tuple[float, Rate]]
    look: Look


OWN, OTHERS = Look("red", "o", "-"), Look("blue", "s", "--")
_MARKERS = "osD^vXP"


def look_of(index: int, line: str = "-") -> Look:
    """A look of its own for each of many series of equal rank."""
    colours = list(SERIES)
    return Look(colours[index % len(colours)], _MARKERS[index % len(_MARKERS)], line)


def draw_line(axes: Axes, line: Line) -> None:
    """Markers joined in order; bars from the lowest to the highest."""
    colour = SERIES[line.look.colour].light
    for x, rate in line.points:
        if rate.low is not None and rate.high is not None:
            axes.plot([x, x], [rate.low, rate.high], color=colour, lw=1, alpha=0.55, zorder=2)
    style: dict[str, Any] = {"ms": 6, "mec": PAGE.light, "mew": 0.7, "label": line.name}
    xs, ys = [x for x, _ in line.points], [rate.value for _, rate in line.points]
    axes.plot(xs, ys, ls=line.look.line, marker=line.look.marker, color=colour, **style)


def draw_levels(axes: Axes, full: Rate | None, base: Rate | None) -> None:
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


def mark(look: Look) -> dict[str, Any]:
    """Style of a lone marker."""
    tall = {"ms": 15, "mew": 1.8} if look.marker == "|" else {"ms": 7, "mew": 0}
    return {"marker": look.marker, "ls": "none", "color": COLOURS[look.colour].light, **tall}


def percent_axis(axis: Any, label: str) -> None:
    """An axis from 0 to 100 %."""
    axis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol="\u00a0%"))
    axis.set_ticks([0, 0.25, 0.5, 0.75, 1])
    axis.set_label_text(label)


def legend(figure: Figure, axes: Axes) -> None:
    """One entry for every name, above the axes."""
    handles, labels = axes.get_legend_handles_labels()
    first = {label: handle for handle, label in zip(handles[::-1], labels[::-1], strict=True)}
    names = list(dict.fromkeys(labels))[:12]
    style: dict[str, Any] = {"ncols": 2, "fontsize": 8.5, "handlelength": 2.6}
    figure.legend([first[name] for name in names], names, loc="outside upper left", **style)
