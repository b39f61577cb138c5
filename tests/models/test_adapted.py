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
        (CASES[1], "dots"),
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


def test_a_change_below_half_a_unit_of_bfloat16_is_not_lost():
    """Added to the weights it is rounded away; beside them it reaches the product."""
    size = 64
    signs = jnp.tile(jnp.array([1.0, -1.0]), size // 2)
    weights = jnp.full((1, size, 8), 0.1, jnp.bfloat16)  # which the signs cancel
    params = {"layers": {"mlp": {"down": weights}}}
    pair = {"a": signs[None, :, None], "b": jnp.full((1, 1, 8), 1e-5)}
    adapters = {"layers": {"mlp": {"down": pair}}}
    x = signs[None, None].astype(jnp.bfloat16)

    def product(tree):
        return times(x, jax.tree.map(lambda leaf: leaf[0], tree["layers"]["mlp"]["down"]))

    assert not np.asarray(product(lora.merge(params, adapters, 1.0))).any()
    beside = product(lora.attach(params, adapters, 1.0))
    assert beside.dtype == jnp.bfloat16
    np.testing.assert_allclose(beside.astype(jnp.float32), size * 1e-5, rtol=2**-7)
