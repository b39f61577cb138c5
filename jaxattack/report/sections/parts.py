"""What a section is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxattack.report import figures
from jaxattack.report.figures import Picture
from jaxattack.report.grids import Heat, Sheet


@dataclass(frozen=True)
class Figure:
    """A picture with the name of its PNG; `heat` is shown in place of the SVG where given."""

    name: str
    caption: str
    picture: Picture
    heat: Heat | None = None


@dataclass(frozen=True)
class Section:
    """One question of the report, its pictures and the tables behind them.

    `claim` is the claim of the study it bears on, if any.
    """

    id: str
    title: str
    lead: str
    figures: tuple[Figure, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    claim: str = ""


def drawn(name: str, caption: str, draw: Callable[..., Any], *args: Any) -> Figure:
    """A chart."""
    return Figure(name, caption, figures.render(draw, name, *args))


def heated(name: str, heat: Heat) -> Figure:
    """A heat table."""
    return Figure(name, heat.caption, figures.render_heat(heat), heat)
