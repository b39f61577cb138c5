"""The scores there are beside SIL's. A score is a function and a row here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from jaxattack.localize import importance
from jaxattack.tree import Tree


@dataclasses.dataclass(frozen=True)
class Row:
    """A score, and which trees it is given.

    Attributes:
        score: of trees like the parameters one more, float32, none negative.
        reads: "start" or "attacked", the weights; a moment of the gradient at the start, mean over
            the calibration examples ("abs", "sum", "square"); "inputs", the norms of what the
            matrices multiply (see `importance.input_norms`).
    """

    score: Callable[..., Tree]
    reads: tuple[str, ...]


SCORES: dict[str, Row] = {
    "magnitude": Row(importance.change, ("start", "attacked")),
    "weight": Row(importance.size, ("start",)),
    "snip": Row(importance.snip, ("start", "abs")),
    "wanda": Row(importance.wanda, ("start", "inputs")),
    "fisher": Row(importance.fisher, ("square",)),
}
