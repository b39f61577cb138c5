"""Muon on our stacked leaves against the same optimiser, matrix by matrix.

Optimisers by name, schedules and their errors are tested with the loop.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxattack.train.optimizer import Settings, learning_rates, make_optimizer

SHAPES = {
    "embed": (6, 4),
    "final_norm": (4,),
    "layers": {
        "attention": {"k": (2, 4, 1, 3), "o": (2, 2, 3, 4), "q": (2, 4, 2, 3), "q_bias": (2, 2, 3)},
        "attention_norm": (2, 4),
        "mlp": {"down": (2, 6, 4), "up": (2, 4, 6)},
    },
}
# How many axes of a layer's leaf are a matrix's inputs.
INPUTS = {"k": 1, "q": 1, "o": 2, "down": 1, "up": 1}


def random_tree(seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32),
        SHAPES,
        is_leaf=lambda x: isinstance(x, tuple),
    )


def naive_muon(grads, momentum=0.95, rms=0.2):
    """First step of Muon for one matrix `[inputs, outputs]`, in float64 (Jordan et al. 2024)."""
    m = (1 - momentum) * grads.astype(np.float64)
    x = momentum * m / (1 - momentum**2) + (1 - momentum) * grads / (1 - momentum)
    flipped = x.shape[0] > x.shape[1]
    x = x.T if flipped else x
    x = x / np.linalg.norm(x)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    x = x.T if flipped else x
    return x * rms * np.sqrt(max(x.shape))


@pytest.fixture(scope="module")
def updates():
    tx = make_optimizer(Settings(0.1, "muon", clip=0.0), 5)
    params, grads = random_tree(0), random_tree(1)
    return jax.jit(lambda g, p: tx.update(g, tx.init(p), p)[0])(grads, params), grads


@pytest.mark.parametrize("name", INPUTS)
def test_muon_takes_every_layers_matrix_for_itself(name, updates):
    room = "mlp" if name in ("up", "down") else "attention"
    update, grads = (np.asarray(tree["layers"][room][name]) for tree in updates)
    for layer in range(2):
        shape = grads[layer].shape
        matrix = grads[layer].reshape(int(np.prod(shape[: INPUTS[name]])), -1)
        expected = -0.1 * naive_muon(matrix).reshape(shape)
        np.testing.assert_allclose(update[layer], expected, rtol=1e-3, atol=1e-5)


def test_muon_leaves_what_is_no_matrix_to_adam(updates):
    # The first step of Adam with Nesterov's momentum depends on the gradient's sign alone.
    step = 0.1 * (1 + 0.9 * 0.1 / (1 - 0.9**2))
    update, grads = (
        [
            tree["embed"],
            tree["final_norm"],
            tree["layers"]["attention_norm"],
            tree["layers"]["attention"]["q_bias"],
        ]
        for tree in updates
    )
    for leaf, grad in zip(update, grads, strict=True):
        np.testing.assert_allclose(leaf, -step * np.sign(grad), rtol=1e-4)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("warmup", [0.0, 0.4])
def test_learning_rates_are_those_by_which_weights_move(schedule, warmup):
    """Plain gradient descent moves a weight by the rate times its gradient."""
    settings = Settings(0.5, optimizer="sgd", clip=0.0, schedule=schedule, warmup=warmup)
    tx, weights = make_optimizer(settings, 10), {"embed": jnp.zeros((1, 1))}
    state, moved = tx.init(weights), []
    for _ in range(10):
        update, state = tx.update({"embed": jnp.ones((1, 1))}, state, weights)
        moved.append(-float(update["embed"][0, 0]))
    rates = learning_rates(settings, 10)
    np.testing.assert_allclose(rates, moved, 1e-6)
    assert rates.shape == (10,)
    assert (rates[0] == 0.0) == (warmup > 0)


@pytest.mark.parametrize("name", ["adamw", "muon", "adamw8bit", "lion"])
def test_weight_decay_is_of_every_weight(name):
    """Adapters and the embedding too, which are no matrices of Muon's."""
    leaf = jnp.ones((2, 4, 4))
    params = {"embed": leaf[0], "layers": {"mlp": {"up": leaf, "up/a": leaf}}}
    tx = make_optimizer(Settings(0.1, name, weight_decay=0.5, clip=0.0), 5)
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    for update in jax.tree.leaves(updates):
        np.testing.assert_allclose(update, -0.05, rtol=1e-5)
