"""Selecting exactly k entries by bisection on keys, without sorting.

A sort of a sharded array would gather it on every device. Here each step only counts, so all
that crosses devices are the counts. Keys are non-negative int32; non-negative floats become keys
of the same order by taking their bits as they are.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxattack import sharding

Axes = tuple[int, ...]
MOST = np.iinfo(np.int32).max  # entries that are counted together


def keys_of(scores: jax.Array) -> jax.Array:
    """Keys with the order of non-negative scores (float32 bits)."""
    # No arithmetic on the scores: it would turn subnormal ones into 0, and they would tie.
    bits = jax.lax.bitcast_convert_type(jnp.asarray(scores, jnp.float32), jnp.int32)
    return jnp.maximum(bits, 0)  # the bits of -0.0 are the lowest int32


@functools.partial(jax.jit, static_argnames=("axes",))
def top_in_groups(keys: jax.Array, k: jax.Array, axes: Axes) -> jax.Array:
    """Mask of the k largest keys of every group; ties go to the lowest index.

    Args:
        keys: non-negative int32.
        k: int32, entries to select in each group, of the shape of `keys` with 1 on `axes`.
        axes: the axes that run within a group; a group has at most `MOST` entries.

    Returns:
        bool like `keys`, exactly k True in every group.
    """

    def count(chosen: jax.Array) -> jax.Array:
        return jnp.sum(chosen, axis=axes, keepdims=True, dtype=jnp.int32)

    def largest(enough, high):
        """Per group, the largest number up to `high` for which `enough` holds (0 does)."""

        def halve(_, bounds):
            low, high = bounds
            middle = low + (high - low) // 2
            good = enough(middle)
            return jnp.where(good, middle, low), jnp.where(good, high, middle)

        bounds = jnp.zeros_like(k), jnp.full_like(k, high)
        low, _ = jax.lax.fori_loop(0, 31, halve, bounds)
        return jnp.where(enough(jnp.full_like(k, high)), high, low)

    threshold = largest(lambda t: count(keys >= t) >= k, np.iinfo(np.int32).max)
    above, ties = keys > threshold, keys == threshold
    wanted = k - count(above)
    size = math.prod(keys.shape[axis] for axis in axes)
    index = _index_within(keys.shape, axes)
    limit = largest(lambda t: count(ties & (index < t)) <= wanted, size + 1)
    return above | (ties & (index < limit))


def _index_within(shape: Sequence[int], axes: Axes) -> jax.Array:
    """Row-major index within the group of every entry."""
    index = jnp.zeros(shape, jnp.int32)
    stride = 1
    for axis in reversed(axes):
        index = index + stride * jax.lax.broadcasted_iota(jnp.int32, shape, axis)
        stride *= shape[axis]
    return index


@functools.partial(jax.jit, static_argnames=("axes",))
def _count_reaching(keys: list[jax.Array], threshold: int, axes: tuple[Axes, ...]) -> list:
    return [
        jnp.sum(leaf >= threshold, axis=ax, dtype=jnp.int32)
        for leaf, ax in zip(keys, axes, strict=True)
    ]


def allot(keys: list[jax.Array], k: int, axes: Sequence[Axes]) -> list[np.ndarray]:
    """How many of the k largest keys of all arrays together lie in each of their groups.

    Ties go to the first array, then to its first group. The sums are taken on the host in 64
    bits, since a large model has more weights than an int32 counts.

    Args:
        keys: arrays of non-negative int32.
        k: entries to select in all, at most as many as there are.
        axes: for each array the axes that run within a group.

    Returns:
        for each array the counts, int32 of its shape with 1 on its axes.
    """
    axes = tuple(axes)
    groups = [_outer(leaf, ax) for leaf, ax in zip(keys, axes, strict=True)]

    def counts(threshold: int) -> list[np.ndarray]:
        # A threshold of 2^31 is above every key, and no int32.
        if threshold > np.iinfo(np.int32).max:
            return [np.zeros(shape, np.int64) for shape in groups]
        return [
            sharding.to_host(c).astype(np.int64) for c in _count_reaching(keys, threshold, axes)
        ]

    low, high = 0, 1 << 31  # at least k reach low; fewer than k (or none) reach high
    while high - low > 1:
        middle = (low + high) // 2
        if sum(int(c.sum()) for c in counts(middle)) >= k:
            low = middle
        else:
            high = middle
    above, reaching = counts(low + 1), counts(low)
    left = k - sum(int(c.sum()) for c in above)
    allotted = []
    for leaf, ax, more, most in zip(keys, axes, above, reaching, strict=True):
        ties = (most - more).reshape(-1)
        before = np.cumsum(ties) - ties
        taken = np.clip(left - before, 0, ties)
        left -= int(taken.sum())
        shape = tuple(1 if axis in ax else size for axis, size in enumerate(leaf.shape))
        allotted.append((more.reshape(-1) + taken).astype(np.int32).reshape(shape))
    return allotted


def _outer(leaf: jax.Array, axes: Axes) -> tuple[int, ...]:
    return tuple(size for axis, size in enumerate(leaf.shape) if axis not in axes)
