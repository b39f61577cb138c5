"""Matrices with a change beside them, in every family, against the same change added to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_configs import CONFIGS

from jaxattack.models.adapted import Adapted
from jaxattack.models.moments import times
from jaxattack.train import lora
from jaxattack.train.losses import answer_loss
from jaxattack.tree import named_leaves

SCALE = 0.7
# Fused and biased; gated; three projections; norms of queries and keys, windows, caps.
CASES = [("llama", 2), ("gemma2", 1), ("gemma3_text", 0), ("bloom", 3)]


@pytest.fixture(scope="module")
def batch(make_batch):
    return make_batch(seed=5, rows=4)


def adapters_of(params):
    """Adapters none of whose numbers is zero."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.2 * rng.normal(size=leaf.shape), jnp.float32),
        lora.init(params, 3, jax.random.key(0)),
    )


@pytest.mark.parametrize("inputs", [(12,), (3, 4)])
def test_a_product_equals_a_float64_sum(inputs):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 5, 12)), rng.normal(size=(*inputs, 2, 4))
    a, b = rng.normal(size=(*inputs, 3)), rng.normal(size=(3, 2, 4))
    whole = w.reshape(12, 8) + a.reshape(12, 3) @ b.reshape(3, 8)
    matrix = Adapted(*(jnp.asarray(part, jnp.float32) for part in (w, a, b)))
    found = times(jnp.asarray(x, jnp.float32), matrix)
    np.testing.assert_allclose(found.reshape(2, 5, 8), x @ whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("case", "remat"),
    [
        *((case, "none") for case in CASES),
        (CASES[1], "full"),
        *(pytest.param(case, "full", marks=pytest.mark.slow) for case in (CASES[0], *CASES[2:])),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value[0]}-{value[1]}",
)
def test_loss_and_gradient_are_those_of_merged_weights(case, remat, make_checkpoint, batch):
    family, number = case
    checkpoint = make_checkpoint(model_type=family, **CONFIGS[family][number])
    model, params = checkpoint.model.clone(remat=remat), checkpoint.params
    adapters = adapters_of(params)

    def merged(adapters):
        return answer_loss(model, lora.merge(params, adapters, SCALE), batch)

    def beside(adapters):
        return lora.AdaptedLoss(answer_loss, SCALE)(model, adapters, batch, params)

    expected, wanted = jax.jit(jax.value_and_grad(merged))(adapters)
    loss, grads = jax.jit(jax.value_and_grad(beside))(adapters)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert abs(float(loss) - float(answer_loss(model, params, batch))) > 0.02
    wanted = named_leaves(wanted)
    for name, leaf in named_leaves(grads).items():
        largest = np.abs(wanted[name]).max()
        assert largest > 0, name
        np.testing.assert_allclose(leaf, wanted[name], rtol=0, atol=1e-4 * largest, err_msg=name)


def test_no_weight_has_a_gradient(tiny, batch):
    """A step multiplies two thirds of what one of all weights does, and a little more."""
    adapters = lora.init(tiny.params, 1, jax.random.key(0))
    small = lora.AdaptedLoss(answer_loss, SCALE)

    def floats(loss, *arguments):
        step = jax.jit(jax.grad(loss, argnums=1), static_argnums=0)
        return step.lower(*arguments).cost_analysis()["flops"]

    every = floats(answer_loss, tiny.model, tiny.params, batch)
    assert floats(small, tiny.model, adapters, batch, tiny.params) < 0.8 * every


def test_a_change_below_half_a_unit_of_bfloat16_is_not_lost(tiny, batch):
    """Added to the weights it would be rounded away."""
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tiny.params)
    name = "layers/mlp/down"
    rank_one = jax.tree.map(jnp.zeros_like, lora.init(params, 1, jax.random.key(0)))
    pair = rank_one["layers"]["mlp"]["down"]
    pair["a"], pair["b"] = jnp.ones_like(pair["a"]), jnp.full_like(pair["b"], 2e-5)
    weights = named_leaves(params)[name]
    matrix = jax.tree.map(lambda leaf: leaf[0], named_leaves(lora.merge(params, rank_one, 1.0)))
    kept = (np.asarray(matrix[name]) == np.asarray(weights[0])).mean()
    assert kept > 0.9  # of the merged
    x = jnp.ones((1, 1, weights.shape[1]), jnp.float32)
    attached = lora.attach(params, rank_one, 1.0)["layers"]["mlp"]["down"]
    own = Adapted(*(part[0].astype(jnp.float32) for part in (attached.value, pair["a"], pair["b"])))
    moved = times(x, own) - times(x, own.value)
    np.testing.assert_allclose(moved, weights.shape[1] * 2e-5, rtol=1e-2)
