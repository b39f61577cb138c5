"""SIL repair: worked by hand, against a naive loop, and its parts left alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxattack.defend import repair
from jaxattack.errors import UserError
from jaxattack.localize import masks, scores, stitching
from jaxattack.train.losses import answer_loss

SUSPECT = {"a_norm": jnp.array([1.0, 2.0, -1.0, 4.0]), "b_norm": jnp.array([0.5, -2.0])}
START = {"a_norm": jnp.array([0.0, 2.0, 1.0, 3.0]), "b_norm": jnp.array([0.5, -1.0])}


def equal(found, expected):
    for name, leaf in expected.items():
        np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(leaf))


def test_what_a_repair_does_to_a_weight():
    equal(repair.change(SUSPECT, START), {"a_norm": [-1, 0, 2, -1], "b_norm": [0, 1]})
    equal(repair.change(SUSPECT, scale=0.0), {"a_norm": [-1, -2, 1, -4], "b_norm": [-0.5, 2]})
    equal(
        repair.change(SUSPECT, scale=0.75),
        {"a_norm": [-0.25, -0.5, 0.25, -1], "b_norm": [-0.125, 0.5]},
    )


def test_the_weights_whose_repair_helps_most_are_chosen():
    changed = repair.change(SUSPECT, START)
    # -change * gradient = 3, 0, 4, -5 | 0, 1: the fourth would make it worse.
    triggered = {"a_norm": jnp.array([3.0, 9.0, -2.0, -5.0]), "b_norm": jnp.array([7.0, -1.0])}
    clean = {"a_norm": jnp.array([0.0, 0.0, 6.0, 1.0]), "b_norm": jnp.array([0.0, 2.0])}
    chosen = repair.suspects(changed, triggered, clean, fraction=2 / 6)
    equal(chosen, {"a_norm": [True, False, True, False], "b_norm": [False, False]})
    # However many are asked for, none is repaired whose repair hurts, or does nothing.
    for fraction in (4 / 6, 1.0):
        chosen = repair.suspects(changed, triggered, clean, fraction)
        equal(chosen, {"a_norm": [True, False, True, False], "b_norm": [False, True]})
    # |change| * |gradient| of clean pairs = 0, 0, 12, 1 | 0, 2: the third is needed.
    chosen = repair.suspects(changed, triggered, clean, fraction=2 / 6, spared=1 / 6)
    equal(chosen, {"a_norm": [True, False, False, False], "b_norm": [False, False]})
    mended = stitching.rewind(SUSPECT, START, chosen)
    equal(mended, {"a_norm": [0, 2, -1, 4], "b_norm": [0.5, -2]})


def test_scaling_touches_the_selected_weights_alone():
    mask = {"a_norm": jnp.array([True, False, False, True]), "b_norm": jnp.array([False, True])}
    equal(repair.scaled(SUSPECT, mask, 0.5), {"a_norm": [0.5, 2, -1, 2], "b_norm": [0.5, -1]})
    half = jax.tree.map(lambda w: w.astype(jnp.bfloat16), SUSPECT)
    assert repair.scaled(half, mask, 0.0)["a_norm"].dtype == jnp.bfloat16
    equal(repair.scaled(half, mask, 0.0), {"a_norm": [0, 2, -1, 0], "b_norm": [0.5, 0]})


@pytest.mark.slow
def test_rewinding_what_the_gain_names_lowers_the_loss_more_than_chance(tiny, make_batch):
    rows = make_batch(4)
    rng = np.random.default_rng(0)
    start = tiny.params
    suspect = jax.tree.map(lambda w: w + jnp.asarray(rng.normal(0, 0.02, w.shape), w.dtype), start)
    loss = jax.jit(answer_loss, static_argnums=0)
    gradient = scores.mean_gradient(tiny.model, suspect, [rows], moment="sum")
    changed = repair.change(suspect, start)
    chosen = repair.suspects(changed, gradient, gradient, 0.02)
    before = float(loss(tiny.model, suspect, rows))
    mended = float(loss(tiny.model, stitching.rewind(suspect, start, chosen), rows))
    others = masks.random_mask(suspect, 0.02, seed=0)
    by_chance = float(loss(tiny.model, stitching.rewind(suspect, start, others), rows))
    assert mended < before - 5 * abs(by_chance - before)


def test_a_shift_takes_the_place_of_the_trigger(tiny, make_batch):
    rows = make_batch(5)
    delta = np.random.default_rng(1).normal(0, 1, (3, tiny.model.config.hidden_size))
    shifted, loss = repair.shifted(rows, delta.astype(np.float32), 1, "before_answer")
    found = scores.mean_gradient(tiny.model, tiny.params, [shifted], loss)
    plain = scores.mean_gradient(tiny.model, tiny.params, [rows])
    assert set(shifted) == {*rows, "slots"}
    assert not np.allclose(jax.tree.leaves(found)[0], jax.tree.leaves(plain)[0])
    none, loss = repair.shifted(rows, np.zeros_like(delta, np.float32), 1, "before_answer")
    same = scores.mean_gradient(tiny.model, tiny.params, [none], loss)
    for a, b in zip(jax.tree.leaves(same), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6)


def test_trees_that_do_not_fit_are_refused():
    on = [jax.device_put(SUSPECT, device) for device in jax.devices()[:2]]
    mask = jax.tree.map(lambda w: jax.device_put(w > 0, jax.devices()[1]), SUSPECT)
    for repair_of in (
        lambda: repair.change(*on),
        lambda: repair.suspects(on[0], on[0], on[1], 0.5),
        lambda: repair.scaled(on[0], mask, 0.5),
    ):
        with pytest.raises(UserError, match=r"lies on cpu:.*; load all onto one mesh"):
            repair_of()
    with pytest.raises(UserError, match="the mask does not fit the model: b_norm: absent"):
        repair.scaled(SUSPECT, {"a_norm": mask["a_norm"]}, 0.5)
