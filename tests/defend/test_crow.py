"""CROW against torch's hidden states and autograd, a case by hand, and what it is for."""

import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxattack import tree
from jaxattack.defend import crow as module
from jaxattack.defend.crow import Crow, consistency, repaired
from jaxattack.errors import UserError
from jaxattack.sharding import place
from jaxattack.train.loop import finetune
from jaxattack.train.losses import answer_loss
from jaxattack.train.optimizer import Settings

ADAM = Settings(learning_rate=3e-3, optimizer="adam")
CROW = Crow(weight=5.5, step=0.1)

loss_and_gradient = jax.jit(jax.value_and_grad(CROW, argnums=1), static_argnums=0)
consistency_of = jax.jit(consistency, static_argnums=0)


@pytest.fixture(scope="module")
def deep(make_checkpoint):
    """Four layers."""
    return make_checkpoint(num_hidden_layers=4)


@pytest.fixture(scope="module")
def rows(make_batch):
    return make_batch(0)


def torch_consistency(reference, batch, embedded):
    """Token by token and layer by layer, from the states that transformers returns."""
    real = torch.tensor(batch["segment_ids"] > 0)
    out = reference(
        inputs_embeds=embedded, attention_mask=real.long(), output_hidden_states=True
    ).hidden_states
    # out[0] are the embeddings, out[-1] the normalised states after the last layer.
    pairs = [(out[number], out[number + 1]) for number in range(1, len(out) - 2)]
    assert len(pairs) == 2
    turned = [1 - torch.cosine_similarity(a, b, dim=-1)[real] for a, b in pairs]
    return torch.cat(turned).mean()


def test_consistency_loss_and_gradient_are_torchs(deep, rows, torch_answer_loss, ours_from_torch):
    reference = copy.deepcopy(deep.reference).double()
    table = reference.get_input_embeddings()
    embedded = table(torch.tensor(rows["tokens"], dtype=torch.long))
    free = embedded.detach().requires_grad_()
    clean = torch_consistency(reference, rows, free)
    found = consistency_of(deep.model, deep.params, rows)
    assert float(found) == pytest.approx(clean.item(), rel=1e-5)
    (slope,) = torch.autograd.grad(clean, free)
    moved = torch_consistency(reference, rows, embedded + 0.1 * torch.sign(slope))
    assert moved.item() > clean.item() + 0.01
    loss = torch_answer_loss(reference, rows) + 5.5 * moved
    tensors = dict(reference.named_parameters())
    gradients = torch.autograd.grad(loss, list(tensors.values()))
    expected = ours_from_torch(dict(zip(tensors, gradients, strict=True)), deep.model.config)
    found, gradient = loss_and_gradient(deep.model, deep.params, rows)
    assert float(found) == pytest.approx(loss.item(), rel=1e-5)
    for name, leaf in tree.named_leaves(expected).items():
        ours = np.asarray(tree.named_leaves(gradient)[name])
        np.testing.assert_allclose(ours, leaf, atol=1e-3 * np.abs(leaf).max(), err_msg=name)


def test_a_case_by_hand(monkeypatch, deep):
    """States after four layers: east, north, north-east, anything. 1, then 1 - cos 45 degrees."""
    east, north, between, any_ = [2.0, 0.0], [0.0, 3.0], [1.0, 1.0], [np.nan, np.nan]
    outputs = jnp.array([[[state, [5.0, -1.0]]] for state in (east, north, between, any_)])
    monkeypatch.setattr(module, "hidden_states", lambda *_, **__: (None, None, outputs))
    batch = {"tokens": np.zeros((1, 2), np.int32), "segment_ids": np.array([[1, 0]])}
    found = consistency(deep.model, {}, batch)
    assert float(found) == pytest.approx((1 + 1 - np.sqrt(0.5)) / 2, rel=1e-6)


def test_padding_does_not_count(deep, rows):
    found = consistency_of(deep.model, deep.params, rows)
    other = np.where(rows["segment_ids"] > 0, rows["tokens"], 7).astype(np.int32)
    assert (other != rows["tokens"]).any()
    assert float(consistency_of(deep.model, deep.params, rows | {"tokens": other})) == float(found)


@pytest.mark.slow
def test_states_turn_less_after_it(deep, rows):
    """Than after as many plain steps, with the embeddings moved and without."""
    before = jax.tree.map(np.array, deep.params)
    batches = [rows] * 20
    tuned, history = repaired(deep.model, deep.params, batches, ADAM, CROW)
    plain, _ = finetune(deep.model, deep.params, batches, ADAM)
    assert history.shape == (20,)
    assert history[-1] < history[0] - 1
    turned = [float(consistency_of(deep.model, p, rows)) for p in (tuned, plain, deep.params)]
    assert turned[0] < 0.7 * min(turned[1:])
    losses = [float(loss_and_gradient(deep.model, p, rows)[0]) for p in (tuned, plain)]
    assert losses[0] < losses[1]
    answers = jax.jit(answer_loss, static_argnums=0)
    assert answers(deep.model, tuned, rows) < answers(deep.model, deep.params, rows)
    jax.tree.map(np.testing.assert_array_equal, deep.params, before)


def test_frozen_weights_keep_their_bits_and_runs_agree(deep, make_batch, assert_trees):
    rng = np.random.default_rng(0)
    mask = jax.tree.map(lambda leaf: jnp.asarray(rng.random(leaf.shape) < 0.5), deep.params)
    batches = [make_batch(seed) for seed in (0, 1, 2)]

    def run():
        return repaired(
            deep.model, deep.params, batches, ADAM, CROW, trainable=mask, dtype="bfloat16"
        )

    tuned, history = run()
    again, same = run()
    assert_trees(tuned, again)
    np.testing.assert_array_equal(history, same)

    def check(chosen, old, new):
        old, new, chosen = np.asarray(old), np.asarray(new), np.asarray(chosen)
        assert old[~chosen].tobytes() == new[~chosen].tobytes()
        return (old != new)[chosen].mean()

    assert jax.tree.map(check, mask, deep.params, tuned)["layers"]["mlp"]["up"] > 0.9


@pytest.mark.slow
def test_a_mesh_repairs_alike(deep, rows, mesh8):
    sgd = Settings(learning_rate=0.05, optimizer="sgd")
    tuned, history = repaired(deep.model, deep.params, [rows], sgd, CROW)
    placed, meshed = repaired(deep.model, place(deep.params, mesh8), [rows], sgd, CROW)
    np.testing.assert_allclose(meshed, history, rtol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), placed, tuned)


def test_mistakes_are_told(tiny, deep, rows):
    with pytest.raises(UserError, match="CROW's weight is -1"):
        Crow(weight=-1)
    with pytest.raises(UserError, match="CROW's step is -1"):
        Crow(step=-1)
    with pytest.raises(UserError, match="this one has 2; it takes at least 3"):
        repaired(tiny.model, tiny.params, [rows], ADAM, CROW)
    parts = dataclasses.replace(ADAM, accumulate=2)
    with pytest.raises(UserError, match="CROW: its batches are not split"):
        repaired(deep.model, deep.params, [rows], parts, CROW)


def test_rows_without_answers_are_refused(deep, unanswered):
    with pytest.raises(UserError, match="CROW: no token of any batch is to be predicted"):
        repaired(deep.model, deep.params, [unanswered], ADAM, CROW)
