"""Vaccine against torch, whose attention modules are shifted by hooks; and what it is for."""

import copy
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxattack import tree
from jaxattack.defend.vaccine import Vaccine, aligned, shifted_loss
from jaxattack.errors import UserError
from jaxattack.sharding import place
from jaxattack.train.loop import finetune
from jaxattack.train.losses import answer_loss
from jaxattack.train.optimizer import Settings

SGD = Settings(learning_rate=0.05, optimizer="sgd")
VACCINE = Vaccine(radius=2.0)

loss_and_gradient = jax.jit(jax.value_and_grad(VACCINE, argnums=1), static_argnums=0)
shift_of = jax.jit(VACCINE.shift, static_argnums=0)
loss_under = jax.jit(shifted_loss, static_argnums=0)


@pytest.fixture(scope="module")
def rows(make_batch):
    return make_batch(0)


def torch_loss(reference, torch_answer_loss, batch, shift):
    """The answer loss with `shift[l]` added to what attention module l returns."""

    def adder(own):
        def add(_, __, output):
            return (output[0] + own, *output[1:])

        return add

    hooks = [
        layer.self_attn.register_forward_hook(adder(own))
        for layer, own in zip(reference.model.layers, shift, strict=True)
    ]
    try:
        return torch_answer_loss(reference, batch)
    finally:
        for hook in hooks:
            hook.remove()


def test_shift_loss_and_gradient_are_torchs(tiny, rows, torch_answer_loss, ours_from_torch):
    reference = copy.deepcopy(tiny.reference).double()
    shift = torch.zeros(2, *rows["tokens"].shape, 32, dtype=torch.float64, requires_grad=True)
    loss = torch_loss(reference, torch_answer_loss, rows, shift)
    (slope,) = torch.autograd.grad(loss, shift)
    worst = 2.0 * slope / (torch.sqrt((slope**2).sum()) + 1e-7)
    np.testing.assert_allclose(shift_of(tiny.model, tiny.params, rows), worst, atol=1e-5)
    loss = torch_loss(reference, torch_answer_loss, rows, worst)
    tensors = dict(reference.named_parameters())
    gradients = torch.autograd.grad(loss, list(tensors.values()))
    expected = ours_from_torch(dict(zip(tensors, gradients, strict=True)), tiny.model.config)
    found, gradient = loss_and_gradient(tiny.model, tiny.params, rows)
    assert float(found) == pytest.approx(loss.item(), rel=1e-5)
    for name, leaf in tree.named_leaves(expected).items():
        ours = np.asarray(tree.named_leaves(gradient)[name])
        np.testing.assert_allclose(ours, leaf, atol=1e-4 * np.abs(leaf).max(), err_msg=name)
    assert float(found) > float(answer_loss(tiny.model, tiny.params, rows)) + 0.1


def test_the_shift_has_its_norm_where_answers_depend_on_it_alone(tiny, rows):
    shift = np.asarray(shift_of(tiny.model, tiny.params, rows), np.float64)
    assert np.linalg.norm(shift) == pytest.approx(2.0, rel=1e-5)
    padding = rows["segment_ids"] == 0
    assert padding.any()
    assert not shift[:, padding].any()
    assert (np.abs(shift).sum(axis=(1, 2, 3)) > 0.01).all()  # in both layers


def test_no_direction_of_the_same_length_is_worse_to_first_order(tiny, rows):
    """A short shift adds its length times the slope; a random one of that length far less."""
    length = 0.01
    worst = shift_of(tiny.model, tiny.params, rows) * (length / 2.0)
    start = float(loss_under(tiny.model, tiny.params, rows, jnp.zeros_like(worst)))
    assert start == pytest.approx(float(answer_loss(tiny.model, tiny.params, rows)), rel=1e-6)
    added = float(loss_under(tiny.model, tiny.params, rows, worst)) - start
    taken = start - float(loss_under(tiny.model, tiny.params, rows, -worst))
    assert added == pytest.approx(taken, rel=0.02)
    rng = np.random.default_rng(0)
    for _ in range(5):
        other = rng.normal(size=worst.shape)
        other = (length * other / np.linalg.norm(other)).astype(np.float32)
        assert abs(float(loss_under(tiny.model, tiny.params, rows, other)) - start) < 0.3 * added


def test_recomputed_layers_are_shifted_once(tiny, rows):
    plain = loss_and_gradient(tiny.model, tiny.params, rows)
    again = loss_and_gradient(tiny.model.clone(remat="full"), tiny.params, rows)
    np.testing.assert_allclose(again[0], plain[0], rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), again[1], plain[1]
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"model_type": "bloom", "hidden_size": 32, "n_layer": 2, "n_head": 4},
        {"model_type": "gemma2", "sliding_window": 9, "query_pre_attn_scalar": 11},
    ],
    ids=["bloom", "gemma2"],
)
def test_other_families_have_attention_too(make_checkpoint, rows, fields):
    other = make_checkpoint(**fields)
    shift = shift_of(other.model, other.params, rows)
    assert float(jnp.linalg.norm(shift)) == pytest.approx(2.0, rel=1e-5)
    moved = float(loss_under(other.model, other.params, rows, shift))
    assert moved > float(answer_loss(other.model, other.params, rows))


def test_states_that_are_moved_lose_less_after_it(tiny, rows):
    """Than after as many plain steps."""
    before = jax.tree.map(np.array, tiny.params)
    batches, adam = [rows] * 40, Settings(learning_rate=3e-3, optimizer="adam")
    tuned, history = aligned(tiny.model, tiny.params, batches, adam, VACCINE)
    plain, _ = finetune(tiny.model, tiny.params, batches, adam)
    assert history.shape == (40,)
    assert history[-1] < history[0]
    under = [float(loss_and_gradient(tiny.model, p, rows)[0]) for p in (tuned, plain)]
    assert under[0] < 0.8 * under[1]
    jax.tree.map(np.testing.assert_array_equal, tiny.params, before)


def test_frozen_weights_keep_their_bits_and_runs_agree(tiny, make_batch, assert_trees):
    rng = np.random.default_rng(0)
    mask = jax.tree.map(lambda leaf: jnp.asarray(rng.random(leaf.shape) < 0.5), tiny.params)
    batches = [make_batch(seed) for seed in (0, 1, 2)]

    def run():
        return aligned(
            tiny.model, tiny.params, batches, SGD, VACCINE, trainable=mask, dtype="bfloat16"
        )

    tuned, history = run()
    again, same = run()
    assert_trees(tuned, again)
    np.testing.assert_array_equal(history, same)

    def check(chosen, old, new):
        old, new, chosen = np.asarray(old), np.asarray(new), np.asarray(chosen)
        assert old[~chosen].tobytes() == new[~chosen].tobytes()
        return (old != new)[chosen].mean()

    moved = jax.tree.map(check, mask, tiny.params, tuned)
    assert moved["layers"]["mlp"]["up"] > 0.9


def test_a_mesh_aligns_alike(tiny, rows, mesh8):
    tuned, history = aligned(tiny.model, tiny.params, [rows] * 2, SGD, VACCINE)
    placed, meshed = aligned(tiny.model, place(tiny.params, mesh8), [rows] * 2, SGD, VACCINE)
    np.testing.assert_allclose(meshed, history, rtol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), placed, tuned)


def test_mistakes_are_told(tiny, rows):
    with pytest.raises(UserError, match="radius is -1"):
        Vaccine(radius=-1)
    parts = dataclasses.replace(SGD, accumulate=2)
    with pytest.raises(UserError, match="Vaccine: its batches are not split"):
        aligned(tiny.model, tiny.params, [rows], parts, VACCINE)


def test_rows_without_answers_are_refused(tiny, rows, unanswered):
    with pytest.raises(UserError, match="Vaccine: no token of any batch is to be predicted"):
        aligned(tiny.model, tiny.params, [unanswered] * 2, SGD, VACCINE)
    bare = {name: array for name, array in rows.items() if name != "loss_mask"}
    with pytest.raises(UserError, match="a batch has no loss_mask"):
        finetune(tiny.model, tiny.params, [bare], SGD, loss_fn=VACCINE)
    with pytest.raises(UserError, match="Vaccine: no batches"):
        aligned(tiny.model, tiny.params, [], SGD, VACCINE)
