"""How alike a model represents the same texts in two languages."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxattack import sharding
from jaxattack.errors import UserError
from jaxattack.models.config import check_tokens
from jaxattack.models.transformer import Transformer, hidden_states
from jaxattack.tree import Tree

BATCH = 32
TEXTS = 4  # the fewest by which CKA is defined
LEAST = 1e-12  # of the states' products, below which what CKA compares is rounding


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

    1 for states that are equal up to rotation, shift and one scale, about 0 for unrelated ones: of
    unbiased estimates (Song et al. 2012, eq. 5), for by the plain ones few texts in many dimensions
    are all alike.

    Raises:
        UserError: fewer than `TEXTS` texts or not as many of both, or states that are not finite or
            between which there is no difference to compare.
    """
    if len(x) < TEXTS or len(x) != len(y):
        texts = len(x) if len(x) == len(y) else f"{len(x)} and {len(y)}"
        raise UserError(f"CKA of {texts} texts; give at least {TEXTS}, the same in both")
    one, two = map(_kernel, (x, y))
    return float(np.sum(one * two) / (np.linalg.norm(one) * np.linalg.norm(two)))


def _kernel(states: np.ndarray) -> np.ndarray:
    """Products of different texts' states `[N, D]`; what is by one of the two alone is taken out.

    The product of two such kernels is the unbiased estimate (Szekely and Rizzo 2014, eq. 2.2).

    Raises:
        UserError: nothing is left, or it is not finite.
    """
    wide, count = states.astype(np.float64), len(states)
    if not np.isfinite(wide).all():
        raise UserError("CKA of states that are not finite; look at the model's weights")
    wide = wide - wide.mean(axis=0)
    kernel = wide @ wide.T
    size = np.linalg.norm(kernel)
    np.fill_diagonal(kernel, 0.0)
    sums = kernel.sum(axis=0)
    kernel += sums.sum() / ((count - 1) * (count - 2)) - (sums + sums[:, None]) / (count - 2)
    np.fill_diagonal(kernel, 0.0)
    if np.linalg.norm(kernel) <= LEAST * size:
        raise UserError(
            f"CKA of {count} texts whose states are all equal, or all equally far apart: there is "
            "nothing to compare; give texts that differ"
        )
    return kernel


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    """Mean over texts of the cosine between their states `[N, D]`, less each language's mean."""
    x, y = (states - states.mean(axis=0) for states in (x.astype(np.float64), y.astype(np.float64)))
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    return float(np.mean(np.sum(x * y, axis=1) / np.maximum(norms, 1e-30)))
