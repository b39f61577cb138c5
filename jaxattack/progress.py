"""Progress bars: on a terminal with an ETA, in a log a line now and then, silent for short work."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Iterate with a bar that names the work; nothing is drawn for work under two seconds."""
    interval = 0.2 if sys.stderr.isatty() else 15.0
    return iter(
        tqdm(items, desc=label, total=total, leave=False, delay=2, mininterval=interval,
             dynamic_ncols=True, file=sys.stderr)
    )  # fmt: skip
