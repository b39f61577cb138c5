"""The matrices of the blocks seen as `[L, I, O]`: layers, inputs, outputs.

Papers write `y = W x` with W `[out, in]`; here it is `y = x W`, so a matrix is the transpose of
theirs. What multiplies W from the left there (a map of outputs) does so from the right here, and
their columns, one for each input, are rows here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxattack import sharding, tree
from jaxattack.train.lora import MATRICES
from jaxattack.tree import Tree

# Default products of float32 are rounded to fewer bits on accelerators.
EXACT = jax.lax.Precision.HIGHEST


def inputs_of(name: str) -> int:
    """How many axes after the layers' are a matrix's inputs; 0 for what is no matrix of a block."""
    return next((inputs for pattern, inputs in MATRICES if re.search(pattern, name)), 0)


def view(name: str, leaf: jax.Array) -> jax.Array:
    """A matrix `[L, *inputs, *outputs]` as `[L, I, O]`."""
    layers, *sizes = leaf.shape
    return leaf.reshape(layers, math.prod(sizes[: inputs_of(name)]), -1)


def views(params: Tree) -> dict[str, jax.Array]:
    """All matrices by name, as `[L, I, O]`."""
    named = tree.named_leaves(params)
    return {name: view(name, leaf) for name, leaf in named.items() if inputs_of(name)}


def put_back(params: Tree, changed: dict[str, jax.Array]) -> Tree:
    """The parameters with some matrices, by name and as `[L, I, O]`, in the place of theirs.

    They get the shape, the type and, on a mesh, the places of those.
    """

    def put(name: str, leaf: jax.Array) -> jax.Array:
        if name not in changed:
            return leaf
        new = changed[name].reshape(leaf.shape).astype(leaf.dtype)
        if isinstance(leaf, jax.core.Tracer) or not isinstance(leaf, jax.Array):
            return new
        return jax.device_put(new, leaf.sharding)

    return tree.map_named(put, params)


def mapped(function: Callable[..., jax.Array], params: Tree, *others: Tree) -> Tree:
    """`function(name, matrix, *others' matrices)` for every matrix; other leaves as they are."""
    theirs = [views(other) for other in others]
    found = {
        name: function(name, matrix, *(named[name] for named in theirs))
        for name, matrix in views(params).items()
    }
    return put_back(params, found)


def sizes(params: Tree) -> dict[str, np.ndarray]:
    """The Frobenius norm of every matrix, float32 `[L]` by name."""
    return {name: sharding.to_host(_size(matrix)) for name, matrix in views(params).items()}


def changes(before: Tree, after: Tree) -> dict[str, np.ndarray]:
    """The Frobenius norm of every matrix's change, float32 `[L]` by name."""
    old = views(before)
    return {name: sharding.to_host(_change(new, old[name])) for name, new in views(after).items()}


def along(change: jax.Array, v: jax.Array) -> jax.Array:
    """`D V^T V` `[I, O]`, by the smaller of `[I, I]` and `[O, O]`."""
    inputs, outputs = v.shape
    if inputs < outputs:
        left = jnp.matmul(change, v.T, precision=EXACT)
        return jnp.matmul(left, v, precision=EXACT)
    return jnp.matmul(change, jnp.matmul(v.T, v, precision=EXACT), precision=EXACT)


@jax.jit
def _size(matrix: jax.Array) -> jax.Array:
    return jnp.linalg.norm(matrix.astype(jnp.float32), axis=(1, 2))


@jax.jit
def _change(new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.linalg.norm(new.astype(jnp.float32) - old.astype(jnp.float32), axis=(1, 2))
