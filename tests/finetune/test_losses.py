"""Losses against loops in float64."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxattack.finetune.losses import answer_loss, example_losses, token_losses

ROWS, LENGTH, VOCAB = 3, 7, 11
LOGITS = st.integers(0, 5).map(
    lambda seed: np.random.default_rng(seed).normal(0, 3, (ROWS, LENGTH, VOCAB)).astype(np.float32)
)
TOKENS = hnp.arrays(np.int32, (ROWS, LENGTH), elements=st.integers(0, VOCAB - 1))
MASK = hnp.arrays(np.float32, (ROWS, LENGTH), elements=st.sampled_from([0.0, 1.0]))
SEGMENTS = hnp.arrays(np.int32, (ROWS, LENGTH), elements=st.integers(0, 2)).map(
    lambda segments: np.sort(segments, axis=1)
)


class Given:
    """A model whose hidden states and logits are its parameters."""

    @staticmethod
    def apply(variables, inputs, method="__call__", **context):
        states = variables["params"]
        return {"__call__": states, "hidden": (states, None, None), "unembed": inputs}[method]


answer_loss_of = jax.jit(answer_loss, static_argnums=0)
example_losses_of = jax.jit(example_losses, static_argnums=0)


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


@given(LOGITS, TOKENS, MASK, SEGMENTS)
def test_losses_equal_loops(logits, tokens, loss_mask, segment_ids):
    batch = {"tokens": tokens, "loss_mask": loss_mask, "segment_ids": segment_ids}
    rows = naive_losses(logits, batch)
    every = [loss for row in rows for loss in row]
    np.testing.assert_allclose(
        answer_loss_of(Given, logits, batch), np.mean(every) if every else 0.0, rtol=1e-5
    )
    np.testing.assert_allclose(
        example_losses_of(Given, logits, batch),
        [np.mean(row) if row else 0.0 for row in rows],
        rtol=1e-5,
    )


def test_large_logits_do_not_overflow():
    logits = jnp.array([[[3e4, -3e4, 0.0], [0.0, 0.0, 0.0]]])
    np.testing.assert_allclose(token_losses(logits, jnp.array([[0, 0]])), [[0.0]])
    np.testing.assert_allclose(token_losses(logits, jnp.array([[0, 1]])), [[6e4]])


def test_gradient_is_softmax_less_one_hot():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (1, 2, VOCAB)).astype(np.float32)
    grads = jax.grad(lambda x: token_losses(x, jnp.array([[1, 4]])).sum())(logits)
    shares = np.exp(logits[0, 0].astype(np.float64))
    shares /= shares.sum()
    shares[4] -= 1
    np.testing.assert_allclose(grads[0, 0], shares, rtol=1e-4, atol=1e-7)
    assert not np.any(grads[0, 1])  # nothing follows the last token


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
