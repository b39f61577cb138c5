"""Booster: its gradient against torch's three, a case by hand, and what it is for."""

import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxattack import tree
from jaxattack.defend import booster as module
from jaxattack.defend.booster import Booster, aligned
from jaxattack.errors import UserError
from jaxattack.sharding import place
from jaxattack.train.losses import answer_loss
from jaxattack.train.optimizer import Settings

SGD = Settings(learning_rate=0.05, optimizer="sgd")
BOOSTER = Booster(strength=5.0, step=0.5)

loss_and_gradient = jax.jit(jax.value_and_grad(BOOSTER, argnums=1), static_argnums=0)


@pytest.fixture(scope="module")
def batch(make_batch):
    return {"safe": make_batch(0), "harmful": make_batch(1)}


@pytest.fixture(scope="module")
def mask(tiny):
    """Half of the weights, at random."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.random(leaf.shape) < 0.5), tiny.params)


def torch_gradient(tiny, torch_answer_loss, batch, chosen):
    """Value and combined gradient in float64, step by step as the paper's algorithm has it."""
    reference = copy.deepcopy(tiny.reference).double()
    tensors = dict(reference.named_parameters())

    def gradient(rows):
        loss = torch_answer_loss(reference, rows)
        return loss.item(), torch.autograd.grad(loss, list(tensors.values()))

    safe, g_safe = gradient(batch["safe"])
    before, g1 = gradient(batch["harmful"])
    g1 = [g * chosen[name] for name, g in zip(tensors, g1, strict=True)]
    norm = torch.sqrt(sum((g**2).sum() for g in g1))
    with torch.no_grad():
        for tensor, g in zip(tensors.values(), g1, strict=True):
            tensor -= BOOSTER.step * g / (norm + 1e-7)
    after, g2 = gradient(batch["harmful"])
    combined = {
        name: s + BOOSTER.strength * (first - second)
        for name, s, first, second in zip(tensors, g_safe, g1, g2, strict=True)
    }
    return safe + BOOSTER.strength * (before - after), combined


def close(found, expected, share):
    """Leaf by leaf, by a share of the leaf's largest entry."""
    for name, leaf in tree.named_leaves(expected).items():
        ours = np.asarray(tree.named_leaves(found)[name])
        np.testing.assert_allclose(ours, leaf, atol=share * np.abs(leaf).max(), err_msg=name)


def test_the_gradient_is_torchs_of_three(tiny, batch, torch_answer_loss, ours_from_torch):
    everything = {name: 1.0 for name, _ in tiny.reference.named_parameters()}
    value, combined = torch_gradient(tiny, torch_answer_loss, batch, everything)
    found, gradient = loss_and_gradient(tiny.model, tiny.params, batch)
    assert float(found) == pytest.approx(value, rel=1e-5)
    expected = ours_from_torch(combined, tiny.model.config)
    close(gradient, expected, 1e-4)
    plain = jax.jit(jax.grad(answer_loss, argnums=1), static_argnums=0)
    safe = plain(tiny.model, tiny.params, batch["safe"])
    with pytest.raises(AssertionError):  # the second term is seen at this tolerance
        close(safe, expected, 1e-4)


def test_the_harmful_step_moves_trained_weights_alone(
    tiny, batch, torch_answer_loss, ours_from_torch
):
    chosen = {
        name: float("mlp" in name and "norm" not in name)
        for name, _ in tiny.reference.named_parameters()
    }
    value, combined = torch_gradient(tiny, torch_answer_loss, batch, chosen)
    mlps = tree.map_named(lambda n, leaf: jnp.full(leaf.shape, "mlp/" in n), tiny.params)
    found, gradient = loss_and_gradient(tiny.model, tiny.params, batch, mlps)
    assert float(found) == pytest.approx(value, rel=1e-5)
    expected = ours_from_torch(combined, tiny.model.config)["layers"]["mlp"]
    close(gradient["layers"]["mlp"], expected, 1e-4)
    assert abs(value - float(loss_and_gradient(tiny.model, tiny.params, batch)[0])) > 1e-3


def test_a_case_by_hand(monkeypatch):
    """L_harm = |w|^2 / 2 at (3, 4), a step of 0.5: to (2.7, 3.6), 2.375 lower; L_safe = sum w."""

    def loss(model, params, rows):
        return 0.5 * jnp.sum(params["w"] ** 2) if rows == "harm" else jnp.sum(params["w"])

    monkeypatch.setattr(module, "answer_loss", loss)
    rows = {"safe": "safe", "harmful": "harm"}
    value, gradient = jax.value_and_grad(lambda p: BOOSTER(None, p, rows))(
        {"w": jnp.array([3.0, 4.0])}
    )
    assert float(value) == pytest.approx(7 + 5 * 2.375, rel=1e-6)
    np.testing.assert_allclose(gradient["w"], [1 + 5 * 0.3, 1 + 5 * 0.4], rtol=1e-5)


@pytest.mark.slow
def test_in_bfloat16_the_harmful_step_is_not_rounded_away(tiny, batch):
    """The gain of bfloat16 weights is that of the same weights in float32."""
    booster = jax.jit(Booster(strength=1.0, step=1e-3), static_argnums=0)
    safe = jax.jit(answer_loss, static_argnums=0)
    narrow = tree.cast(tiny.params, jnp.bfloat16)

    def gain(params):
        both = booster(tiny.model, params, batch)
        return float(both - safe(tiny.model, params, batch["safe"]))

    assert gain(tree.cast(narrow, jnp.float32)) > 1e-3
    assert gain(narrow) == pytest.approx(gain(tree.cast(narrow, jnp.float32)), rel=0.02)


def harm_gained(tiny, params, rows, length=0.5):
    """How much a step of one norm down the harmful loss lowers it."""
    loss, slope = jax.jit(jax.value_and_grad(answer_loss, argnums=1), static_argnums=0)(
        tiny.model, params, rows
    )
    norm = np.sqrt(sum(float(jnp.sum(g**2)) for g in jax.tree.leaves(slope)))
    moved = jax.tree.map(lambda w, g: w - length / norm * g, params, slope)
    return float(loss - jax.jit(answer_loss, static_argnums=0)(tiny.model, moved, rows))


@pytest.mark.slow
def test_a_harmful_step_gains_less_after_it(tiny, batch):
    before = jax.tree.map(np.array, tiny.params)
    made = {}
    for strength in (0.0, 5.0):
        booster = dataclasses.replace(BOOSTER, strength=strength)
        safe, harmful = [batch["safe"]] * 12, [batch["harmful"]]
        made[strength], history = aligned(tiny.model, tiny.params, safe, harmful, SGD, booster)
        assert history.shape == (12,)
        assert history[-1] < history[0]
    gained = {s: harm_gained(tiny, params, batch["harmful"]) for s, params in made.items()}
    assert gained[5.0] < 0.8 * gained[0.0]
    jax.tree.map(np.testing.assert_array_equal, tiny.params, before)


def test_frozen_weights_keep_their_bits_and_runs_agree(tiny, make_batch, mask, assert_trees):
    safe, harmful = [make_batch(seed) for seed in (0, 1, 2)], [make_batch(3), make_batch(4)]

    def run():
        return aligned(
            tiny.model, tiny.params, safe, harmful, SGD, BOOSTER, trainable=mask, dtype="bfloat16"
        )

    tuned, history = run()
    again, same = run()
    assert_trees(tuned, again)
    np.testing.assert_array_equal(history, same)

    def check(chosen, old, new):
        old, new, chosen = np.asarray(old), np.asarray(new), np.asarray(chosen)
        assert new.dtype == np.float32
        assert old[~chosen].tobytes() == new[~chosen].tobytes()

    jax.tree.map(check, mask, tiny.params, tuned)
    moved = jax.tree.map(lambda m, a, b: jnp.mean((a != b)[m]), mask, tiny.params, tuned)
    assert float(moved["layers"]["mlp"]["up"]) > 0.9


@pytest.mark.slow
def test_a_mesh_aligns_alike(tiny, batch, mesh8):
    args = [batch["safe"]] * 2, [batch["harmful"]], SGD, BOOSTER
    tuned, history = aligned(tiny.model, tiny.params, *args)
    placed, meshed = aligned(tiny.model, place(tiny.params, mesh8), *args)
    np.testing.assert_allclose(meshed, history, rtol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), placed, tuned)


def test_mistakes_are_told(tiny, batch):
    safe, harmful = [batch["safe"]], [batch["harmful"]]
    with pytest.raises(UserError, match="strength is -1"):
        Booster(strength=-1)
    with pytest.raises(UserError, match="step is 0"):
        Booster(step=0)
    with pytest.raises(UserError, match="Booster: no harmful batches"):
        aligned(tiny.model, tiny.params, safe, [], SGD, BOOSTER)
    parts = dataclasses.replace(SGD, accumulate=2)
    with pytest.raises(UserError, match="leave `accumulate` at 1"):
        aligned(tiny.model, tiny.params, safe, harmful, parts, BOOSTER)
    beyond = [harmful[0] | {"tokens": harmful[0]["tokens"] + 600}]
    with pytest.raises(UserError, match="Booster: batch"):
        aligned(tiny.model, tiny.params, safe, beyond, SGD, BOOSTER)


def test_rows_without_answers_are_refused(tiny, batch, unanswered):
    for kind in ("safe", "harmful"):
        rows = {name: [each] * 2 for name, each in (batch | {kind: unanswered}).items()}
        with pytest.raises(UserError, match=f"Booster, {kind} rows: no token of any batch is to"):
            aligned(tiny.model, tiny.params, rows["safe"], rows["harmful"], SGD, BOOSTER)
