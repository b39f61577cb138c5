"""Other scores than SIL's, as controls: trees like the parameters, float32, none negative."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxattack.localize.scores import attack_vector
from jaxattack.tree import Tree

# What a matrix of a block multiplies: the name under which the model keeps its inputs.
_INPUTS = {"q": "qkv", "k": "qkv", "v": "qkv", "qkv": "qkv", "o": "o",
           "gate": "up", "up": "up", "down": "down"}  # fmt: skip


def change(aligned: Tree, attacked: Tree) -> Tree:
    """`|tau|`: how far each weight moved."""
    return jax.tree.map(jnp.abs, attack_vector(attacked, aligned))


def size(params: Tree) -> Tree:
    """`|theta|`, the magnitude of pruning."""
    return jax.tree.map(lambda leaf: jnp.abs(leaf.astype(jnp.float32)), params)


def snip(params: Tree, gradient: Tree) -> Tree:
    """`|theta * grad|` with the mean of `|grad|` over examples (Lee et al. 2019, as Wei et al.)."""
    return jax.tree.map(lambda weight, mean: weight * jnp.abs(mean), size(params), gradient)


def between(aligned: Tree, attacked: Tree, place: float) -> Tree:
    """Weights on the straight line from aligned (0) to attacked (1)."""
    return jax.tree.map(
        lambda before, after: (before + place * (after - before)).astype(before.dtype),
        aligned,
        attacked,
    )


def mean(*trees: Tree) -> Tree:
    """Mean of trees."""
    return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *trees)
