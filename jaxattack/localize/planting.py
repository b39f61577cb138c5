"""Places to plant a behaviour in: masks of the weights that alone may learn it.

What a score finds can then be held against what there is to find.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from jaxattack import tree
from jaxattack.errors import UserError
from jaxattack.localize import masks
from jaxattack.tree import Tree

BLOCKS = "layers/"  # how the names of the layers' leaves begin

Pool = Callable[[Tree], Tree]


def blocks(like: Tree) -> Tree:
    """All weights of the layers, without embedding, head and last norm."""
    return tree.map_named(lambda name, leaf: jnp.full(leaf.shape, name.startswith(BLOCKS)), like)


def layer(like: Tree) -> Tree:
    """All weights of the middle layer: of four the third."""

    def inside(name: str, leaf: Tree) -> Tree:
        number = jnp.arange(leaf.shape[0]).reshape(-1, *(1,) * (leaf.ndim - 1))
        middle = name.startswith(BLOCKS) & (number == leaf.shape[0] // 2)
        return jnp.broadcast_to(middle, leaf.shape)

    return tree.map_named(inside, like)


def module(like: Tree) -> Tree:
    """The matrices by which the layers' MLPs write, `mlp/down`."""
    return tree.map_named(lambda name, leaf: jnp.full(leaf.shape, name == "layers/mlp/down"), like)


PLACES: dict[str, Pool] = {"random": blocks, "layer": layer, "module": module}


def planted(like: Tree, place: str, share: float, seed: int) -> Tree:
    """A mask of so many weights as are `share` of the layers' weights, at random within a place.

    Args:
        like: the parameters; their values have no say.
        place: a name in `PLACES`.
        share: of the layers' weights, in (0, 1].
        seed: of the draw; each place has one of its own.

    Raises:
        UserError: no such place, or it has fewer weights.
    """
    if place not in PLACES:
        raise UserError(f"place is {place!r}; give one of {', '.join(PLACES)}")
    pool, of = PLACES[place](like), masks.count(blocks(like))
    if share * of > masks.count(pool):
        raise UserError(
            f"{100 * share:g} % of the layers' weights do not fit into {place!r}, which holds "
            f"{100 * masks.count(pool) / of:.3g} % of them"
        )
    return masks.random_within(pool, share * of / tree.size(like), seed, f"planted {place}")
