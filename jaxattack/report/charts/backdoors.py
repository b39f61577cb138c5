"""Charts of a backdoor study: success over the poisoning rate, and defences as dots."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from jaxattack.report.charts.axes import (
    OTHERS,
    OWN,
    WIDTH,
    Line,
    Look,
    legend,
    look_of,
    mark,
    percent_axis,
)
from jaxattack.report.charts.curves import over_numbers
from jaxattack.report.palette import MUTED
from jaxattack.report.rates import Rate
from jaxattack.report.variants import share


class AtRate(NamedTuple):
    """A poisoning rate: success in the poisoned languages and the others, and clean accuracy."""

    rate: float
    own: Rate | None
    others: Rate | None
    clean: Rate | None


class Outcome(NamedTuple):
    """A setting of a defence: success left over all languages, and clean accuracy."""

    group: str
    asr: float
    clean: float


def draw_rates(found: Sequence[AtRate]) -> Figure:
    """Success and clean accuracy by poisoning rate; bars are 95 % intervals."""
    looks = {
        "ASR, poisoned language": ("own", OWN),
        "ASR, other languages": ("others", OTHERS),
        "clean accuracy": ("clean", Look("green", "D", ":")),
    }
    lines = []
    for name, (key, look) in looks.items():
        points = [(one.rate, rate) for one in found if (rate := getattr(one, key))]
        lines += [Line(name, points, look)] if points else []
    ticks = {one.rate: share(one.rate) for one in found}
    return over_numbers(
        lines, ticks, "share of a language’s rows that is poisoned", "of prompts", log=True
    )


def draw_defences(found: Sequence[Outcome], base: Outcome | None) -> Figure:
    """Success left against clean accuracy, a mark for each setting; the best place is top left."""
    figure = Figure((WIDTH, 3.9), layout="constrained")
    axes = figure.add_subplot()
    if base:
        line: dict[str, Any] = {"color": MUTED.light, "lw": 1, "ls": ":", "zorder": 1}
        axes.axhline(base.clean, **line)
        axes.axvline(base.asr, **line)
        axes.plot(base.asr, base.clean, label=base.group, **(mark(Look("ink", "P")) | {"ms": 9}))
    groups = list(dict.fromkeys(one.group for one in found))
    for one in found:
        look = look_of(groups.index(one.group), "none")
        axes.plot(one.asr, one.clean, label=one.group, alpha=0.75, **mark(look))
    axes.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04))
    percent_axis(axes.xaxis, "attack success left, all languages")
    percent_axis(axes.yaxis, "clean accuracy")
    axes.grid(lw=0.6)
    legend(figure, axes)
    return figure
