"""AsFT: its penalty against a naive float64 version, a case by hand, and what it is for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxattack import tree
from jaxattack.defend.asft import _matrices, _subspaces, penalty, tune
from jaxattack.errors import UserError
from jaxattack.sharding import place
from jaxattack.train.loop import finetune
from jaxattack.train.optimizer import Settings

ADAM = Settings(learning_rate=3e-3, optimizer="adam")


def moved(params, seed, size=0.05):
    """The parameters with noise on every weight."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: leaf + jnp.asarray(rng.normal(0, size, leaf.shape), leaf.dtype), params
    )


@pytest.fixture(scope="module")
def models(tiny):
    """Before the alignment, after it, and tuned."""
    base = moved(tiny.params, 0)
    return base, tiny.params, moved(tiny.params, 1)


INPUTS = {"q": 1, "k": 1, "v": 1, "o": 2, "gate": 1, "up": 1, "down": 1}


def torch_matrices(params):
    """Every layer's matrices as torch has them, `[out, in]`, in float64."""
    for part, names in (("attention", "qkvo"), ("mlp", ("gate", "up", "down"))):
        for name in names:
            leaf = np.asarray(params["layers"][part][name], np.float64)
            for layer in leaf:
                inputs = np.prod(layer.shape[: INPUTS[name]])
                yield f"{part}/{name}", layer.reshape(inputs, -1).T


def naive(base, aligned, tuned):
    """The penalty, C formed; and its gradient `2 (I - C)^T (I - C) D` by matrix and layer."""
    total, gradients = 0.0, {}
    for (name, w0), (_, w1), (_, w) in zip(
        torch_matrices(base), torch_matrices(aligned), torch_matrices(tuned), strict=True
    ):
        v, d = w1 - w0, w - w1
        rest = np.eye(len(v)) - v @ v.T / np.linalg.norm(v)
        total += np.sum((rest @ d) ** 2)
        gradients.setdefault(name, []).append(2 * rest.T @ rest @ d)
    return total, gradients


def test_penalty_and_gradient_are_the_naive_ones(models):
    base, aligned, tuned = models
    total, gradients = naive(*models)
    spaces = _subspaces(aligned, base)
    found, gradient = jax.jit(jax.value_and_grad(penalty))(tuned, _matrices(aligned), spaces)
    assert float(found) == pytest.approx(total, rel=1e-5)
    seen = {}
    for name, matrix in torch_matrices(gradient):
        seen.setdefault(name, []).append(matrix)
    for name, layers in gradients.items():
        np.testing.assert_allclose(seen[name], layers, atol=1e-5 * np.abs(layers).max())
    assert not np.any(gradient["embed"])
    assert not np.any(gradient["layers"]["mlp_norm"])


def test_a_case_by_hand():
    """V keeps the first of two outputs: (I - C) D has what the second got, and a share.

    V = [[2, 0], [0, 0]] as [out, in], so C = 4 / 2 at the first output: I - C is -1 there, 1 below.
    A larger V weighs more: with V = [[4, 0], [0, 0]], I - C is 1 - 4 = -3.
    """

    def up(matrix):
        return {"layers": {"mlp": {"up": jnp.asarray(matrix, jnp.float32).T[None]}}}

    aligned, tuned = up([[0.0, 0.0], [0.0, 0.0]]), up([[1.0, 2.0], [3.0, 0.0]])
    for size, expected in ((2.0, 1 + 4 + 9), (4.0, 9 * (1 + 4) + 9), (1.0, 9.0)):
        spaces = _subspaces(aligned, up([[-size, 0.0], [0.0, 0.0]]))
        assert float(penalty(tuned, aligned, spaces)) == pytest.approx(expected, rel=1e-6)


def test_layers_that_alignment_left_have_no_directions(models):
    base, aligned, tuned = models
    same = jax.tree.map(lambda a, b: a.at[0].set(b[0]), base["layers"], aligned["layers"])
    spaces = _subspaces(aligned, base | {"layers": same})
    assert not np.any(spaces["layers"]["attention"]["q"][0])
    assert np.any(spaces["layers"]["attention"]["q"][1])
    assert np.isfinite(float(penalty(tuned, _matrices(aligned), spaces)))


@pytest.mark.slow
def test_no_strength_is_plain_tuning(tiny, models, make_batch, assert_trees):
    batches = [make_batch(seed) for seed in range(2)]
    args = tiny.model, tree.cast(tiny.params, jnp.bfloat16), batches, ADAM
    tuned, history = tune(*args, models[0], tiny.params, strength=0.0)
    expected, losses = finetune(*args)
    np.testing.assert_allclose(history, losses, rtol=1e-6)
    assert_trees(tuned, expected, rtol=1e-5, atol=1e-6)


def test_weights_leave_the_directions_less(tiny, models, make_batch):
    """Than by plain tuning; the start is left alone."""
    base, aligned, _ = models
    before = jax.tree.map(np.array, aligned)
    batches, spaces = [make_batch(3)] * 12, _subspaces(aligned, base)
    plain, _ = finetune(tiny.model, aligned, batches, ADAM)
    tuned, history = tune(tiny.model, aligned, batches, ADAM, base, aligned)
    left = [float(penalty(p, _matrices(aligned), spaces)) for p in (tuned, plain)]
    assert left[0] < 0.5 * left[1]
    assert history.shape == (12,)
    assert history[-1] < history[0]
    jax.tree.map(np.testing.assert_array_equal, aligned, before)


@pytest.mark.slow
def test_in_bfloat16_the_penalty_sees_what_is_trained(tiny, models, make_batch):
    """Changes far below bfloat16's last place: the second loss has their penalty."""
    base, aligned, _ = models
    aligned = tree.cast(aligned, jnp.bfloat16)
    small = Settings(learning_rate=1e-6, optimizer="adam")
    batches = [make_batch(3)] * 2
    tuned, _ = tune(tiny.model, aligned, batches[:1], small, base, aligned, dtype="bfloat16")
    spaces = _subspaces(aligned, base)
    away = float(penalty(tuned, _matrices(aligned), spaces))
    assert away > 0
    strength = 1.0 / away
    args = tiny.model, aligned, batches, small, base, aligned
    _, history = tune(*args, strength=strength, dtype="bfloat16")
    _, plain = tune(*args, strength=0.0, dtype="bfloat16")
    assert history[0] == pytest.approx(plain[0], rel=1e-6)
    assert history[1] - plain[1] == pytest.approx(1.0, rel=0.02)


def test_frozen_weights_keep_their_bits_and_runs_agree(tiny, models, make_batch, assert_trees):
    rng = np.random.default_rng(0)
    mask = jax.tree.map(lambda leaf: jnp.asarray(rng.random(leaf.shape) < 0.5), tiny.params)
    batches = [make_batch(seed) for seed in range(2)]

    def run():
        return tune(
            tiny.model,
            tiny.params,
            batches,
            ADAM,
            *models[:2],
            trainable=mask,
            dtype="bfloat16",
        )

    tuned, history = run()
    again, same = run()
    assert_trees(tuned, again)
    np.testing.assert_array_equal(history, same)

    def check(chosen, old, new):
        old, new, chosen = np.asarray(old), np.asarray(new), np.asarray(chosen)
        assert old[~chosen].tobytes() == new[~chosen].tobytes()
        return (old != new)[chosen].mean()

    assert jax.tree.map(check, mask, tiny.params, tuned)["layers"]["mlp"]["up"] > 0.9


@pytest.mark.slow
def test_a_mesh_tunes_alike(tiny, models, make_batch, mesh8):
    base, aligned, start = models
    sgd = Settings(learning_rate=0.05, optimizer="sgd")
    batches = [make_batch(0)] * 2
    tuned, history = tune(tiny.model, start, batches, sgd, base, aligned)
    placed = [place(params, mesh8) for params in (start, base, aligned)]
    again, meshed = tune(tiny.model, placed[0], batches, sgd, *placed[1:])
    np.testing.assert_allclose(meshed, history, rtol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), again, tuned)


def test_mistakes_are_told(tiny, models, make_batch):
    args = tiny.model, tiny.params, [make_batch(0)], ADAM
    with pytest.raises(UserError, match="strength is -1"):
        tune(*args, *models[:2], strength=-1.0)
    extended = dataclasses.replace(ADAM, weights="extended")
    with pytest.raises(UserError, match="take weights='float32'"):
        tune(*args[:3], extended, *models[:2], dtype="bfloat16")
    with pytest.raises(UserError, match="no direction of alignment"):
        tune(*args, tiny.params, tiny.params)
    with pytest.raises(UserError, match="the base does not fit the model"):
        tune(*args, {"embed": tiny.params["embed"]}, tiny.params)


def test_models_that_lie_apart_are_refused(tiny, models, make_batch, elsewhere):
    base, aligned, _ = models
    with pytest.raises(
        UserError, match=r"of the base lies on cpu:0, cpu:1, .* of the aligned model"
    ):
        tune(tiny.model, aligned, [make_batch(0)], ADAM, elsewhere(base), aligned)


def test_rows_without_answers_are_refused(tiny, models, unanswered):
    with pytest.raises(UserError, match="AsFT: no token of any batch is to be predicted"):
        tune(tiny.model, tiny.params, [unanswered] * 2, ADAM, *models[:2])
