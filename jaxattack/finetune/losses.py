"""Losses of a batch, as functions of parameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxattack.models.transformer import Transformer, hidden_states, unembed
from jaxattack.tree import Tree


def token_losses(logits: jax.Array, tokens: jax.Array) -> jax.Array:
    """Cross entropy `[B, T-1]` (nats) of predicting each next token, in float32."""
    logits = logits[:, :-1].astype(jnp.float32)
    top = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    total = jnp.log(jnp.sum(jnp.exp(logits - top), axis=-1)) + top[..., 0]
    return total - jnp.take_along_axis(logits, tokens[:, 1:, None], axis=-1)[..., 0]


def predicted(batch: Tree) -> jax.Array:
    """Weights `[B, T-1]` of the predictions: loss mask, and never across two segments."""
    segments = batch["segment_ids"]
    return batch["loss_mask"][:, 1:] * (segments[:, 1:] == segments[:, :-1])


def forward(model: Transformer, params: Tree, batch: Tree) -> jax.Array:
    """Logits `[B, T, V]` of a batch's tokens in their segments."""
    hidden, _, _ = hidden_states(
        model,
        params,
        batch["tokens"],
        segment_ids=batch["segment_ids"],
        positions=batch.get("positions"),
    )
    return unembed(model, params, hidden)


def answer_loss(model: Transformer, params: Tree, batch: Tree) -> jax.Array:
    """Mean cross entropy over all answer tokens of the batch (nats per token)."""
    losses = token_losses(forward(model, params, batch), batch["tokens"])
    weights = predicted(batch)
    return jnp.sum(losses * weights) / jnp.maximum(jnp.sum(weights), 1.0)


def example_losses(model: Transformer, params: Tree, batch: Tree) -> jax.Array:
    """Mean cross entropy over each example's answer tokens `[B]` (0 for an empty row)."""
    losses = token_losses(forward(model, params, batch), batch["tokens"])
    weights = predicted(batch)
    return jnp.sum(losses * weights, axis=1) / jnp.maximum(jnp.sum(weights, axis=1), 1.0)
