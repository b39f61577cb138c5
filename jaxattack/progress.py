"""Progress bars: on a terminal with an ETA, in a log a line now and then, silent for short work."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from jaxattack import distributed

T = TypeVar("T")


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a bar that names the work; nothing is drawn for work under two seconds."""
    interval = 0.2 if sys.stderr.isatty() else 15.0
    return iter(
        tqdm(
            items,
            desc=label,
            total=total,
            leave=False,
            delay=2,
            mininterval=interval,
            dynamic_ncols=True,
            file=sys.stderr,
            disable=not distributed.is_first(),
        )
    )


class Steps:
    """Progress of a study in steps: a bar with an ETA on a terminal, a line a step in a log."""

    def __init__(self, total: int):
        """Begin a study of `total` steps."""
        self._bar = tqdm(
            total=total,
            desc="study",
            dynamic_ncols=True,
            file=sys.stderr,
            leave=False,
            disable=not (sys.stderr.isatty() and distributed.is_first()),
        )
        self._done = 0
        self._total = total

    @contextlib.contextmanager
    def step(self, label: str) -> Iterator[None]:
        """Name the step while it runs, count it when it is done."""
        self._bar.set_description(label)
        yield
        self._done += 1
        self._bar.update()
        if self._bar.disable and distributed.is_first():
            print(f"[{self._done}/{self._total}] {label}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the bar off the terminal."""
        self._bar.close()
