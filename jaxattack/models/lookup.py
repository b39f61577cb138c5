"""Rows of an embedding, looked up and added to where no device holds all of it.

B batch, T tokens, D hidden, V vocabulary.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from jaxattack import sharding


def rows_of(table: jax.Array, tokens: jax.Array) -> jax.Array:
    """The rows `[B, T, D]` of a table `[V, D]` for tokens `[B, T]`.

    On a mesh every device looks up the columns that it holds, for the tokens of all those that
    hold the others, and then they exchange them: none of them holds the whole table.
    """
    if sharding.current_mesh() is None:
        return table[tokens]
    return sharding.constrain(_by_columns(table[_of_all_columns(tokens)]), sharding.BATCH)


def _of_all_columns(tokens: jax.Array) -> jax.Array:
    return sharding.constrain(tokens, P("data"))


def _by_columns(rows: jax.Array) -> jax.Array:
    return sharding.constrain(rows, P("data", None, "fsdp"))


def add_rows(table: jax.Array, tokens: jax.Array, rows: jax.Array) -> jax.Array:
    """The table `[V, D]` with rows `[B, T, D]` added to those of the tokens, as `rows_of` reads."""
    tokens, rows = _of_all_columns(tokens), _by_columns(rows)
    if table.dtype == jnp.float32:
        return table.at[tokens].add(rows)
    each, sums = _summed(tokens, rows, len(table))
    return table.at[each].add(sums.astype(table.dtype), mode="drop")


def _summed(tokens: jax.Array, rows: jax.Array, vocabulary: int) -> tuple[jax.Array, jax.Array]:
    """Every token once `[B T]`, then `vocabulary` up to their number; float32 sums `[B T, D]`.

    Added one after the other to bfloat16, in which 256 and 1 are 256, most rows of a token that
    comes often would be lost.
    """
    count = tokens.size
    each, place = jnp.unique(tokens, return_inverse=True, size=count, fill_value=vocabulary)
    sums = jnp.zeros((count, rows.shape[-1]), jnp.float32)
    return each, sums.at[place].add(rows.astype(jnp.float32))


@jax.custom_vjp
def look_up(table: jax.Array, tokens: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The rows `[B, T, D]` of the tokens, and the table, for what else is done with it.

    In the backward pass the rows' gradient is added into that of the other uses: two gradients of
    the table, to be summed, would take the memory of two.
    """
    return rows_of(table, tokens), table


def _look_up_back(tokens, gradients):
    d_rows, d_table = gradients
    return add_rows(d_table, tokens, d_rows.astype(d_table.dtype)), None


look_up.defvjp(lambda table, tokens: (look_up(table, tokens), tokens), _look_up_back)
