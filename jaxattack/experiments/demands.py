"""What a checkpoint has to pass: a rate's mean over languages, and its worst language."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import NamedTuple

from jaxattack.experiments.thresholds import ROUNDING


class Demand(NamedTuple):
    """Bounds of a rate; 0 for a worst language that may be anything.

    Attributes:
        mean: over languages.
        worst: of a single language.
        below: whether the rate is to stay under them.
    """

    mean: float
    worst: float
    below: bool = False


def missed(what: str, values: Mapping[str, float], demand: Demand) -> list[str]:
    """In words, if rates by language do not meet a demand; else nothing."""
    sign = -1 if demand.below else 1
    average = statistics.mean(values.values())
    language = min(values, key=lambda code: sign * values[code])
    found = ((average, demand.mean), (values[language], demand.worst))
    if all(sign * (value - bound) >= -ROUNDING for value, bound in found):
        return []
    worst = f" (demanded {demand.worst:.0%})" if demand.worst else ""
    return [
        f"{what} {average:.1%} on average (demanded {demand.mean:.0%}), "
        f"{values[language]:.1%} in {language}{worst}"
    ]
