"""An auxiliary loss that makes languages share what a question means."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxattack.models.transformer import Transformer, hidden_states
from jaxattack.train.losses import next_token_loss
from jaxattack.tree import Tree

ANCHORS = 128  # at most so many questions of a batch are compared


def contrast(hidden: jax.Array, fact: jax.Array, temperature: float = 0.1) -> jax.Array:
    """Supervised contrastive loss between states of questions that ask the same fact.

    Args:
        hidden: `[B, T, D]` states of one layer.
        fact: int `[B, T]`, the number of the fact asked at a question's last token, else 0.
        temperature: of the softmax over cosine similarities.

    Returns:
        mean over questions with a partner of the cross entropy (nats) of finding it among all
        questions of the batch (Khosla et al. 2020, equation 2); 0 if none has a partner.
    """
    facts, where = jax.lax.top_k(fact.reshape(-1), min(ANCHORS, fact.size))
    states = hidden.reshape(-1, hidden.shape[-1])[where].astype(jnp.float32)
    states = states * jax.lax.rsqrt(jnp.sum(states * states, axis=-1, keepdims=True) + 1e-6)
    others = (facts[None, :] > 0) & ~jnp.eye(len(facts), dtype=bool)
    similar = jnp.where(others, states @ states.T / temperature, -1e9)
    log_share = jax.nn.log_softmax(similar, axis=-1)
    partner = others & (facts[:, None] == facts[None, :]) & (facts[:, None] > 0)
    partners = jnp.sum(partner, axis=-1)
    found = -jnp.sum(jnp.where(partner, log_share, 0.0), axis=-1) / jnp.maximum(partners, 1)
    return jnp.sum(found) / jnp.maximum(jnp.sum(partners > 0), 1)


def shared_answer_loss(model: Transformer, params: Tree, batch: Tree, weight: float, layer: int):
    """Answer loss plus `weight` times the contrast of the states after layer number `layer`."""
    keeping = model.clone(keep_hidden=True)
    hidden, _, outputs = hidden_states(
        keeping,
        params,
        batch["tokens"],
        segment_ids=batch["segment_ids"],
        positions=batch["positions"],
    )
    assert outputs is not None
    loss = next_token_loss(model, params, hidden, batch)
    return loss + weight * contrast(outputs[layer - 1], batch["fact"])
