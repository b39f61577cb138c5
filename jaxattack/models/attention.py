"""Rotary positions, attention masks and attention itself, as functions of arrays.

B batch, T queries, S keys, H query heads, K key/value heads, D head size.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from jaxattack import sharding
from jaxattack.models.config import ModelConfig, Rope, query_blocks


def inverse_frequencies(rope: Rope, head_dim: int) -> jax.Array:
    """Angular speeds `[D/2]` of the rotary embedding, in radians per position."""
    inverse = rope.theta ** -(jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
    if rope.kind == "linear":
        return inverse / rope.factor
    if rope.kind == "llama3":
        # Long waves are slowed by `factor`, short ones kept, those between are blended.
        turns = rope.original_max_position * inverse / (2 * math.pi)
        keep = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
        keep = jnp.clip(keep, 0.0, 1.0)
        return inverse * (keep + (1.0 - keep) / rope.factor)
    return inverse


def rope_angles(rope: Rope, head_dim: int, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine `[B, T, 1, D/2]` for positions `[B, T]`."""
    angles = positions[..., None].astype(jnp.float32) * inverse_frequencies(rope, head_dim)
    return jnp.cos(angles)[:, :, None], jnp.sin(angles)[:, :, None]


def rotate(x: jax.Array, angles: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotate `[B, T, H, D]` by its positions; the two halves of D are the two coordinates."""
    cos, sin = angles
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x.dtype)


def causal_mask(segment_ids: jax.Array) -> jax.Array:
    """Who may look at whom `[B, T, T]`: earlier or same place, same segment.

    A segment of its own (0 by custom) for padding keeps every real token blind to it.
    """
    length = segment_ids.shape[1]
    causal = jnp.tril(jnp.ones((length, length), bool))
    return causal & (segment_ids[:, :, None] == segment_ids[:, None, :])


def distances(queries: jax.Array, keys: int) -> jax.Array:
    """How far back `[T, S]` each key slot is from each query's slot `[T]`; negative ahead."""
    return queries[:, None] - jnp.arange(keys)


def alibi_slopes(heads: int) -> np.ndarray:
    """How much each head's scores fall with distance, `[H]` (Press et al. 2022, section 3)."""
    whole = 2 ** int(math.log2(heads))
    slopes = 2.0 ** (-8.0 / whole * np.arange(1, whole + 1))
    between = 2.0 ** (-4.0 / whole * np.arange(1, 2 * (heads - whole), 2))
    return np.concatenate([slopes, between]).astype(np.float32)


def soft_cap(x: jax.Array, cap: float) -> jax.Array:
    """`cap * tanh(x / cap)`, or `x` itself for a cap of 0."""
    return cap * jnp.tanh(x / cap) if cap else x


def attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array,
    scale: float,
    softcap: float = 0.0,
    bias: jax.Array | None = None,
) -> jax.Array:
    """Softmax attention with grouped key/value heads; scores and softmax in float32.

    Keys and values have their heads in front, as the cache keeps them: on a CPU this layout is a
    quarter faster for a whole training step than `jax.nn.dot_product_attention`'s.

    Args:
        q: `[B, T, H, D]`.
        k: `[B, K, S, D]`, H a multiple of K.
        v: like `k`.
        mask: bool `[B, T, S]`; a query that may see nothing gets the mean of all values.
        scale: factor of the query-key products.
        softcap: scores become `softcap * tanh(scores / softcap)` if it is not 0.
        bias: float `[H, T, S]`, added to the scores.

    Returns:
        `[B, T, H, D]` in q's dtype.
    """
    batch, length, heads, _ = q.shape
    blocks = query_blocks(batch * heads // _devices(batch, k.shape[1]), length, k.shape[2])
    if blocks == 1:
        return _attend(q, k, v, mask, scale, softcap, bias)

    def split(x: jax.Array | None, axis: int) -> jax.Array | None:
        """The queries' axis as two, the blocks' in front."""
        if x is None:
            return None
        sizes = (blocks, length // blocks)
        return jnp.moveaxis(x.reshape(*x.shape[:axis], *sizes, *x.shape[axis + 1 :]), axis, 0)

    @jax.checkpoint
    def one(block: Any) -> jax.Array:
        q, mask, bias = block
        return _attend(q, k, v, mask, scale, softcap, bias)

    mixed = jax.lax.map(one, (split(q, 1), split(mask, 1), split(bias, 1)))
    return jnp.moveaxis(mixed, 0, 1).reshape(q.shape)


def _devices(batch: int, kv_heads: int) -> int:
    """Over how many devices rows and heads are split."""
    mesh = sharding.current_mesh()
    if mesh is None:
        return 1
    return sharding.parts(sharding.fit(P(*sharding.BATCH, "tensor"), (batch, kv_heads), mesh), mesh)


def _attend(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array,
    scale: float,
    softcap: float,
    bias: jax.Array | None,
) -> jax.Array:
    """`attend` with all scores at once."""
    batch, length, heads, size = q.shape
    kv_heads = k.shape[1]
    group = heads // kv_heads
    q = q.reshape(batch, length, kv_heads, group, size).transpose(0, 2, 3, 1, 4)
    scores = jnp.einsum("bkgtd,bksd->bkgts", q, k, preferred_element_type=jnp.float32) * scale
    scores = soft_cap(scores, softcap)
    if bias is not None:
        scores = scores + bias.reshape(kv_heads, group, *bias.shape[1:])
    scores = jnp.where(mask[:, None, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    mixed = jnp.einsum("bkgts,bksd->bkgtd", weights, v)
    return mixed.transpose(0, 3, 1, 2, 4).reshape(batch, length, heads, size)


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """What every layer sees beside its input: positions and who may look at whom.

    Local layers have a mask and angles of their own; those are None in a model without any.
    """

    mask: jax.Array  # bool [B, T, S]
    angles: tuple[jax.Array, jax.Array] | None  # None: ALiBi
    bias: jax.Array | None  # [H, T, S], for ALiBi
    local_mask: jax.Array | None
    local_angles: tuple[jax.Array, jax.Array] | None
    segments: jax.Array | None = None  # [B, T], if they alone say who sees whom
    kernel: str = dataclasses.field(default="xla", metadata={"static": True})

    def of_layer(self, local: jax.Array) -> Surroundings:
        """As a layer sees them that is local or not."""

        def choose(here: Any, everywhere: Any) -> Any:
            if here is None:
                return everywhere
            return jax.tree.map(lambda a, b: jnp.where(local, a, b), here, everywhere)

        return dataclasses.replace(
            self,
            mask=choose(self.local_mask, self.mask),
            angles=choose(self.local_angles, self.angles),
        )


jax.tree_util.register_dataclass(Surroundings)


def surroundings(c: ModelConfig, positions: jax.Array, mask: jax.Array, slot: Any) -> Surroundings:
    """What the layers see, for queries at `positions` `[B, T]` and in slots from `slot` on."""
    behind = distances(slot + jnp.arange(mask.shape[1]), mask.shape[2])
    local_mask = mask & (behind < c.window) if c.window else None
    if c.rope is None:
        bias = -jnp.asarray(alibi_slopes(c.num_heads))[:, None, None] * behind
        return Surroundings(mask, None, bias, local_mask, None)
    local_angles = None
    if c.local_rope is not None:
        local_angles = rope_angles(c.local_rope, c.head_dim, positions)
    angles = rope_angles(c.rope, c.head_dim, positions)
    return Surroundings(mask, angles, None, local_mask, local_angles)
