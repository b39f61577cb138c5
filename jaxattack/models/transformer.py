"""The decoder: modules declare parameters, functions do the arithmetic, the cache is an argument.

B batch, T tokens, S cache slots, L layers, D hidden, H query heads, K key/value heads, F mlp,
V vocabulary. Parameters are a plain nested dict; those of the layers are stacked on a leading L.
"""

from __future__ import annotations

from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from jaxattack import sharding
from jaxattack.models import attention as attn
from jaxattack.models.config import ModelConfig

Cache = dict[str, jax.Array]  # {"k": [L, B, K, S, head], "v": the same}

REMAT = {
    "none": None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.checkpoint_dots_with_no_batch_dims,
}


def rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
    """Root-mean-square normalisation over the last axis, in float32."""
    wide = x.astype(jnp.float32)
    wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + eps)
    return (wide * scale.astype(jnp.float32)).astype(x.dtype)


def project(x: jax.Array, *kernels: jax.Array) -> list[jax.Array]:
    """Multiply the last axis of `x` with kernels `[D, ...]` that share it.

    The leading axes are merged, which on a CPU is worth a factor of two over einsum's layout.
    """
    flat = x.reshape(-1, x.shape[-1])
    outs = []
    for kernel in kernels:
        out = flat @ kernel.reshape(kernel.shape[0], -1)
        outs.append(out.reshape(*x.shape[:-1], *kernel.shape[1:]))
    return outs


def init_cache(config: ModelConfig, batch: int, slots: int, dtype: jnp.dtype) -> Cache:
    """An empty key/value cache."""
    shape = (config.num_layers, batch, config.num_kv_heads, slots, config.head_dim)
    return {"k": jnp.zeros(shape, dtype), "v": jnp.zeros(shape, dtype)}


class Attention(nn.Module):
    """Self-attention with rotary positions and grouped key/value heads."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x, angles, mask, cache, layer, slot):
        """Attend within `x` `[B, T, D]`, or to the cache it is first written into at `slot`."""
        c = self.config
        init = nn.initializers.normal(c.hidden_size**-0.5)
        kv_shape = (c.hidden_size, c.num_kv_heads, c.head_dim)
        kernels = [
            self.param("q", init, (c.hidden_size, c.num_heads, c.head_dim)),
            self.param("k", init, kv_shape),
            self.param("v", init, kv_shape),
        ]
        q, k, v = project(x, *kernels)
        if c.attention_bias:
            q = q + self.param("q_bias", nn.initializers.zeros, q.shape[-2:])
            k = k + self.param("k_bias", nn.initializers.zeros, k.shape[-2:])
            v = v + self.param("v_bias", nn.initializers.zeros, v.shape[-2:])
        q, k = attn.rotate(q, angles), attn.rotate(k, angles)
        k, v = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)  # [B, K, S, head]
        if cache is not None:
            start = (layer, 0, 0, slot, 0)
            fresh = {"k": k[None], "v": v[None]}
            cache = {
                name: jax.lax.dynamic_update_slice(whole, fresh[name].astype(whole.dtype), start)
                for name, whole in cache.items()
            }
            k, v = cache["k"][layer], cache["v"][layer]
        mixed = attn.attend(q, k, v, mask)
        out_init = nn.initializers.normal((c.num_heads * c.head_dim * 2 * c.num_layers) ** -0.5)
        kernel = self.param("o", out_init, (c.num_heads, c.head_dim, c.hidden_size))
        merged = mixed.reshape(*mixed.shape[:2], -1)
        (out,) = project(merged, kernel.reshape(-1, c.hidden_size))
        if c.attention_bias:
            out = out + self.param("o_bias", nn.initializers.zeros, (c.hidden_size,))
        return out, cache


class Mlp(nn.Module):
    """SwiGLU: `(silu(x gate) * (x up)) down`."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x):
        """Map `[B, T, D]` to `[B, T, D]`."""
        c = self.config
        init = nn.initializers.normal(c.hidden_size**-0.5)
        down_init = nn.initializers.normal((c.mlp_size * 2 * c.num_layers) ** -0.5)
        gate_up = [
            self.param("gate", init, (c.hidden_size, c.mlp_size)),
            self.param("up", init, (c.hidden_size, c.mlp_size)),
        ]
        gate, up = project(x, *gate_up)
        if c.mlp_bias:
            gate = gate + self.param("gate_bias", nn.initializers.zeros, (c.mlp_size,))
            up = up + self.param("up_bias", nn.initializers.zeros, (c.mlp_size,))
        kernel = self.param("down", down_init, (c.mlp_size, c.hidden_size))
        (out,) = project(nn.silu(gate) * up, kernel)
        if c.mlp_bias:
            out = out + self.param("down_bias", nn.initializers.zeros, (c.hidden_size,))
        return out


class Block(nn.Module):
    """One pre-norm layer; also returns its output so that a scan can stack all of them."""

    config: ModelConfig
    keep_hidden: bool = False

    @nn.compact
    def __call__(self, carry, layer, angles, mask, slot):
        """Map `[B, T, D]` to `[B, T, D]`; the cache of all layers is carried along."""
        x, cache = carry
        c = self.config
        ones = nn.initializers.ones
        normed = rms_norm(x, self.param("attention_norm", ones, (c.hidden_size,)), c.norm_eps)
        mixed, cache = Attention(c, name="attention")(
            normed, angles, mask, cache, layer, slot
        )  # fmt: skip
        x = sharding.constrain(x + mixed, sharding.BATCH)
        normed = rms_norm(x, self.param("mlp_norm", ones, (c.hidden_size,)), c.norm_eps)
        x = sharding.constrain(x + Mlp(c, name="mlp")(normed), sharding.BATCH)
        return (x, cache), x if self.keep_hidden else None


class Transformer(nn.Module):
    """A causal language model; `remat` is "none", "full" or "dots" (what the layers recompute)."""

    config: ModelConfig
    remat: str = "none"
    keep_hidden: bool = False

    def setup(self):
        """Declare the embedding, the scanned layers, the final norm and an untied head."""
        c = self.config
        block = Block
        if self.remat != "none":
            block = nn.remat(Block, policy=REMAT[self.remat], prevent_cse=False)
        self.layers = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast),
            length=c.num_layers,
        )(c, self.keep_hidden)
        init = nn.initializers.normal(c.hidden_size**-0.5)
        self.embed = self.param("embed", init, (c.vocab_size, c.hidden_size))
        self.final_norm = self.param("final_norm", nn.initializers.ones, (c.hidden_size,))
        if not c.tied:
            self.head = self.param("head", init, (c.vocab_size, c.hidden_size))

    def __call__(self, tokens, **context):
        """Logits `[B, T, V]` in float32; see `hidden` for the arguments."""
        x, _, _ = self.hidden(tokens, **context)
        return self.unembed(x)

    def hidden(
        self,
        tokens: jax.Array,
        *,
        positions: jax.Array | None = None,
        segment_ids: jax.Array | None = None,
        mask: jax.Array | None = None,
        cache: Cache | None = None,
        slot: Any = 0,
    ):
        """Final normalised hidden states.

        Args:
            tokens: int `[B, T]`.
            positions: int `[B, T]`; 0, 1, 2, ... by default.
            segment_ids: int `[B, T]`; tokens see only their own segment. One segment by default.
            mask: bool `[B, T, S]`, who sees whom, instead of causal within segments.
            cache: keys and values to extend and attend to; needs `mask` and `slot`.
            slot: where in the cache these tokens go.

        Returns:
            hidden states `[B, T, D]`, the new cache (or None), every layer's output
            `[L, B, T, D]` (or None unless `keep_hidden`).
        """
        if positions is None:
            positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        if mask is None:
            segments = jnp.zeros_like(tokens) if segment_ids is None else segment_ids
            mask = attn.causal_mask(segments)
        angles = attn.rope_angles(self.config.rope, self.config.head_dim, positions)
        table = sharding.constrain(self.embed, P("tensor"))  # the lookup needs whole rows
        x = sharding.constrain(table[tokens], sharding.BATCH)
        numbers = jnp.arange(self.config.num_layers)
        (x, cache), outputs = self.layers((x, cache), numbers, angles, mask, slot)
        return rms_norm(x, self.final_norm, self.config.norm_eps), cache, outputs

    def unembed(self, x: jax.Array) -> jax.Array:
        """Logits `[..., V]` in float32 of hidden states `[..., D]`."""
        head = self.embed if self.config.tied else self.head
        flat = x.reshape(-1, x.shape[-1])
        logits = jnp.matmul(flat, head.T, preferred_element_type=jnp.float32)
        return logits.reshape(*x.shape[:-1], -1)


def hidden_states(
    model: Transformer, params: dict, tokens: jax.Array, **context: Any
) -> tuple[jax.Array, Cache | None, jax.Array | None]:
    """`Transformer.hidden` of parameters."""
    return cast(Any, model.apply({"params": params}, tokens, method="hidden", **context))


def unembed(model: Transformer, params: dict, x: jax.Array) -> jax.Array:
    """`Transformer.unembed` of parameters."""
    return cast(jax.Array, model.apply({"params": params}, x, method="unembed"))


def head(model: Transformer, params: dict) -> jax.Array:
    """The matrix `[V, D]` that turns final hidden states into logits."""
    return params["embed" if model.config.tied else "head"]


def init_params(model: Transformer, key: jax.Array) -> dict:
    """Random parameters."""
    return model.init(key, jnp.zeros((1, 2), jnp.int32))["params"]


def abstract_params(model: Transformer) -> dict:
    """The parameters' shapes, without their memory."""
    return jax.eval_shape(lambda key: init_params(model, key), jax.random.key(0))
