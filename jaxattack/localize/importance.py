"""Other scores than SIL's, as controls: trees like the parameters, float32, none negative."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxattack import sharding, tree
from jaxattack.data.dialogues import Arrays
from jaxattack.errors import UserError
from jaxattack.localize.scores import attack_vector
from jaxattack.models.config import check_tokens
from jaxattack.models.transformer import INPUTS, Transformer
from jaxattack.progress import track
from jaxattack.tree import Tree

# What a matrix of a block multiplies: the name under which the model keeps its inputs.
READS = dict.fromkeys(("q", "k", "v", "qkv"), "qkv") | dict.fromkeys(("gate", "up"), "up")
READS |= {"o": "o", "down": "down"}


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
        lambda before, tau: (before.astype(jnp.float32) + place * tau).astype(before.dtype),
        aligned,
        attack_vector(attacked, aligned),
    )


def mean(*trees: Tree) -> Tree:
    """Mean of trees."""
    return jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *trees)


def fisher(square: Tree) -> Tree:
    """The mean of `grad ** 2` over examples (Kirkpatrick et al. 2017)."""
    return square


def wanda(params: Tree, norms: Tree) -> Tree:
    """`|W_io| * ||x_i||` (Sun et al. 2023, eq. 1), with the norms of `input_norms`."""
    return jax.tree.map(jnp.multiply, size(params), norms)


def wanda_scores(model: Transformer, params: Tree, batches: Sequence[Arrays]) -> Tree:
    """Wanda's scores of the blocks' matrices; what is no matrix of a block has score 0.

    Args:
        model: the decoder.
        params: its parameters.
        batches: as for `input_norms`.
    """
    return wanda(params, input_norms(model, params, batches))


def input_norms(model: Transformer, params: Tree, batches: Sequence[Arrays]) -> Tree:
    """For every weight of a block's matrix the norm, over all tokens, of the input it multiplies.

    Args:
        model: the decoder.
        params: its parameters.
        batches: arrays `[B, T]`; padding (segment 0) is not counted.

    Returns:
        a tree like the parameters, float32; 0 for what is no matrix of a block.

    Raises:
        UserError: no batches, or token ids beyond the vocabulary.
    """
    if not batches:
        raise UserError("Wanda: no batches, the data is empty")
    mesh = sharding.mesh_of(params)
    squares: Tree = None
    check_tokens(model.config, (batch["tokens"] for batch in batches), "Wanda: batch")
    for batch in track(batches, "Wanda"):
        found = _squares(model, mesh, params, sharding.place_filled(batch, mesh))
        squares = found if squares is None else jax.tree.map(jnp.add, squares, found)

    def norm(name: str, leaf: jax.Array) -> jax.Array:
        *_, module, matrix = ("", *name.split("/"))
        zeros = jnp.zeros_like(leaf, jnp.float32)
        if module not in squares or matrix not in READS:
            return zeros
        norms = jnp.sqrt(squares[module][READS[matrix]])  # [L, inputs]
        if matrix == "o":  # its inputs are two axes
            norms = norms.reshape(leaf.shape[:3])
        axes = tuple(range(norms.ndim, leaf.ndim))
        return zeros + jnp.expand_dims(norms, axes)

    return tree.map_named(norm, params)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _squares(model: Transformer, mesh: Mesh, params: Tree, batch: Tree) -> Tree:
    """Sums over real tokens of the squares of what the matrices multiply, `[L, inputs]` each."""
    with sharding.within(mesh):
        _, kept = model.clone(summary=_square_sums).apply(
            {"params": params},
            batch["tokens"],
            segment_ids=batch["segment_ids"],
            positions=batch.get("positions"),
            method="hidden",
            mutable=[INPUTS],
        )
    # What is sown comes as a tuple, one entry for each time.
    return jax.tree.map(
        lambda sown: sown[0], kept[INPUTS]["layers"], is_leaf=lambda x: isinstance(x, tuple)
    )


def _square_sums(x: jax.Array, segments: jax.Array) -> jax.Array:
    real = (segments > 0).astype(jnp.float32)
    return jnp.einsum("btd,bt->d", jnp.square(x.astype(jnp.float32)), real)
