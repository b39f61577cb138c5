"""What a comparison is: the same work done by several sides, and how one side is timed."""

from __future__ import annotations

import dataclasses
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

Values = dict[str, np.ndarray]


class UnavailableError(Exception):
    """A side cannot work on this machine; the message says why."""


class FailedError(Exception):
    """A side broke; the message is the end of what it wrote."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What one process of one side found.

    `values` show that the work is the same as the other side's; `extra` is printed beside the
    time.
    """

    seconds: float
    values: Values
    extra: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Row:
    """A comparison.

    A side is a function of a directory, into which `prepare` has put what all of them need. The
    first side is the one the others are compared with. `disagreement` says in what two sides'
    values differ, or nothing if they show the same work.
    """

    work: str
    sides: Mapping[str, Callable[[pathlib.Path], Measured]]
    disagreement: Callable[[Values, Values], str]
    prepare: Callable[[pathlib.Path], object] = lambda directory: None


def save_arrays(path: pathlib.Path, arrays: Values) -> None:
    """Write named arrays; `load_arrays` reads them."""
    np.savez(path, **cast(Any, arrays))


def load_arrays(path: pathlib.Path) -> Values:
    """What `save_arrays` wrote."""
    with np.load(path) as file:
        return dict(file)


def timed(
    step: Callable[[], Any], warmup: int, repeats: int
) -> tuple[float, list[Any], dict[str, float]]:
    """Median seconds of `step`, all that it returned, and what the first call took."""
    found, seconds = [], []
    for _ in range(warmup + repeats):
        start = time.perf_counter()
        found.append(step())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[warmup:]), found, {"first call, s": seconds[0]}


def furthest(ours: Values, theirs: Values) -> tuple[float, str]:
    """The largest relative distance `|a - b| / |b|` of two arrays of one name, and the name."""
    if set(ours) != set(theirs):
        return float("inf"), ", ".join(sorted(set(ours) ^ set(theirs))[:3])
    far = {
        name: float(np.linalg.norm(ours[name] - theirs[name]) / np.linalg.norm(theirs[name]))
        for name in ours
    }
    name = max(far, key=lambda key: far[key] if far[key] == far[key] else float("inf"))
    return far[name], name


def near(tolerance: float) -> Callable[[Values, Values], str]:
    """A `disagreement` for arrays that may differ by rounding."""

    def disagreement(ours: Values, theirs: Values) -> str:
        distance, name = furthest(ours, theirs)
        return "" if distance <= tolerance else f"{name} differs by {distance:.2g} of its norm"

    return disagreement
