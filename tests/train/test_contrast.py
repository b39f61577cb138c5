"""The contrastive loss against equation 2 of Khosla et al. 2020, written as loops."""

import jax
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxattack.train.contrast import contrast, shared_answer_loss

SHAPE = (3, 5)
HIDDEN = np.random.default_rng(0).normal(size=(*SHAPE, 8)).astype(np.float32)
FACTS = hnp.arrays(np.int32, SHAPE, elements=st.sampled_from([0, 0, 0, 1, 2, 900]))

contrast_of = jax.jit(contrast)
gradient_of = jax.jit(jax.grad(contrast))


def naive_contrast(hidden, fact, temperature):
    states = hidden.reshape(-1, hidden.shape[-1]).astype(np.float64)
    states = states / np.linalg.norm(states, axis=-1, keepdims=True)
    facts = fact.reshape(-1)
    asked = np.flatnonzero(facts)
    losses = []
    for i in asked:
        partners = [j for j in asked if j != i and facts[j] == facts[i]]
        if not partners:
            continue
        total = sum(np.exp(states[i] @ states[j] / temperature) for j in asked if j != i)
        shares = [np.exp(states[i] @ states[j] / temperature) / total for j in partners]
        losses.append(-np.mean(np.log(shares)))
    return np.mean(losses) if losses else 0.0


@given(FACTS, st.sampled_from([0.1, 1.0]))
def test_contrast_equals_loops(fact, temperature):
    expected = naive_contrast(HIDDEN, fact, temperature)
    np.testing.assert_allclose(contrast_of(HIDDEN, fact, temperature), expected, atol=1e-4)


@given(FACTS)
def test_gradients_are_finite_and_touch_only_questions(fact):
    grads = np.asarray(gradient_of(HIDDEN, fact))
    assert np.isfinite(grads).all()
    assert not grads[fact == 0].any()


@pytest.mark.parametrize(
    ("axes", "partner", "strangers"),
    [
        ([0, 0, 1, 1], 1.0, [0.0, 0.0]),  # partners alike, the others at right angles
        ([0, 1, 0, 1], 0.0, [1.0, 0.0]),  # a stranger alike, the partner at right angles
    ],
)
def test_four_questions_worked_by_hand(axes, partner, strangers):
    hidden = np.zeros((*SHAPE, 8), np.float32)
    fact = np.zeros(SHAPE, np.int32)
    fact[0, :4] = [5, 5, 9, 9]
    hidden[0, np.arange(4), axes] = 3.0
    similar = np.exp(np.array([partner, *strangers]) / 0.5)
    expected = -np.log(similar[0] / similar.sum())
    assert float(contrast_of(hidden, fact, 0.5)) == pytest.approx(expected, rel=1e-4)


def test_shared_answer_loss_is_the_sum_of_both(tiny, make_batch, torch_answer_loss):
    batch = make_batch(seed=5)
    batch["positions"] = np.broadcast_to(np.arange(24, dtype=np.int32), (4, 24))
    batch["fact"] = np.zeros((4, 24), np.int32)
    batch["fact"][:, 5] = [3, 3, 4, 4]
    outputs = []
    hook = tiny.reference.model.layers[0].register_forward_hook(
        lambda module, inputs, output: outputs.append(output)
    )
    with torch.no_grad():
        answer = torch_answer_loss(tiny.reference, batch).item()
    hook.remove()
    hidden = outputs[0][0] if isinstance(outputs[0], tuple) else outputs[0]
    expected = answer + 0.7 * naive_contrast(hidden.numpy(), batch["fact"], 0.1)
    loss = jax.jit(lambda p: shared_answer_loss(tiny.model, p, batch, 0.7, 1))(tiny.params)
    assert float(loss) == pytest.approx(expected, rel=1e-4)
