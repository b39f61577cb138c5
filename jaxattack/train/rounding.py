"""Weights of one number type as another's: what training keeps, and what it computes in."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxattack import tree
from jaxattack.tree import Tree


def select(mask: Tree | None, chosen: Tree, other: Tree) -> Tree:
    """`where(mask, chosen, other)` on trees; all of `chosen` without a mask."""
    if mask is None:
        return chosen
    return jax.tree.map(jnp.where, mask, chosen, other)


def wide(params: Tree) -> Tree:
    """The tree in float32, in which gradients are added up, clipped and applied."""
    return tree.cast(params, jnp.float32)


def rounded(moved: Tree, like: Tree, key: jax.Array | None = None) -> Tree:
    """The float32 tree in the types of `like`; bfloat16 with a key up or down at random.

    Up or down as likely as each is near: the mean over keys is the float32 value.
    """
    if key is None:
        return jax.tree.map(lambda new, old: new.astype(old.dtype), moved, like)
    leaves, structure = jax.tree.flatten(moved)
    keys = jax.tree.unflatten(structure, list(jax.random.split(key, len(leaves))))

    def either(new, old, key):
        if old.dtype != jnp.bfloat16:
            return new.astype(old.dtype)
        bits = jax.lax.bitcast_convert_type(new, jnp.uint32)
        noise = jax.random.bits(key, new.shape, jnp.uint16).astype(jnp.uint32)
        # The upper half of a float32 is the bfloat16 below it in size; noise may carry into it.
        upper = ((bits + noise) >> 16).astype(jnp.uint16)
        drawn = jax.lax.bitcast_convert_type(upper, jnp.bfloat16)
        return jnp.where(jnp.isfinite(new), drawn, new.astype(jnp.bfloat16))

    return jax.tree.map(either, moved, like, keys)
