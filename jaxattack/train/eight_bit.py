"""AdamW whose moments take 8 bits a weight, quantised in blocks (Dettmers et al. 2022).

A block is a stretch of a leaf's last axis with one scale, its largest entry. Codes are powers of
evenly spaced numbers, since the entries of a block span decades and Adam divides by small ones:

    mean    scale * (code / 127) ** 3      code int8,  from -127
    square  scale * (code / 255) ** 8      code uint8, at least 1 where the square is not 0

A running mean that moves by less than a code's width would never move if it was rounded to the
nearest code. So it goes up or down by a threshold in [0, 1) that walks in golden-ratio steps from
update to update: what rounding leaves out at one is made up for at the next ones, with less noise
than rounding at random has. The update itself is made of the moments before they are rounded.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxattack import tree
from jaxattack.tree import Tree

BLOCK, FEWEST = 128, 32  # entries of a block: at most, at least
SMALL = 4096  # entries of a leaf, below which its moments stay in float32
MEAN, SQUARE = (127, 3), (255, 8)  # the largest code, and the power
# Of the thresholds, as parts of 2 ** 32: the golden ratio a step, sqrt(2) a column, sqrt(3) a row.
STEP, COLUMN, ROW = 0x9E3779B9, 0x6A09E667, 0xBB67AE85


class EightBitState(NamedTuple):
    """Codes like the parameters and scales `[..., blocks]`; no blocks where moments are float32."""

    step: jax.Array
    mean: Tree
    mean_scale: Tree
    square: Tree
    square_scale: Tree


def adamw8bit(
    learning_rate: Any,
    weight_decay: float = 0.0,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
) -> optax.GradientTransformation:
    """AdamW as `optax.adamw` has it, its moments in 8 bits.

    Norms, biases, leaves of fewer than `SMALL` entries and such as do not divide into blocks keep
    float32 moments.
    """
    return optax.chain(
        scale_by_adam_8bit(b1, b2, eps),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(learning_rate),
    )


def scale_by_adam_8bit(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Adam's direction `m / (sqrt(v) + eps)`, bias corrected, its moments in 8 bits."""

    def init(params: Tree) -> EightBitState:
        def codes(kind):
            return tree.map_named(
                lambda name, w: jnp.zeros(w.shape, kind if blocks(name, w.shape) else jnp.float32),
                params,
            )

        def scales():
            return tree.map_named(
                lambda name, w: jnp.zeros((*w.shape[:-1], blocks(name, w.shape)), jnp.float32),
                params,
            )

        return EightBitState(
            jnp.zeros((), jnp.int32), codes(jnp.int8), scales(), codes(jnp.uint8), scales()
        )

    def update(
        updates: Tree, state: EightBitState, params: Tree | None = None
    ) -> tuple[Tree, EightBitState]:
        step = optax.safe_increment(state.step)
        age = step.astype(jnp.float32)

        def one(grad, mean, mean_scale, square, square_scale):
            mean = b1 * decoded(mean, mean_scale, MEAN) + (1 - b1) * grad
            square = b2 * decoded(square, square_scale, SQUARE) + (1 - b2) * grad**2
            spread = jnp.sqrt(square / (1 - b2**age)) + eps
            direction = mean / (1 - b1**age) / spread
            if not mean_scale.shape[-1]:
                return direction, mean, mean_scale, square, square_scale
            size, limit = mean_scale.shape[-1], thresholds(grad.shape, step)
            coded = encoded(mean, size, MEAN, limit), encoded(square, size, SQUARE, limit)
            return direction, *coded[0], *coded[1]

        structure: Any = jax.tree.structure(updates)
        found = map(one, jax.tree.leaves(updates), *(jax.tree.leaves(part) for part in state[1:]))
        directions, *parts = map(structure.unflatten, zip(*found, strict=True))
        return directions, EightBitState(step, *parts)

    return optax.GradientTransformation(init, update)


def blocks(name: str, shape: tuple[int, ...]) -> int:
    """Into how many blocks a leaf's last axis is split; 0: its moments stay in float32."""
    if math.prod(shape) < SMALL or name.endswith(("norm", "bias")):
        return 0
    size = max(n for n in range(1, BLOCK + 1) if shape[-1] % n == 0)
    return shape[-1] // size if size >= FEWEST else 0


def thresholds(shape: tuple[int, ...], step: jax.Array) -> jax.Array:
    """What a rounded part must reach to go up, in (0, 1], by the last two axes and the step."""
    axes = [(axis, factor) for axis, factor in ((-1, COLUMN), (-2, ROW)) if -axis <= len(shape)]
    walked = step.astype(jnp.uint32) * jnp.uint32(STEP)
    for axis, factor in axes:
        near = shape[-2:]
        walked += jax.lax.broadcasted_iota(jnp.uint32, near, len(near) + axis) * jnp.uint32(factor)
    return 1.0 - (walked >> 8).astype(jnp.float32) * 2.0**-24


def decoded(codes: jax.Array, scale: jax.Array, code: tuple[int, int]) -> jax.Array:
    """The moment in float32, of codes or as it is."""
    if not scale.shape[-1]:
        return codes
    (top, power), shape = code, codes.shape
    levels = (codes.astype(jnp.float32) / top) ** power
    return (levels.reshape(*scale.shape, -1) * scale[..., None]).reshape(shape)


def encoded(
    moment: jax.Array, count: int, code: tuple[int, int], limit: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Codes and scales `[..., count]` of a moment, rounded up where `limit` is reached."""
    (top, power), shape = code, moment.shape
    split = jnp.abs(moment).reshape(*shape[:-1], count, -1)
    scale = jnp.max(split, axis=-1)
    share = (split / jnp.where(scale > 0, scale, 1.0)[..., None]).reshape(shape)
    root = jnp.cbrt(share) if power == 3 else jnp.sqrt(jnp.sqrt(jnp.sqrt(share)))
    below = jnp.clip(jnp.floor(top * root), 0, top - 1)
    low, high = (below / top) ** power, ((below + 1) / top) ** power
    codes = below + ((share - low) / (high - low) >= limit)
    if power == 3:
        return (jnp.sign(moment) * codes).astype(jnp.int8), scale
    return jnp.where(share > 0, jnp.maximum(codes, 1), 0).astype(jnp.uint8), scale
