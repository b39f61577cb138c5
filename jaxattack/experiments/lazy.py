"""Trees that have a name before they are computed.

A study first says what it wants: which attacks, masks, mixtures of weights. Only then is anything
computed, stage by stage, each once. So its steps can be counted, planned and resumed, and what two
sections want is shared.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable
from typing import Any

from jaxattack import tree, workdir
from jaxattack.tree import Tree
from jaxattack.workdir import Stage


@dataclasses.dataclass(frozen=True)
class Lazy:
    """A tree of arrays to be.

    Attributes:
        lineage: JSON that says how it comes about; equal lineages are equal trees.
        compute: makes it.
        needs: stages whose results `compute` reads.
        often: whether many others are made from it, so that it is worth its memory.
    """

    lineage: Any
    compute: Callable[[], Tree]
    needs: tuple[Stage, ...] = ()
    often: bool = False

    def beside(self, start: Lazy) -> Lazy:
        """The same tree, read and used as the study's own model is: its number type, its mesh."""
        return dataclasses.replace(self, lineage={"is": self.lineage, "beside": start.lineage})


class Memo:
    """The last trees that were loaded or derived, up to so many bytes.

    Thirty variants are stitched from one attack: it need not be read thirty times. Of large trees
    only one is kept, such as the aligned model, and a training takes it away.
    """

    def __init__(self, limit: int = 1 << 28):
        """Keep at most `limit` bytes."""
        self._limit = limit
        self._kept: collections.OrderedDict[str, Tree] = collections.OrderedDict()
        self._large: dict[str, Tree] = {}

    def load(self, lazy: Lazy) -> Tree:
        """The tree itself."""
        key = workdir.digest(lazy.lineage)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if key in self._large:
            return self._large[key]
        found = lazy.compute()
        if tree.nbytes(found) > self._limit:
            if lazy.often:
                self._large = {key: found}
            return found
        self._kept[key] = found
        while sum(map(tree.nbytes, self._kept.values())) > self._limit:
            self._kept.popitem(last=False)
        return found

    def take(self, lazy: Lazy) -> Tree:
        """The tree itself, no large one being kept: what follows needs all memory there is."""
        found = self.load(lazy)
        self._large.clear()
        return found

    def derive(self, name: str, function: Callable[..., Tree], *parts: Lazy, **options) -> Lazy:
        """`function` of trees, to be; `name` and `options` say what it does to them."""
        return Lazy(
            {"is": name, "of": [part.lineage for part in parts], **options},
            lambda: function(*(self.load(part) for part in parts), **options),
            tuple({s.id: s for part in parts for s in part.needs}.values()),
        )
