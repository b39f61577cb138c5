"""Cross entropy that never holds all logits and skips the positions without a loss.

In an instruction pair most tokens are not predicted, and with 256k tokens in the vocabulary the
logits outweigh the model. Positions are therefore sorted within their row, those with a weight
first, and worked off in chunks of columns until no row has any left. The gradient is taken in the
same pass, so no logits are kept or computed twice.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from jaxattack import sharding
from jaxattack.models.attention import soft_cap

# Logits held at once. Those of a CPU should stay in its cache, but not for the price of reading
# the head again for every few rows; unless that would hold more than so many.
CPU_LOGITS, LOGITS = 1 << 20, 1 << 28
ROWS, HELD = 256, 1 << 25
# Of the head's gradient so many floats are made at once, where adding them up would need another
# of its size; a GPU's matmul adds in place.
PART = 1 << 23


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def cross_entropy(
    hidden: jax.Array,
    head: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    softcap: float = 0.0,
    chunk: int = 0,
) -> jax.Array:
    """Weighted sum of `-log softmax(hidden @ head.T)[target]` (nats), in float32.

    Only `hidden` and `head` have gradients, and only once (no Hessians).

    Args:
        hidden: `[B, T, D]`.
        head: `[V, D]`.
        targets: int `[B, T]`.
        weights: float `[B, T]`; positions with weight 0 cost nothing.
        softcap: logits become `softcap * tanh(logits / softcap)` if it is not 0.
        chunk: columns worked off at once; 0 chooses by the size of the logits.
    """
    return _forward(hidden, head, targets, weights, softcap, chunk, with_gradient=False)[0]


def _forward(hidden, head, targets, weights, softcap, chunk, with_gradient):
    """The weighted sum, and its gradients by `hidden` and `head` (or None)."""
    how = _How(softcap, chunk, with_gradient)
    local = functools.partial(_on_one_device, how=how)
    mesh = sharding.current_mesh()
    if mesh is None:
        return local(hidden, head, targets, weights)
    # By hand, for the compiler would exchange the head and its gradient in every chunk.
    rows = sharding.fit(sharding.BATCH, targets.shape, mesh)
    words = sharding.fit(P("tensor"), head.shape, mesh)
    return jax.shard_map(
        functools.partial(
            local,
            how=how._replace(row_axes=rows[0] if rows else (), word_axis=words[0] if words else ()),
        ),
        in_specs=(rows, words, rows, rows),
        out_specs=(P(), rows, words) if with_gradient else (P(), None, None),
        check_vma=False,
    )(hidden, head, targets, weights)


class _How(NamedTuple):
    """What is computed, and the axes of the mesh that split rows and words."""

    softcap: float
    chunk: int
    with_gradient: bool
    row_axes: Any = ()
    word_axis: Any = ()


def _weighted_first(weights: jax.Array, chunk: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Each row's columns in order, the weighted ones first; and columns and weights in chunks.

    The last chunk is filled with column 0 at no weight.
    """
    order = jnp.argsort(weights == 0, axis=1, stable=True)
    filled = ((0, 0), (0, -weights.shape[1] % chunk))
    weights = jnp.where(weights == 0, 0.0, weights).astype(jnp.float32)
    own = jnp.take_along_axis(weights, order, axis=1)
    return order, jnp.pad(order, filled), jnp.pad(own, filled)


def _on_one_device(hidden, head, targets, weights, how):
    """`_forward` for a device's rows and words."""
    softcap, chunk, with_gradient, row_axes, word_axis = how
    batch, length, size = hidden.shape
    most = CPU_LOGITS if jax.default_backend() == "cpu" else LOGITS
    rows = min(ROWS, HELD // head.shape[0])
    chunk = chunk or max(1, rows // batch, most // (batch * head.shape[0]))
    chunk = min(length, chunk)
    first_word = jax.lax.axis_index(word_axis) * head.shape[0] if word_axis else 0
    order, columns, sorted_weights = _weighted_first(weights, chunk)

    def one_chunk(i, state):
        total, d_hidden, d_head = state
        here = jax.lax.dynamic_slice_in_dim(columns, i * chunk, chunk, axis=1)
        weight = jax.lax.dynamic_slice_in_dim(sorted_weights, i * chunk, chunk, axis=1)
        weight = weight.reshape(-1, 1)
        states = jnp.take_along_axis(hidden, here[..., None], axis=1).reshape(-1, size)
        target = jnp.take_along_axis(targets, here, axis=1).reshape(-1, 1)
        logits = jnp.matmul(states, head.T, preferred_element_type=jnp.float32)
        logits = soft_cap(logits, softcap)
        # A comparison, not a gather: the target may be another device's word.
        hit = first_word + jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1) == target
        top = jax.lax.pmax(jnp.max(logits, axis=-1, keepdims=True), word_axis)
        powers = jnp.exp(logits - top)
        share, chosen = jax.lax.psum(
            (
                jnp.sum(powers, axis=-1, keepdims=True),
                jnp.sum(jnp.where(hit, logits, 0.0), axis=-1, keepdims=True),
            ),
            word_axis,
        )
        total = total + jnp.sum(weight * (jnp.log(share) + top - chosen))
        if not with_gradient:
            return total, d_hidden, d_head
        d_logits = (powers / share - hit) * weight
        if softcap:
            d_logits = d_logits * (1.0 - (logits / softcap) ** 2)
        d_logits = d_logits.astype(hidden.dtype)
        d_states = (d_logits @ head).reshape(batch, chunk, size)
        d_hidden = jax.lax.dynamic_update_slice_in_dim(d_hidden, d_states, i * chunk, axis=1)
        d_head = _added(d_head, d_logits, states)
        return total, d_hidden, d_head

    state: tuple = (jnp.float32(0.0), None, None)
    if with_gradient:
        sorted_states = jnp.zeros((batch, columns.shape[1], size), hidden.dtype)
        state = (state[0], sorted_states, jnp.zeros(head.shape, jnp.float32))
    needed = jnp.max(jnp.sum(weights != 0, axis=1))
    chunks = (needed + chunk - 1) // chunk
    total, d_hidden, d_head = jax.lax.fori_loop(0, chunks, one_chunk, state)
    if with_gradient:
        back = jnp.argsort(order, axis=1)
        d_hidden = jnp.take_along_axis(d_hidden, back[..., None], axis=1)
        d_hidden = jax.lax.psum(d_hidden, word_axis)
        d_head = jax.lax.psum(d_head, row_axes)
    return jax.lax.psum(total, row_axes), d_hidden, d_head


def _added(d_head: jax.Array, d_logits: jax.Array, states: jax.Array) -> jax.Array:
    """`d_head + d_logits.T @ states`, in float32; on a CPU some words at a time."""

    def product(columns: jax.Array) -> jax.Array:
        return jnp.matmul(columns.T, states, preferred_element_type=jnp.float32)

    words, size = d_head.shape
    block = PART // size
    if jax.default_backend() != "cpu" or words <= block:
        return d_head + product(d_logits)

    def add(i, sums):
        start = jnp.minimum(i * block, words - block)
        columns = jax.lax.dynamic_slice_in_dim(d_logits, start, block, axis=1)
        columns = jnp.where(start + jnp.arange(block) >= i * block, columns, 0)  # each word once
        here = jax.lax.dynamic_slice_in_dim(sums, start, block) + product(columns)
        return jax.lax.dynamic_update_slice_in_dim(sums, here, start, axis=0)

    return jax.lax.fori_loop(0, -(-words // block), add, d_head)


def _with_gradient(hidden, head, targets, weights, softcap, chunk):
    total, d_hidden, d_head = _forward(hidden, head, targets, weights, softcap, chunk, True)
    return total, (d_hidden, d_head.astype(head.dtype))


def _pull_back(softcap, chunk, gradients, scale):
    d_hidden, d_head = gradients
    return d_hidden * scale.astype(d_hidden.dtype), d_head * scale.astype(d_head.dtype), None, None


cross_entropy.defvjp(_with_gradient, _pull_back)
