"""Which kernel computes attention: XLA on a CPU, cuDNN on a GPU, splash on a TPU."""

from __future__ import annotations

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from jaxattack import sharding
from jaxattack.errors import UserError
from jaxattack.models import attention as attn
from jaxattack.models.config import ModelConfig

KERNELS = ("auto", "xla", "cudnn", "splash")
LANES = 128  # of a TPU


def check(kernel: str, platform: str) -> None:
    """Refuse a kernel that there is not, or not on this platform.

    Raises:
        UserError: it is refused.
    """
    if kernel not in KERNELS:
        raise UserError(f"attention is {kernel!r}; give one of {', '.join(KERNELS)}")
    home = {"cudnn": "gpu", "splash": "tpu"}.get(kernel, platform)
    if home != platform:
        raise UserError(f"attention={kernel} runs on a {home}, and this is a {platform}; give auto")


def choose(
    platform: str, config: ModelConfig, dtype: jnp.dtype, queries: int, keys: int, packed: bool
) -> str:
    """The kernel for queries `[B, queries, H, D]` and keys `[B, K, keys, D]`.

    Args:
        platform: "cpu", "gpu" or "tpu".
        config: of the model.
        dtype: of queries and keys.
        queries: number of them in a row.
        keys: number of them in a row.
        packed: whether who sees whom is said by segment ids alone (no cache, no mask given).
    """
    rotary = config.rope is not None  # ALiBi is a bias, of which the kernels would keep all
    half = dtype in (jnp.bfloat16, jnp.float16)
    even = queries % 2 == 0 and keys % 2 == 0 and queries > 1
    narrow = config.head_dim % 8 == 0 and config.head_dim <= 128  # 256 only from Hopper on
    plain = rotary and not config.attention_softcap
    if platform == "gpu" and half and even and narrow and plain:
        return "cudnn"
    whole = queries == keys and queries % LANES == 0 and config.head_dim % LANES == 0
    if platform == "tpu" and rotary and packed and whole and not config.window:
        return "splash"
    return "xla"


def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, around: attn.Surroundings, config: ModelConfig
) -> jax.Array:
    """`attention.attend` by the kernel that the surroundings name."""
    scale, softcap = config.score_scale, config.attention_softcap
    if around.kernel == "cudnn":
        return by_dot_product_attention(q, k, v, around.mask, scale, "cudnn")
    if around.kernel == "splash":
        assert around.segments is not None
        return by_splash(q, k, v, around.segments, scale, softcap)
    return attn.attend(q, k, v, around.mask, scale, softcap, around.bias)


def by_dot_product_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    mask: jax.Array,
    scale: float,
    implementation: Literal["xla", "cudnn"],
) -> jax.Array:
    """jax.nn's attention, which has cuDNN behind it.

    Args:
        q: queries `[B, T, H, D]`, H heads of D.
        k: keys `[B, K, S, D]` of K key heads, S places.
        v: values, as the keys.
        mask: bool `[B, T, S]`, who sees whom.
        scale: of the scores, a factor.
        implementation: whose program.

    Returns:
        `[B, T, H, D]`.
    """
    k, v = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)
    return jax.nn.dot_product_attention(
        q, k, v, mask=mask[:, None], scale=scale, implementation=implementation
    )


def by_splash(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    segments: jax.Array,
    scale: float,
    softcap: float = 0.0,
    interpret: bool = False,
) -> jax.Array:
    """Block-sparse flash attention on a TPU: causal within segments `[B, T]`.

    On a mesh every device works on its own rows and heads.

    Args:
        q: queries `[B, T, H, D]`, H heads of D.
        k: keys `[B, K, T, D]` of K key heads.
        v: values, as the keys.
        segments: int `[B, T]`; a token sees its own segment.
        scale: of the scores, a factor.
        softcap: scores become `softcap * tanh(scores / softcap)` if it is not 0.
        interpret: run the kernel without a TPU, slowly.

    Returns:
        `[B, T, H, D]`.
    """
    local = functools.partial(_splash_here, scale=scale, softcap=softcap, interpret=interpret)
    mesh = sharding.current_mesh()
    if mesh is None:
        return local(q, k, v, segments)
    rows = sharding.fit(sharding.BATCH, segments.shape, mesh)
    batch = rows[0] if rows else None
    # Query heads stay with their key heads, so both have to divide.
    split = k.shape[1] % mesh.shape["tensor"] == 0
    heads = "tensor" if split else None
    return jax.shard_map(
        local,
        in_specs=(P(batch, None, heads), P(batch, heads), P(batch, heads), P(batch)),
        out_specs=P(batch, None, heads),
        check_vma=False,
    )(q, k, v, segments)


def _splash_here(q, k, v, segments, *, scale, softcap, interpret):
    # Here, because only a TPU needs it and importing it takes a second.
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    length, heads = q.shape[1:3]
    causal = splash.CausalMask((length, length))
    kernel = splash.make_splash_mha_single_device(
        splash.MultiHeadMask([causal] * heads),
        attn_logits_soft_cap=softcap or None,
        interpret=interpret,
    )

    def one_row(q, k, v, ids):
        return kernel(q, k, v, segment_ids=splash.SegmentIds(ids, ids))

    q = (q * scale).transpose(0, 2, 1, 3)  # the kernel itself does not scale
    return jax.vmap(one_row)(q, k, v, segments).transpose(0, 2, 1, 3)
