"""Weights of one number type as another's: what training keeps, and what it computes in."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxattack import tree
from jaxattack.errors import UserError
from jaxattack.tree import Tree

Types = tuple[str, ...]  # of a tree's leaves


def select(mask: Tree | None, chosen: Tree, other: Tree) -> Tree:
    """`where(mask, chosen, other)` on trees; all of `chosen` without a mask."""
    if mask is None:
        return chosen
    return jax.tree.map(jnp.where, mask, chosen, other)


def wide(params: Tree) -> Tree:
    """The tree in float32, in which gradients are added up, clipped and applied."""
    return tree.cast(params, jnp.float32)


WALK, SHORT_WALK = 40503, 159  # golden-ratio steps, in parts of 2 ** 16 and of 2 ** 8


class Draw(NamedTuple):
    """What weights are rounded by at a step: a training's key, and the number of the step."""

    key: jax.Array
    step: Any


def rounded(moved: Tree, like: Tree, draw: Draw | None = None) -> Tree:
    """The float32 tree in the types of `like`; bfloat16 with a draw up or down at random.

    Up or down as likely as each is near: the mean over keys is the float32 value. A weight's
    threshold is drawn once for a training and goes on in golden-ratio steps, which fill [0, 1)
    evenly: what rounding leaves out at one update comes at another, and less is left to chance
    than if every update drew anew.
    """
    if draw is None:
        return jax.tree.map(lambda new, old: new.astype(old.dtype), moved, like)
    leaves, structure = jax.tree.flatten(moved)
    keys = jax.tree.unflatten(structure, list(jax.random.split(draw.key, len(leaves))))
    walked = jnp.asarray(draw.step).astype(jnp.uint16) * jnp.uint16(WALK)

    def either(new, old, key):
        if old.dtype != jnp.bfloat16:
            return new.astype(old.dtype)
        bits = jax.lax.bitcast_convert_type(new, jnp.uint32)
        noise = jax.random.bits(key, new.shape, jnp.uint16) + walked
        # The upper half of a float32 is the bfloat16 below it in size; noise may carry into it.
        upper = ((bits + noise.astype(jnp.uint32)) >> 16).astype(jnp.uint16)
        drawn = jax.lax.bitcast_convert_type(upper, jnp.bfloat16)
        return jnp.where(jnp.isfinite(new), drawn, new.astype(jnp.bfloat16))

    return jax.tree.map(either, moved, like, keys)


def joined(high: jax.Array, low: jax.Array) -> jax.Array:
    """The float32 number of a bfloat16 one and the byte after it, int8."""
    above = jax.lax.bitcast_convert_type(high, jnp.uint16).astype(jnp.int32)
    return jax.lax.bitcast_convert_type(((above << 8) + low) << 8, jnp.float32)


def parted(value: jax.Array, draw: Draw | None = None) -> tuple[jax.Array, jax.Array]:
    """A number of 24 bits near `value`: the bfloat16 nearest to it, and a byte from -128 to 127.

    It is the nearest of 24 bits or, with a draw, the one above or below as in `rounded`.
    """
    bits = jax.lax.bitcast_convert_type(value, jnp.uint32)
    noise: Any = jnp.uint32(0x80)
    if draw is not None:
        walked = jnp.asarray(draw.step).astype(jnp.uint8) * jnp.uint8(SHORT_WALK)
        noise = (jax.random.bits(draw.key, value.shape, jnp.uint8) + walked).astype(jnp.uint32)
    # Of a magnitude; a carry goes into the exponent, as it should.
    short = ((bits + noise) >> 8).astype(jnp.int32)
    above = (short + 0x80) >> 8
    high = jax.lax.bitcast_convert_type(above.astype(jnp.uint16), jnp.bfloat16)
    low = (short - (above << 8)).astype(jnp.int8)
    sound = jnp.isfinite(value)
    return jnp.where(sound, high, value.astype(jnp.bfloat16)), jnp.where(sound, low, 0)


# --- What training keeps ------------------------------------------------------------------------


def types_of(params: Tree) -> Types:
    """The number types of the leaves, in the tree's order."""
    return tuple(jnp.dtype(leaf.dtype).name for leaf in jax.tree.leaves(params))


def as_types(params: Tree, types: Types) -> Tree:
    """The tree with its leaves in these types."""
    leaves, structure = jax.tree.flatten(params)
    cast = [leaf.astype(kind) for leaf, kind in zip(leaves, types, strict=True)]
    return jax.tree.unflatten(structure, cast)


def forward_types(params: Tree, dtype: str | None, label: str) -> Types | None:
    """In which types a loss is to see weights that start as `params`; None: in float32.

    Raises:
        UserError: in float16, or in no type of floating-point numbers that there is.
    """
    types = types_of(params) if dtype is None else (dtype,) * len(jax.tree.leaves(params))
    for kind in types:
        if kind not in ("float32", "bfloat16"):
            raise UserError(
                f"{label}: the weights are in {kind}, whose range gradients leave; load them in "
                "bfloat16 or float32"
            )
    return types if "bfloat16" in types else None


def trained_copy(params: Tree, weights: str, label: str, spare: bool = False) -> Tree:
    """A copy to train, which a step may take the memory of: in float32, or as it is.

    Of what is `spare` no two copies are held.

    Raises:
        UserError: `weights` is of bfloat16, and there are none.
    """
    if weights != "float32":
        if "bfloat16" not in types_of(params):
            raise UserError(
                f"{label}: weights={weights!r} is for a bfloat16 model, and this one is float32; "
                "leave `weights` at 'float32'"
            )
        return jax.tree.map(_owned if spare else jnp.copy, params)

    def copied(leaf):
        if leaf.dtype == jnp.float32:
            return _owned(leaf) if spare else jnp.copy(leaf)
        wide = leaf.astype(jnp.float32)
        if spare:
            leaf.delete()
        return wide

    return jax.tree.map(copied, params)


def _owned(leaf: jax.Array) -> jax.Array:
    """A spare array in memory that a program can take.

    On a CPU what was loaded lies in NumPy's memory, which none can: the first step would hold the
    weights twice.
    """
    if all(device.platform != "cpu" for device in leaf.devices()):
        return leaf
    own = jax.block_until_ready(jnp.copy(leaf))
    leaf.delete()
    return own
