"""How well scores rank weights of which it is known whether they were to be found.

Sorting and counting are exact, in int32 on the devices; what is made of the counts is float64 on
the host. Weights of equal score are one step of the ranking, so that their order has no say.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxattack import sharding, tree
from jaxattack.errors import UserError
from jaxattack.localize import threshold
from jaxattack.tree import Tree


@dataclasses.dataclass(frozen=True)
class Ranked:
    """Weights by falling score, one entry for every distinct score.

    Attributes:
        hits: wanted weights that have at least this score, `[scores]`.
        seen: all weights that have.
    """

    hits: np.ndarray
    seen: np.ndarray

    @property
    def average_precision(self) -> float:
        """Sum over scores of precision times the recall that is gained there.

        No interpolation between scores; chance is the share of wanted weights.
        """
        gained = np.diff(self.hits, prepend=0)
        return float((gained / self.hits[-1] * (self.hits / self.seen)).sum())

    @property
    def auroc(self) -> float:
        """Chance that a wanted weight is ranked above another one, equal scores as half."""
        missed = self.seen - self.hits
        before = np.concatenate([[0], self.hits[:-1]]) + self.hits  # twice the hits half-way
        above = int((np.diff(missed, prepend=0) * before).sum())
        return above / (2 * int(self.hits[-1]) * int(missed[-1]))


def ranked(scores: Tree, wanted: Tree) -> Ranked:
    """Rank all weights of a tree by their scores.

    Args:
        scores: tree of non-negative arrays, fewer than 2^31 entries in all.
        wanted: bool tree of the same shapes.

    Raises:
        UserError: the trees are not of one shape or have more entries, or all or none of the
            weights are wanted.
    """
    tree.check_alike({"what is wanted": wanted, "the scores": scores})
    if tree.size(scores) > threshold.MOST:
        raise UserError(f"{tree.size(scores):,} scores; at most {threshold.MOST:,} are ranked")
    hits, seen, last = map(sharding.to_host, _counts(scores, wanted))
    found = Ranked(hits[last].astype(np.int64), seen[last].astype(np.int64))
    if not 0 < found.hits[-1] < found.seen[-1]:
        raise UserError("nothing to rank: some of the weights have to be wanted, and some not")
    return found


@jax.jit
def _counts(scores: Tree, wanted: Tree) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Hits and weights so far by falling score, `[n]`; and where a score is there for the last."""
    keys = jnp.concatenate([threshold.keys_of(leaf).ravel() for leaf in jax.tree.leaves(scores)])
    flags = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(wanted)])
    falling, hit = jax.lax.sort((-keys, flags.astype(jnp.int32)), num_keys=1)
    last = jnp.concatenate([falling[1:] != falling[:-1], jnp.ones(1, bool)])
    return jnp.cumsum(hit), jnp.arange(1, len(hit) + 1, dtype=jnp.int32), last
