"""Tiny random models of both layouts, and models tuned from them at random."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jaxattack.sharding import place

LAYOUTS = {
    "llama": {"attention_bias": True, "mlp_bias": True},  # queries, keys and values apart
    "bloom": {"model_type": "bloom", "n_layer": 2, "n_head": 4, "hidden_size": 32},  # fused
}


@pytest.fixture(params=LAYOUTS, scope="session")
def layout(request, make_checkpoint):
    """A checkpoint of each layout."""
    return make_checkpoint(**LAYOUTS[request.param])


@pytest.fixture(scope="session")
def tuned():
    """A function to a tree with all leaves moved at random."""

    def move(params, seed, scale=0.05, dtype=None):
        rng = np.random.default_rng(seed)
        return jax.tree.map(
            lambda w: jax.numpy.asarray(w + rng.normal(0, scale, w.shape), dtype or w.dtype),
            params,
        )

    return move


@pytest.fixture(scope="session")
def elsewhere(mesh8):
    """A function to a tree as another load would have placed it, on all devices."""
    return lambda params: place(params, mesh8)


@pytest.fixture
def unanswered(make_batch):
    """A batch whose rows have no answer."""
    rows = make_batch(6)
    return rows | {"loss_mask": np.zeros_like(rows["loss_mask"])}
