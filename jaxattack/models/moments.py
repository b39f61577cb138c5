"""Sums over examples of functions of each example's gradient, from one backward pass.

A backward pass adds up a parameter's gradient over examples as soon as it meets the parameter, and
after that `|g|` of one example is lost. So a watched parameter comes with slots, one for each
moment: arrays of its shape whose values nothing reads, and whose "gradient" is the sum over
examples of `f(g)`. No more than one example's gradient of one matrix is ever held.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from jaxattack import sharding
from jaxattack.models.adapted import Adapted

COLLECTION = "moments"  # of a module's variables: the slots
MOMENTS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "abs": jnp.abs,
    "sum": lambda gradient: gradient,
    "square": jnp.square,
}
Slots = dict[str, jax.Array]  # by moment
# So many examples' gradients of a matrix are added to the sums at once, if they are no more floats
# than that: the sums are read and written less often.
TOGETHER, FLOATS = 8, 1 << 22


@dataclasses.dataclass(frozen=True)
class Watched:
    """A parameter and its slots; `axes` of the mesh split a matrix, as the rules have it."""

    value: jax.Array
    slots: Slots
    axes: tuple[str, str]


def declare(
    module: nn.Module, name: str, init: Callable, shape: tuple[int, ...]
) -> jax.Array | Watched | Adapted:
    """A parameter of the module: adapted, or watched, if the module was given it so."""
    given: Any = module.get_variable("params", name)
    if isinstance(given, Adapted):  # three arrays, which flax would compare with the shape of one
        return given
    value = module.param(name, init, shape)
    if not module.has_variable(COLLECTION, name):
        return value
    axes = ("tensor", "fsdp") if name in ("o", "down") else ("fsdp", "tensor")
    return Watched(value, module.get_variable(COLLECTION, name), axes)


def times(x: jax.Array, matrix: jax.Array | Watched | Adapted) -> jax.Array:
    """`x` `[B, T, D]` times a matrix whose first axes, merged, are D.

    The leading axes are merged, which on a CPU is worth a factor of two over einsum's layout.
    """
    if isinstance(matrix, Adapted):
        rank = matrix.a.shape[-1]
        a, b = matrix.a.reshape(-1, rank).astype(x.dtype), matrix.b.reshape(rank, -1)
        whole = times(x, matrix.value)
        return whole + (x @ a @ b.astype(x.dtype)).reshape(whole.shape)
    if isinstance(matrix, Watched):
        return _watched_times(matrix.axes, x, matrix.value, matrix.slots)
    flat, outputs = _as_matrix(matrix, x.shape[-1])
    return (x.reshape(-1, x.shape[-1]) @ flat).reshape(*x.shape[:-1], *outputs)


def _as_matrix(matrix: jax.Array, inputs: int) -> tuple[jax.Array, tuple[int, ...]]:
    """The matrix with its input and output axes merged, and the sizes of the outputs."""
    axes = next(n for n in range(matrix.ndim) if math.prod(matrix.shape[:n]) == inputs)
    return matrix.reshape(inputs, -1), matrix.shape[axes:]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _watched_times(
    axes: tuple[str, str], x: jax.Array, matrix: jax.Array, slots: Slots
) -> jax.Array:
    return times(x, matrix)


def _times_back(axes, saved, d_out):
    x, matrix, names = saved
    flat, _ = _as_matrix(matrix, x.shape[-1])
    d_out = d_out.reshape(*x.shape[:-1], -1)
    d_x = (d_out.reshape(-1, d_out.shape[-1]) @ flat.T).reshape(x.shape)
    sums = sums_of_products(x, d_out, tuple(names), axes)
    return d_x, None, {name: part.reshape(matrix.shape) for name, part in sums.items()}


_watched_times.defvjp(
    lambda axes, x, matrix, slots: (times(x, matrix), (x, matrix, dict.fromkeys(slots))),
    _times_back,
)


def sums_of_products(
    x: jax.Array, d_out: jax.Array, names: tuple[str, ...], axes: tuple[str, str]
) -> Slots:
    """By moment the sum over examples of `f(x_e.T @ d_e)`, `[D, F]` in float32.

    Args:
        x: inputs `[B, T, D]` of a matrix.
        d_out: gradient `[B, T, F]` by its outputs.
        names: of the moments.
        axes: of the mesh, by which the sums are split.
    """
    mesh = sharding.current_mesh()
    if mesh is None:
        return sums_here(x, d_out, names=names)
    # By hand, for a loop over rows that lie on many devices would move them all.
    rows = sharding.fit(sharding.BATCH, x.shape, mesh)
    by_rows = rows[0] if rows else ()
    shape = (x.shape[-1], d_out.shape[-1])
    split = [*sharding.fit(P(*axes), shape, mesh), None, None][:2]
    scattered = split.index("fsdp") if "fsdp" in split and by_rows else None
    if scattered is None:
        split = [axis if axis == "tensor" else None for axis in split]
    inputs, outputs = (axis if axis == "tensor" else None for axis in split)
    return jax.shard_map(
        functools.partial(sums_here, names=names, row_axes=by_rows, scattered=scattered),
        in_specs=(P(by_rows or None, None, inputs), P(by_rows or None, None, outputs)),
        out_specs=P(*split),
        check_vma=False,
    )(x, d_out)


def sums_here(
    x: jax.Array,
    d_out: jax.Array,
    *,
    names: tuple[str, ...],
    row_axes: tuple[str, ...] = (),
    scattered: int | None = None,
) -> Slots:
    """`sums_of_products` for a device's rows, which lie on the mesh's `row_axes`.

    Of the axis `scattered` of the sums each device keeps its part by "fsdp".
    """

    def add(sums, example):
        gradient = jnp.matmul(example[0].T, example[1], preferred_element_type=jnp.float32)
        return {name: total + MOMENTS[name](gradient) for name, total in sums.items()}, None

    zeros = jnp.zeros((x.shape[-1], d_out.shape[-1]), jnp.float32)
    unroll = max(1, min(TOGETHER, FLOATS // zeros.size))
    sums, _ = jax.lax.scan(add, dict.fromkeys(names, zeros), (x, d_out), unroll=unroll)
    if scattered is None:
        return jax.lax.psum(sums, row_axes)

    def sum_up(part: jax.Array) -> jax.Array:
        own = jax.lax.psum_scatter(part, "fsdp", scatter_dimension=scattered, tiled=True)
        return jax.lax.psum(own, tuple(axis for axis in row_axes if axis != "fsdp"))

    return jax.tree.map(sum_up, sums)


def beside(x: jax.Array, vector: jax.Array | Watched | Adapted) -> jax.Array:
    """A scale or bias as it is combined with `x` `[B, ..., *vector.shape]`.

    A watched one is repeated for every example, so that each has a gradient of its own.
    """
    if not isinstance(vector, Watched):
        return cast(jax.Array, vector)  # only matrices are adapted
    between = (1,) * (x.ndim - 1 - vector.value.ndim)
    return _repeat((len(x), *between, *vector.value.shape), vector.value, vector.slots)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _repeat(shape: tuple[int, ...], vector: jax.Array, slots: Slots) -> jax.Array:
    return jnp.broadcast_to(vector, shape)


def _repeat_back(shape, saved, d_out):
    vector, names = saved
    d_out = d_out.astype(jnp.float32).reshape(shape[0], *vector.shape)
    return None, {name: MOMENTS[name](d_out).sum(axis=0) for name in names}


_repeat.defvjp(
    lambda shape, vector, slots: (_repeat(shape, vector, slots), (vector, dict.fromkeys(slots))),
    _repeat_back,
)
