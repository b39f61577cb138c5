"""Colours of the report, once: for the figures, the heat tables and both themes.

Series colours come from Okabe and Ito's colour-blind-safe set, darkened or lightened until they
stand out from the page; markers and labels repeat what they say. Heat colours run evenly from
pale to deep on light pages and the other way on dark ones, so "nothing" always looks like paper.
"""

from typing import NamedTuple

import matplotlib
from matplotlib.colors import to_hex, to_rgb

STEPS = 20


class Theme(NamedTuple):
    """One colour on a light and on a dark page."""

    light: str
    dark: str


# The light column is also what matplotlib draws with, so every value there is unique:
# `figures.to_svg` finds a colour by it and puts the theme's variable in its place.
PAGE = Theme("#fffffe", "#14161b")
INK = Theme("#1b1e26", "#e8eaf0")
MUTED = Theme("#5a6070", "#a3a9b8")
GRID = Theme("#dcdfe6", "#333843")

SERIES: dict[str, Theme] = {
    "blue": Theme("#0067a8", "#5cb8f0"),
    "orange": Theme("#b35900", "#f0a13a"),
    "grey": Theme("#6b7180", "#a0a7b5"),
    "purple": Theme("#a0397f", "#e08fc3"),
    "green": Theme("#00795b", "#35c79e"),
    "red": Theme("#c03a1d", "#ff8662"),
    "gold": Theme("#8a6d00", "#e3c53d"),
}
COLOURS: dict[str, Theme] = {
    "page": PAGE,
    "ink": INK,
    "muted": MUTED,
    "grid": GRID,
    **SERIES,
    "card": Theme("#f5f6f9", "#1d2027"),
    "link": Theme("#0b5cad", "#7db9ff"),
    "warn": Theme("#8f3d00", "#ffb066"),
}


def ramp(name: str, dark: bool = False) -> list[str]:
    """`STEPS + 1` colours from nothing to most; `name` is "violations" or "density"."""
    if name == "violations":
        colormap = matplotlib.colormaps["magma"]
        first, last = (0.14, 0.92) if dark else (0.99, 0.22)
    else:
        colormap = matplotlib.colormaps["PuBu_r"]
        first, last = (0.0, 0.95) if dark else (0.97, 0.05)
    return [to_hex(colormap(first + (last - first) * i / STEPS)) for i in range(STEPS + 1)]


def step(value: float, top: float = 1.0) -> int:
    """Index into a ramp for a value in [0, top]."""
    return round(min(max(value / top if top > 0 else 0.0, 0.0), 1.0) * STEPS)


def text_on(background: str) -> str:
    """Black or white, whichever is easier to read on this colour (WCAG contrast)."""
    luminance = _luminance(background)
    return "#ffffff" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "#000000"


def stylesheet() -> str:
    """CSS variables of both themes and one class per heat step (`.v0` ... `.d20`)."""
    return f":root{{{_rules(dark=False)}}}\n{_steps(dark=False)}\n" + (
        f"@media (prefers-color-scheme: dark){{\n:root{{{_rules(dark=True)}}}\n"
        f"{_steps(dark=True)}\n}}\n"
    )


def _rules(dark: bool) -> str:
    scheme = "dark" if dark else "light"
    colours = (f"--{name}:{getattr(theme, scheme)}" for name, theme in COLOURS.items())
    return ";".join([f"color-scheme:{scheme}", *colours])


def _steps(dark: bool) -> str:
    return "".join(
        f".{name[0]}{i}{{background:{colour};color:{text_on(colour)}}}"
        for name in ("violations", "density")
        for i, colour in enumerate(ramp(name, dark))
    )


def _luminance(colour: str) -> float:
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
