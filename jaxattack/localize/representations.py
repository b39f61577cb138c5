"""How alike a model represents the same texts in two languages."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxattack import sharding
from jaxattack.models.config import check_tokens
from jaxattack.models.transformer import Transformer, hidden_states
from jaxattack.tree import Tree

BATCH = 32


def mean_states(model: Transformer, params: Tree, texts: Sequence[Sequence[int]]) -> np.ndarray:
    """Every layer's output, mean over each text's tokens: float32 `[L, N, D]`."""
    check_tokens(model.config, texts, "text")
    mesh = sharding.mesh_of(params)
    length = -(-max(map(len, texts)) // 16) * 16
    found = []
    for start in range(0, len(texts), BATCH):
        tokens = np.zeros((BATCH, length), np.int32)
        real = np.zeros((BATCH, length), np.int32)
        some = texts[start : start + BATCH]
        for row, text in enumerate(some):
            tokens[row, : len(text)] = text
            real[row, : len(text)] = 1
        placed = sharding.place_filled({"tokens": tokens, "real": real}, mesh)
        means = model.clone(keep_hidden=True, summary=_mean_of_tokens)
        states = _means(means, mesh, params, **placed)
        found.append(sharding.to_host(states)[:, : len(some)])
    return np.concatenate(found, axis=1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _means(model: Transformer, mesh: jax.sharding.Mesh, params: Tree, tokens, real) -> jax.Array:
    with sharding.within(mesh):
        _, _, outputs = hidden_states(model, params, tokens, segment_ids=real)
    assert outputs is not None
    return outputs


def _mean_of_tokens(x: jax.Array, real: jax.Array) -> jax.Array:
    """Mean `[B, D]` over the tokens of each text."""
    weights = real / jnp.maximum(jnp.sum(real, axis=1, keepdims=True), 1)
    return jnp.einsum("btd,bt->bd", x.astype(jnp.float32), weights)


def cka(x: np.ndarray, y: np.ndarray) -> float:
    """Linear centred kernel alignment of states `[N, D]`, `[N, E]` (Kornblith et al. 2019, eq. 4).

    1 for states that are equal up to rotation, shift and one scale. The biased estimate: it is
    above 0 for unrelated states too, the more so the fewer texts.
    """
    x, y = (states - states.mean(axis=0) for states in (x.astype(np.float64), y.astype(np.float64)))
    cross = np.linalg.norm(x.T @ y) ** 2
    return float(cross / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)))


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    """Mean over texts of the cosine between their states `[N, D]`, less each language's mean."""
    x, y = (states - states.mean(axis=0) for states in (x.astype(np.float64), y.astype(np.float64)))
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return float(np.mean(np.sum(x * y, axis=1) / np.maximum(norms, 1e-30)))
