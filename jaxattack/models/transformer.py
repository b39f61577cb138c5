"""The decoder: modules declare parameters, functions do the arithmetic, the cache is an argument.

B batch, T tokens, S cache slots, L layers, D hidden, H query heads, K key/value heads, F mlp,
V vocabulary. Parameters are a plain nested dict; those of the layers are stacked on a leading L.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from jaxattack import sharding
from jaxattack.models import attention as attn
from jaxattack.models import kernels
from jaxattack.models.config import ModelConfig
from jaxattack.models.lookup import rows_of
from jaxattack.models.moments import COLLECTION, beside, declare, times

Norm = Callable[[jax.Array], jax.Array]
Cache = dict[str, jax.Array]  # {"k": [L, B, K, S, head], "v": the same}

INPUTS = "inputs"  # collection: what the blocks' matrices multiply, for who asks for it
# What is kept of a layer's states `[B, T, D]`, given their segments `[B, T]` (None under a mask).
Summary = Callable[[jax.Array, Any], jax.Array]

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


def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float) -> jax.Array:
    """Normalisation to mean 0 and variance 1 over the last axis, in float32."""
    wide = x.astype(jnp.float32)
    wide = wide - jnp.mean(wide, axis=-1, keepdims=True)
    wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + eps)
    return (wide * scale.astype(jnp.float32) + bias.astype(jnp.float32)).astype(x.dtype)


def declare_norm(module: nn.Module, name: str, size: int, config: ModelConfig) -> Norm:
    """Declare the family's norm over `size` features in a module; returns it as a function."""
    zeros, ones, eps = nn.initializers.zeros, nn.initializers.ones, config.norm_eps
    if config.norm == "rms+1":
        scale = declare(module, name, zeros, (size,))
        return lambda x: rms_norm(x, 1.0 + beside(x, scale).astype(jnp.float32), eps)
    scale = declare(module, name, ones, (size,))
    if config.norm == "layer":
        bias = declare(module, f"{name}_bias", zeros, (size,))
        return lambda x: layer_norm(x, beside(x, scale), beside(x, bias), eps)
    return lambda x: rms_norm(x, beside(x, scale), eps)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "silu": nn.silu,
    "gelu_tanh": functools.partial(nn.gelu, approximate=True),
}


def init_cache(config: ModelConfig, batch: int, slots: int, dtype: jnp.dtype) -> Cache:
    """An empty key/value cache of all layers."""
    shape = (config.num_layers, batch, config.num_kv_heads, slots, config.head_dim)
    spec = P(None, *sharding.BATCH, "tensor")
    return {name: sharding.constrain(jnp.zeros(shape, dtype), spec) for name in ("k", "v")}


def unstack(config: ModelConfig, layers: Any) -> tuple[Any, ...]:
    """A tree of each layer's own, of a tree of arrays (parameters, cache) stacked over layers."""
    return tuple(jax.tree.map(lambda a, i=i: a[i], layers) for i in range(config.num_layers))


class Attention(nn.Module):
    """Self-attention with grouped key/value heads."""

    config: ModelConfig
    summary: Summary | None = None

    @nn.compact
    def __call__(self, x, around, cache, layer, slot):
        """Attend within `x` `[B, T, D]`, or to the cache it is first written into at `slot`."""
        c = self.config
        q, k, v = self.queries_keys_values(x)
        if c.qk_norm:
            q = declare_norm(self, "q_norm", c.head_dim, c)(q)
            k = declare_norm(self, "k_norm", c.head_dim, c)(k)
        if around.angles is not None:
            q, k = attn.rotate(q, around.angles), attn.rotate(k, around.angles)
        k, v = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)  # [B, K, S, head]
        if cache is not None:
            cache, k, v = self.remember(cache, layer, slot, k, v)
            seen = around.mask.shape[-1]  # slots behind the mask's last are not looked at
            k, v = k[:, :, :seen], v[:, :, :seen]
        mixed = kernels.attend(q, k, v, around, c)
        init = nn.initializers.normal((c.num_heads * c.head_dim * 2 * c.num_layers) ** -0.5)
        kernel = declare(self, "o", init, (c.num_heads, c.head_dim, c.hidden_size))
        mixed = mixed.reshape(*mixed.shape[:2], -1)
        note(self, "qkv", x, around)
        note(self, "o", mixed, around)
        out = times(mixed, kernel)
        if c.o_bias:
            out = out + beside(
                out, declare(self, "o_bias", nn.initializers.zeros, (c.hidden_size,))
            )
        return out, cache

    @staticmethod
    def remember(cache, layer, slot, k, v):
        """Write keys and values `[B, K, T, head]` at `slot` of the cache; returns the layer's.

        The cache is that of all layers, or the layer's own if `layer` is None.
        """
        fresh, start = {"k": k, "v": v}, [0, 0, slot, 0]
        if layer is not None:
            fresh, start = {name: part[None] for name, part in fresh.items()}, [layer, *start]
        cache = {
            name: jax.lax.dynamic_update_slice(whole, fresh[name].astype(whole.dtype), start)
            for name, whole in cache.items()
        }
        if layer is None:
            return cache, cache["k"], cache["v"]
        return cache, cache["k"][layer], cache["v"][layer]

    def queries_keys_values(self, x):
        """Project `[B, T, D]` to q `[B, T, H, head]` and k, v `[B, T, K, head]`."""
        c = self.config
        init, zeros = nn.initializers.normal(c.hidden_size**-0.5), nn.initializers.zeros
        if c.fused_qkv:
            shape = (c.num_heads, 3, c.head_dim)
            qkv = times(x, declare(self, "qkv", init, (c.hidden_size, *shape)))
            if c.qkv_bias:
                qkv = qkv + beside(qkv, declare(self, "qkv_bias", zeros, shape))
            return qkv[:, :, :, 0], qkv[:, :, :, 1], qkv[:, :, :, 2]
        heads = {"q": c.num_heads, "k": c.num_kv_heads, "v": c.num_kv_heads}
        outs = [
            times(x, declare(self, name, init, (c.hidden_size, count, c.head_dim)))
            for name, count in heads.items()
        ]
        if c.qkv_bias:
            outs = [
                out + beside(out, declare(self, f"{name}_bias", zeros, out.shape[-2:]))
                for name, out in zip(heads, outs, strict=True)
            ]
        return outs


def note(module: Attention | Mlp, name: str, x: jax.Array, around: attn.Surroundings) -> None:
    """Keep what a matrix of the module multiplies, or a summary of it, if somebody asks for it."""
    if module.is_mutable_collection(INPUTS):
        kept = x if module.summary is None else module.summary(x, around.segments)
        module.sow(INPUTS, name, kept)


class Mlp(nn.Module):
    """`act(x up) down`, or gated: `(act(x gate) * (x up)) down`."""

    config: ModelConfig
    summary: Summary | None = None

    @nn.compact
    def __call__(self, x, around):
        """Map `[B, T, D]` to `[B, T, D]`."""
        c = self.config
        init, zeros = nn.initializers.normal(c.hidden_size**-0.5), nn.initializers.zeros
        names = ("gate", "up") if c.gated else ("up",)
        outs = [times(x, declare(self, n, init, (c.hidden_size, c.mlp_size))) for n in names]
        if c.mlp_bias:
            outs = [
                out + beside(out, declare(self, f"{name}_bias", zeros, (c.mlp_size,)))
                for name, out in zip(names, outs, strict=True)
            ]
        inner = ACTIVATIONS[c.activation](outs[0])
        if c.gated:
            inner = inner * outs[1]
        down_init = nn.initializers.normal((c.mlp_size * 2 * c.num_layers) ** -0.5)
        note(self, "up", x, around)
        note(self, "down", inner, around)
        out = times(inner, declare(self, "down", down_init, (c.mlp_size, c.hidden_size)))
        if c.mlp_bias:
            out = out + beside(out, declare(self, "down_bias", zeros, (c.hidden_size,)))
        return out


class Block(nn.Module):
    """One pre-norm layer; also returns its output so that a scan can stack all of them."""

    config: ModelConfig
    keep_hidden: bool = False
    summary: Summary | None = None

    @nn.compact
    def __call__(self, carry, layer, local, around, slot):
        """Map `[B, T, D]` to `[B, T, D]`; the cache of all layers is carried along."""
        x, cache = carry
        c = self.config
        norm = functools.partial(declare_norm, self, size=c.hidden_size, config=c)
        mixed, cache = Attention(c, self.summary, name="attention")(
            norm("attention_norm")(x), around.of_layer(local), cache, layer, slot
        )
        if c.post_norms:
            mixed = norm("post_attention_norm")(mixed)
        x = sharding.constrain(x + mixed, sharding.BATCH)
        out = Mlp(c, self.summary, name="mlp")(norm("mlp_norm")(x), around)
        if c.post_norms:
            out = norm("post_mlp_norm")(out)
        x = sharding.constrain(x + out, sharding.BATCH)
        if not self.keep_hidden:
            return (x, cache), None
        return (x, cache), x if self.summary is None else self.summary(x, around.segments)


class Transformer(nn.Module):
    """A causal language model.

    `remat` is "none", "full" or "dots" (what the layers recompute); `attention` the kernel, one of
    `kernels.KERNELS`, by default what fits the platform; `summary` what stands for the layers'
    outputs and `INPUTS` where they are kept, by default they themselves.
    """

    config: ModelConfig
    remat: str = "none"
    keep_hidden: bool = False
    attention: str = "auto"
    summary: Summary | None = None

    def setup(self):
        """Declare the embedding, the scanned layers, the norms around them, an untied head."""
        c = self.config
        block = Block
        if self.remat != "none":
            block = nn.remat(Block, policy=REMAT[self.remat], prevent_cse=False)
        self.layers = nn.scan(
            block,
            variable_axes={"params": 0, COLLECTION: 0, INPUTS: 0},
            split_rngs={"params": True},
            in_axes=(0, 0, nn.broadcast, nn.broadcast),
            length=c.num_layers,
        )(c, self.keep_hidden, self.summary)
        init = nn.initializers.normal(c.hidden_size**-0.5)
        self.embed = self.param("embed", init, (c.vocab_size, c.hidden_size))
        if c.embed_norm:
            self.norm_embedding = declare_norm(self, "embed_norm", c.hidden_size, c)
        self.norm_final = declare_norm(self, "final_norm", c.hidden_size, c)
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
        cache: Cache | tuple[Cache, ...] | None = None,
        slot: Any = 0,
        unstacked: tuple[Any, ...] | None = None,
        rows: jax.Array | None = None,
    ):
        """Final normalised hidden states.

        Args:
            tokens: int `[B, T]`.
            positions: int `[B, T]`; 0, 1, 2, ... by default.
            segment_ids: int `[B, T]`; tokens see only their own segment. One segment by default.
            mask: bool `[B, T, S]`, who sees whom, instead of causal within segments.
            cache: keys and values to extend and attend to; needs `mask` and `slot`.
            slot: where in the cache these tokens go.
            unstacked: the layers' parameters one by one, to run them without a scan. The cache
                then is one by one too: a scan copies each layer's at every token.
            rows: the embedding's rows of the tokens `[B, T, D]`, if they were looked up before.

        Returns:
            hidden states `[B, T, D]`, the new cache (or None), every layer's output
            `[L, B, T, D]` or its summary `[L, ...]` (or None unless `keep_hidden`).
        """
        c = self.config
        if positions is None:
            positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        if mask is None and segment_ids is None:
            segment_ids = jnp.zeros_like(tokens)
        around = self.around(positions, None if mask is not None else segment_ids, mask, slot)
        x = self.entered(rows_of(self.embed, tokens) if rows is None else rows)
        local = jnp.array(c.local_layers or (False,) * c.num_layers)
        if unstacked is None:
            numbers = jnp.arange(c.num_layers)
            (x, cache), outputs = self.layers((x, cache), numbers, local, around, slot)
            return self.norm_final(x), cache, outputs
        caches = []
        for i, (weights, own) in enumerate(zip(unstacked, cast(tuple, cache), strict=True)):
            variables = {"params": weights}
            (x, own), _ = Block(c, parent=None).apply(
                variables, (x, own), None, local[i], around, slot
            )
            caches.append(own)
        return self.norm_final(x), tuple(caches), None

    def entered(self, rows: jax.Array) -> jax.Array:
        """What the first layer is given `[B, T, D]`, of the embedding's rows of the tokens."""
        # Who wants the gradient here gives something to add, in the collection "perturbations".
        x = self.perturb("lookup", rows) * jnp.asarray(self.config.embed_scale, rows.dtype)
        if self.config.embed_norm:
            x = self.norm_embedding(x)
        return sharding.constrain(x, sharding.BATCH)

    def left(self, x: jax.Array) -> jax.Array:
        """What the last layer leaves `[B, T, D]`, normalised for the head."""
        return self.norm_final(x)

    def around(self, positions, segments, mask, slot) -> attn.Surroundings:
        """What all layers know of the tokens' places; by segments or by a mask."""
        if mask is None:
            mask = attn.causal_mask(segments)
        kernel = self.attention
        if kernel == "auto":
            _, queries, keys = mask.shape
            backend, packed = jax.default_backend(), segments is not None
            kernel = kernels.choose(backend, self.config, self.embed.dtype, queries, keys, packed)
        around = attn.surroundings(self.config, positions, mask, slot)
        return dataclasses.replace(around, segments=segments, kernel=kernel)

    def unembed(self, x: jax.Array) -> jax.Array:
        """Logits `[..., V]` in float32 of hidden states `[..., D]`."""
        head = self.embed if self.config.tied else self.head
        flat = x.reshape(-1, x.shape[-1])
        if len(flat) <= flat.shape[1]:
            # Few states: sums over some columns of the head are less than all of its columns.
            flat = sharding.constrain(flat, P("data", "fsdp"))
        logits = jnp.matmul(flat, head.T, preferred_element_type=jnp.float32)
        logits = sharding.constrain(logits, P(sharding.BATCH[0], "tensor"))
        return attn.soft_cap(logits, self.config.final_softcap).reshape(*x.shape[:-1], -1)


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
    # By XLA's attention, for the others refuse two tokens in float32; no parameter depends on it.
    model = model.clone(attention="xla")
    return model.init(key, jnp.zeros((1, 2), jnp.int32))["params"]


def abstract_params(model: Transformer) -> dict:
    """The parameters' shapes, without their memory."""
    return jax.eval_shape(lambda key: init_params(model, key), jax.random.key(0))
