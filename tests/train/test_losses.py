"""Losses against loops in float64."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxattack.sharding import make_mesh, place, place_batch, within
from jaxattack.train.cross_entropy import cross_entropy
from jaxattack.train.losses import answer_loss, predicted

ROWS, LENGTH, VOCAB = 3, 7, 11
LOGITS = st.integers(0, 5).map(
    lambda seed: np.random.default_rng(seed).normal(0, 3, (ROWS, LENGTH, VOCAB)).astype(np.float32)
)
TOKENS = hnp.arrays(np.int32, (ROWS, LENGTH), elements=st.integers(0, VOCAB - 1))
MASK = hnp.arrays(np.float32, (ROWS, LENGTH), elements=st.sampled_from([0.0, 1.0]))
SEGMENTS = hnp.arrays(np.int32, (ROWS, LENGTH), elements=st.integers(0, 2)).map(
    lambda segments: np.sort(segments, axis=1)
)


answer_loss_of = jax.jit(answer_loss, static_argnums=0)
cross_entropy_of = jax.jit(cross_entropy, static_argnums=(4, 5))
gradients_of = jax.jit(jax.grad(cross_entropy, argnums=(0, 1)), static_argnums=(4, 5))


def naive_losses(logits, batch):
    """For each row, the losses of the tokens that count."""
    rows = []
    for b in range(ROWS):
        losses = []
        for t in range(1, LENGTH):
            same = batch["segment_ids"][b, t] == batch["segment_ids"][b, t - 1]
            if batch["loss_mask"][b, t] and same:
                before = logits[b, t - 1].astype(np.float64)
                total = np.log(np.sum(np.exp(before - before.max()))) + before.max()
                losses.append(total - before[batch["tokens"][b, t]])
        rows.append(losses)
    return rows


def plain(hidden, head, targets, weights, softcap):
    """The same by jax.nn, all logits at once."""
    logits = jnp.einsum("btd,vd->btv", hidden, head)
    if softcap:
        logits = softcap * jnp.tanh(logits / softcap)
    losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[..., None], axis=-1)[..., 0]
    return jnp.sum(jnp.where(weights == 0, 0.0, losses * weights))


@given(LOGITS, TOKENS, MASK, SEGMENTS, st.sampled_from([1, 2, 4, LENGTH - 1, 50]))
def test_the_weighted_sum_equals_loops(logits, tokens, loss_mask, segment_ids, chunk):
    batch = {"tokens": tokens, "loss_mask": loss_mask, "segment_ids": segment_ids}
    every = [loss for row in naive_losses(logits, batch) for loss in row]
    found = cross_entropy_of(
        logits[:, :-1], np.eye(VOCAB, dtype=np.float32), tokens[:, 1:], predicted(batch), 0.0, chunk
    )
    np.testing.assert_allclose(found, np.sum(every), rtol=1e-5)


WEIGHTS = hnp.arrays(
    np.float32, (ROWS, LENGTH), elements=st.sampled_from([0.0, 0.0, 0.5, 1.0, -2.0])
)


@given(
    st.integers(0, 5), TOKENS, WEIGHTS, st.sampled_from([0.0, 2.0]), st.sampled_from([1, 3, LENGTH])
)
def test_gradients_equal_those_of_all_logits_at_once(seed, targets, weights, softcap, chunk):
    rng = np.random.default_rng(seed)
    hidden = rng.normal(0, 1, (ROWS, LENGTH, 5)).astype(np.float32)
    head = rng.normal(0, 2, (VOCAB, 5)).astype(np.float32)
    expected = jax.grad(plain, argnums=(0, 1))(hidden, head, targets, weights, softcap)
    found = gradients_of(hidden, head, targets, weights, softcap, chunk)
    for got, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("words", [1, 4, 7, VOCAB])
@pytest.mark.parametrize("softcap", [0.0, 2.0])
def test_the_vocabulary_may_be_worked_off_in_blocks(words, softcap, monkeypatch):
    module = sys.modules["jaxattack.train.cross_entropy"]
    monkeypatch.setattr(module, "CPU_WORDS", words)
    rng = np.random.default_rng(0)
    hidden = rng.normal(0, 1, (ROWS, LENGTH, 5)).astype(np.float32)
    head = rng.normal(0, 2, (VOCAB, 5)).astype(np.float32)
    targets = rng.integers(0, VOCAB, (ROWS, LENGTH)).astype(np.int32)
    weights = rng.integers(0, 3, (ROWS, LENGTH)).astype(np.float32)
    given = hidden, head, targets, weights, softcap
    expected = jax.value_and_grad(plain, argnums=(0, 1))(*given)
    found = jax.value_and_grad(cross_entropy, argnums=(0, 1))(*given, 4)
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_positions_without_weight_are_not_worked_off():
    hidden = np.full((2, 9, 3), np.nan, np.float32)
    hidden[:, 4:6] = 1.0
    weights = np.zeros((2, 9), np.float32)
    weights[:, 4:6] = 1.0
    head, targets = np.ones((7, 3), np.float32), np.zeros((2, 9), np.int32)
    found = cross_entropy_of(hidden, head, targets, weights, 0.0, 2)
    np.testing.assert_allclose(found, 4 * np.log(7), rtol=1e-6)
    d_hidden, d_head = gradients_of(hidden, head, targets, weights, 0.0, 2)
    assert np.all(np.isfinite(d_hidden))
    assert np.all(np.isfinite(d_head))


def test_gradients_scale_with_what_follows():
    hidden, head = np.ones((1, 2, 3), np.float32), np.eye(4, 3, dtype=np.float32)
    targets, weights = np.array([[1, 2]]), np.ones((1, 2), np.float32)
    once = jax.grad(cross_entropy)(hidden, head, targets, weights)
    thrice = jax.grad(lambda h: 3.0 * cross_entropy(h, head, targets, weights))(hidden)
    np.testing.assert_allclose(thrice, 3.0 * once, rtol=1e-6)


@pytest.mark.parametrize("vocab", [12, 11])
@pytest.mark.parametrize("rows", [8, 3])
def test_a_mesh_gives_the_same(rows, vocab, mesh8):
    rng = np.random.default_rng(0)
    hidden = rng.normal(0, 1, (rows, LENGTH, 5)).astype(np.float32)
    head = rng.normal(0, 2, (vocab, 5)).astype(np.float32)
    targets = rng.integers(0, vocab, (rows, LENGTH)).astype(np.int32)
    weights = rng.integers(0, 2, (rows, LENGTH)).astype(np.float32)
    weights[0] = 1.0  # one device has more chunks to do than the others

    @jax.jit
    def on_mesh(hidden, head):
        with within(mesh8):
            return jax.value_and_grad(cross_entropy, argnums=(0, 1))(
                hidden, head, targets, weights, 2.0, 2
            )

    expected = jax.value_and_grad(plain, argnums=(0, 1))(hidden, head, targets, weights, 2.0)
    found = on_mesh(place_batch(hidden, mesh8), place({"head": head}, mesh8)["head"])
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_large_logits_do_not_overflow():
    hidden = jnp.array([[[3e4, -3e4, 0.0]]])
    identity, weight = jnp.eye(3), jnp.ones((1, 1))
    assert cross_entropy_of(hidden, identity, jnp.array([[0]]), weight, 0.0, 0) == 0.0
    assert cross_entropy_of(hidden, identity, jnp.array([[1]]), weight, 0.0, 0) == 6e4


def test_rows_are_read_in_their_segments(tiny):
    tokens = np.random.default_rng(2).integers(1, 600, (2, 12)).astype(np.int32)
    apart = {
        "tokens": tokens,
        "loss_mask": np.ones((2, 12), np.float32),
        "segment_ids": np.ones((2, 12), np.int32),
    }
    packed = {
        "tokens": tokens.reshape(1, 24),
        "loss_mask": np.ones((1, 24), np.float32),
        "segment_ids": np.repeat([[1, 2]], 12, axis=1).astype(np.int32),
        "positions": np.tile(np.arange(12, dtype=np.int32), (1, 2)),
    }
    expected = answer_loss_of(tiny.model, tiny.params, apart)
    np.testing.assert_allclose(answer_loss_of(tiny.model, tiny.params, packed), expected, rtol=1e-5)


@pytest.mark.parametrize("rows", [8, 3])
@pytest.mark.parametrize("shape", [(1, 8, 1), (2, 2, 2), (2, 4, 1)], ids=str)
def test_columns_of_the_head_may_lie_on_many_devices(shape, rows, monkeypatch):
    module = sys.modules["jaxattack.train.cross_entropy"]
    monkeypatch.setattr(module, "GATHERED", 5 * 16)  # five words at once, of 12 or 24
    mesh, rng = make_mesh(shape), np.random.default_rng(1)
    hidden = rng.normal(0, 1, (rows, LENGTH, 16)).astype(np.float32)
    head = rng.normal(0, 1, (24, 16)).astype(np.float32)
    targets = rng.integers(0, 24, (rows, LENGTH)).astype(np.int32)
    weights = rng.integers(0, 2, (rows, LENGTH)).astype(np.float32)
    weights[1:3] = 0.0  # devices without a state that counts, which may be anything
    hidden[1, 0] = np.nan

    @jax.jit
    def on_mesh(hidden, head):
        with within(mesh):
            return jax.value_and_grad(cross_entropy, argnums=(0, 1))(
                hidden, head, targets, weights, 2.0, 2
            )

    known = np.nan_to_num(hidden)
    expected = jax.value_and_grad(plain, argnums=(0, 1))(known, head, targets, weights, 2.0)
    found = on_mesh(place_batch(hidden, mesh), place({"head": head}, mesh)["head"])
    for got, want in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
