"""The pictures, each drawn once: saved as PNG and inlined as SVG whose colours follow the theme."""

import io
import re
import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure

from jaxattack.report.heat import Heat
from jaxattack.report.labels import short
from jaxattack.report.palette import COLOURS, GRID, INK, MUTED, PAGE, ramp, step, text_on

# Text stays text in the SVG, and a language code with a dollar sign is no formula.
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxattack",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
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


class Picture(NamedTuple):
    """A drawn picture: the PNG to save and the SVG to inline, empty where a table is shown."""

    png: bytes
    svg: str = ""


def render(draw: Callable[..., Figure], name: str, *args: Any) -> Picture:
    """Draw once with `draw(*args)`, write twice."""
    with matplotlib.rc_context(_STYLE):
        figure, svg = draw(*args), io.StringIO()
        figure.savefig(svg, format="svg", facecolor="none", metadata={"Date": None})
        return Picture(_png(figure), to_svg(svg.getvalue(), name))


def render_heat(heat: Heat) -> Picture:
    """A heat table as a picture; the report itself shows it as an HTML table."""
    with matplotlib.rc_context(_STYLE):
        return Picture(_png(_draw_heat(heat)))


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


def _draw_heat(heat: Heat) -> Figure:
    rows = [short(row.plain, 60) for row in heat.rows]
    caption = textwrap.wrap(heat.caption, max(18, 8 * len(heat.columns)))  # as wide as the cells
    width = 0.4 + 0.075 * max(map(len, rows)) + max(1.8, 0.72 * len(heat.columns))
    height = 0.9 + 0.34 * len(rows) + 0.2 * len(caption)
    figure = Figure((width, height), layout="tight")
    axes = figure.add_subplot()
    colours = ramp(heat.ramp)
    for y, row in enumerate(heat.cells):
        for x, cell in enumerate(row):
            colour = PAGE.light if cell.value is None else colours[step(cell.value, heat.top)]
            xs, ys = [x, x + 1, x + 1, x], [y, y, y + 1, y + 1]
            axes.fill(xs, ys, facecolor=colour, edgecolor="white")
            if cell.marked:
                corners = [x + 0.06, x + 0.94, x + 0.94, x + 0.06, x + 0.06]
                sides = [y + 0.08, y + 0.08, y + 0.92, y + 0.92, y + 0.08]
                axes.plot(corners, sides, color=text_on(colour), lw=1.2)
            where: dict[str, Any] = {"ha": "center", "va": "center", "color": text_on(colour)}
            axes.text(x + 0.5, y + (0.35 if cell.second else 0.5), cell.text, fontsize=8, **where)
            axes.text(x + 0.5, y + 0.74, cell.second, fontsize=5.5, **where)
    names = [f"{short(column.text)}\n{short(column.second)}".strip() for column in heat.columns]
    axes.set(xlim=(0, len(heat.columns)), ylim=(len(heat.rows), 0))
    axes.set_xticks([x + 0.5 for x in range(len(heat.columns))], names, fontsize=7.5)
    axes.set_yticks([y + 0.5 for y in range(len(rows))], rows)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("\n".join(caption))
    return figure


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white", dpi=200, metadata={"Software": None})
    return buffer.getvalue()
