"""Places to plant a behaviour in: masks of the weights that alone may learn it.

What a score finds can then be held against what there is to find.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from jaxattack import sharding, tree
from jaxattack.errors import UserError
from jaxattack.localize import masks
from jaxattack.tree import Tree

BLOCKS = "layers/"  # how the names of the layers' leaves begin

Pool = Callable[[Tree], Tree]


def blocks(like: Tree) -> Tree:
    """All weights of the layers, without embedding, head and last norm."""
    return tree.map_named(lambda name, leaf: _all_of(leaf, name.startswith(BLOCKS)), like)


def layer(like: Tree) -> Tree:
    """All weights of the middle layer: of four the third."""

    def inside(name: str, leaf: Tree) -> Tree:
        number = jnp.arange(leaf.shape[0]).reshape(-1, *(1,) * (leaf.ndim - 1))
        return _all_of(leaf, name.startswith(BLOCKS)) & (number == leaf.shape[0] // 2)

    return tree.map_named(inside, like)


def module(like: Tree) -> Tree:
    """The matrices by which the layers' MLPs write, `mlp/down`."""
    return tree.map_named(lambda name, leaf: _all_of(leaf, name == "layers/mlp/down"), like)


def _all_of(leaf: Tree, chosen: bool) -> Tree:
    """All weights of a leaf or none of them, a part on every device that has one of the leaf."""
    return jnp.full_like(leaf, chosen, bool)


PLACES: dict[str, Pool] = {"random": blocks, "layer": layer, "module": module}


def of_blocks(named: Tree) -> Tree:
    """The part of a tree that is the layers'."""
    return tree.unflatten(
        {name: leaf for name, leaf in tree.named_leaves(named).items() if name.startswith(BLOCKS)}
    )


def of_all(like: Tree, share: float) -> float:
    """A share of the layers' weights as one of all weights."""
    return share * tree.size(of_blocks(like)) / tree.size(like)


def top_of_blocks(scores: Tree, share: float) -> Tree:
    """The weights of highest score, so many as are `share` of the layers' weights, all in these."""
    return masks.top_fraction(scores, of_all(scores, share), exclude=f"^(?!{BLOCKS})")


def check_place(like: Tree, place: str, share: float) -> None:
    """Refuse a place that cannot hold so many weights.

    Raises:
        UserError: no such place, or it has fewer than `share` of the layers' weights.
    """
    if place not in PLACES:
        raise UserError(f"place is {place!r}; give one of {', '.join(PLACES)}")
    there, of = masks.count(PLACES[place](like)), tree.size(of_blocks(like))
    if round(share * of) > there:
        raise UserError(
            f"{100 * share:g} % of the layers' weights do not fit into {place!r}, which holds "
            f"{100 * there / of:.3g} % of them"
        )


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
    check_place(like, place, share)
    pool = PLACES[place](like)
    found = masks.random_within(pool, of_all(like, share), seed, f"planted {place}")
    return sharding.place(found, sharding.mesh_of(like))
