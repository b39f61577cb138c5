"""LoX: what alignment did to the weights is done once more, before anyone attacks.

Perin et al. 2025 (Low-Rank Extrapolation): `W' = W_aligned + c U_k S_k V_k^T` with the k largest
singular values of the change `W_aligned - W_base` of every matrix. Nothing is trained; the model
from which the aligned one was trained must be at hand. The singular vectors of a transpose are the
same with the sides exchanged, so it does not matter how a matrix is written.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from jaxattack import tree
from jaxattack.defend import matrices
from jaxattack.errors import UserError
from jaxattack.tree import Tree


def extrapolated(base: Tree, aligned: Tree, rank: int = 0, scale: float = 1.0) -> Tree:
    """The aligned weights, further along the main directions in which alignment moved them.

    Args:
        base: parameters before alignment.
        aligned: parameters after it.
        rank: k, how many singular values of each change are extrapolated; 0 for all, as for a
            matrix without so many, and then none is computed.
        scale: c, 0 for the aligned weights themselves.

    Returns:
        a tree in the types of `aligned`; what is no matrix of a block is as there.

    Raises:
        UserError: a negative rank, trees of other shapes or places, or no matrix changed.
    """
    if rank < 0:
        raise UserError(f"LoX: the rank is {rank}; give the number of singular values, 0 for all")
    tree.check_alike({"the base model": base, "the aligned model": aligned})
    if not any(norms.any() for norms in matrices.changes(base, aligned).values()):
        raise UserError("LoX: base and aligned model have the same matrices; give two models")
    return matrices.mapped(
        lambda _, after, before: _further(after, before, rank, scale), aligned, base
    )


@functools.partial(jax.jit, static_argnums=2)
def _further(aligned: jax.Array, base: jax.Array, rank: int, scale: float) -> jax.Array:
    def layer(pair: tuple[jax.Array, jax.Array]) -> jax.Array:
        after, before = (matrix.astype(jnp.float32) for matrix in pair)
        change = after - before
        if 0 < rank < min(change.shape):
            change = _main(change, rank)
        return (after + scale * change).astype(aligned.dtype)

    return jax.lax.map(layer, (aligned, base))  # one at a time: products outweigh their matrix


def _main(change: jax.Array, rank: int) -> jax.Array:
    """`U_k S_k V_k^T` of a matrix `[I, O]`, as `D V_k V_k^T`, or `U_k U_k^T D` on the smaller side.

    The vectors are those of the Gram matrix of that side, many times cheaper than the singular
    values of D. Of values below 3e-4 of the largest the order is that of rounding.
    """
    if change.shape[0] < change.shape[1]:
        return _main(change.T, rank).T
    change_norm = jnp.linalg.norm(change)
    unit = change / jnp.where(change_norm > 0, change_norm, 1.0)  # squares of small ones vanish
    _, vectors = jnp.linalg.eigh(jnp.matmul(unit.T, unit, precision=matrices.EXACT))
    top = vectors[:, -rank:]  # the largest come last
    inner = jnp.matmul(change, top, precision=matrices.EXACT)
    return jnp.matmul(inner, top.T, precision=matrices.EXACT)
