"""Progress bars: on a terminal with an ETA, in a log a line now and then, silent for short work."""

from __future__ import annotations

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
        self._waiting = ""

    def begin(self, label: str) -> None:
        """Name the step that runs."""
        self._bar.set_description(label)

    def end(self, label: str) -> None:
        """Count a step, and name it."""
        self._done += 1
        self._bar.update()
        self._say(f"[{self._done}/{self._total}] {label}")

    def wait(self, label: str) -> None:
        """Say what is waited for, once."""
        self._bar.set_description(label)
        if label != self._waiting:
            self._say(label)
        self._waiting = label

    def _say(self, line: str) -> None:
        if self._bar.disable and distributed.is_first():
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the bar off the terminal."""
        self._bar.close()
