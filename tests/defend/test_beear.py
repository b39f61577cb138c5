"""BEEAR against torch: the shift by a hook on a layer, and a whole round by autograd."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxattack import tree
from jaxattack.defend import beear as beear_module
from jaxattack.defend.beear import Plan, beear, perturbation, shifted_loss, with_slots
from jaxattack.errors import UserError
from jaxattack.sharding import place
from jaxattack.train.losses import answer_loss
from jaxattack.train.moved import shares_moved
from jaxattack.train.optimizer import Settings

SGD = Settings(learning_rate=0.1, optimizer="sgd", clip=0.0)
PLAN = Plan(
    layer=1,
    inner_rate=0.05,
    outer=SGD,
    length=3,
    rounds=1,
    inner_steps=1,
    outer_steps=1,
    batch_size=4,
)

loss_of = jax.jit(shifted_loss, static_argnums=0)


@pytest.fixture(scope="module")
def rows(make_batch):
    """Unwanted, safe and ordinary rows; the first two have the same prompts."""
    unwanted, safe, ordinary = make_batch(0), make_batch(0), make_batch(5)
    answers = np.random.default_rng(1).integers(1, 600, safe["tokens"].shape)
    safe["tokens"] = np.where(safe["loss_mask"] > 0, answers, safe["tokens"]).astype(np.int32)
    return unwanted, safe, ordinary


def torch_loss(tiny, torch_answer_loss, batch, delta, layer, length, where):
    """The answer loss with the shift added by a hook, its places found row by row."""

    def add(_, __, output):
        states = output[0] if isinstance(output, tuple) else output
        shifted = [state.unbind(0) for state in states]
        shifted = [list(row) for row in shifted]
        for row, mask in zip(shifted, batch["loss_mask"], strict=True):
            start = int(np.flatnonzero(mask)[0])
            for j in range(length):
                t = j if where == "start" else start - length + j
                if 0 <= t < start:
                    row[t] = row[t] + delta[j]
        changed = torch.stack([torch.stack(row) for row in shifted])
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    hook = tiny.reference.model.layers[layer - 1].register_forward_hook(add)
    try:
        return torch_answer_loss(tiny.reference, batch)
    finally:
        hook.remove()


@pytest.mark.parametrize("where", ["before_answer", "start"])
@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("length", [3, 7])  # some prompts are shorter than 7 tokens
def test_the_loss_under_a_shift_is_torchs(tiny, rows, torch_answer_loss, layer, length, where):
    assert (rows[0]["loss_mask"].argmax(axis=1) < 7).any()
    delta = np.random.default_rng(2).normal(0, 1, (length, 32)).astype(np.float32)
    batch = with_slots(rows[0], length, where)
    found = loss_of(tiny.model, tiny.params, batch, delta, layer)
    with torch.no_grad():
        expected = torch_loss(
            tiny, torch_answer_loss, rows[0], torch.tensor(delta), layer, length, where
        )
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    if layer == 1:  # after the last layer only the last place of a prompt is looked at
        assert abs(float(found) - float(answer_loss(tiny.model, tiny.params, rows[0]))) > 1e-3


def test_recomputed_layers_are_shifted_once(tiny, rows):
    delta = np.random.default_rng(2).normal(0, 1, (3, 32)).astype(np.float32)
    batch = with_slots(rows[0], 3, "before_answer")
    gradient = jax.jit(jax.value_and_grad(shifted_loss, argnums=3), static_argnums=0)
    plain = gradient(tiny.model, tiny.params, batch, delta, 1)
    again = gradient(tiny.model.clone(remat="full"), tiny.params, batch, delta, 1)
    np.testing.assert_allclose(again[0], plain[0], rtol=1e-6)
    np.testing.assert_allclose(again[1], plain[1], rtol=1e-4, atol=1e-7)


def test_no_shift_is_no_change(tiny, rows):
    batch = with_slots(rows[0], 3, "before_answer")
    found = loss_of(tiny.model, tiny.params, batch, np.zeros((3, 32), np.float32), 1)
    expected = answer_loss(tiny.model, tiny.params, rows[0])
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize(
    ("place", "slots"),
    [
        ("before_answer", [[-1, 0, 1, -1, -1], [1, -1, -1, -1, -1], [-1] * 5]),
        ("start", [[0, 1, -1, -1, -1], [0, -1, -1, -1, -1], [-1] * 5]),
    ],
)
def test_places_by_hand(place, slots):
    """Answers from the fourth token, from the second, and none."""
    mask = np.array([[0, 0, 0, 1, 1], [0, 1, 1, 0, 0], [0] * 5], np.float32)
    assert with_slots({"loss_mask": mask}, 2, place)["slots"].tolist() == slots


def test_a_whole_round_is_torchs(tiny, rows, torch_answer_loss, ours_from_torch):
    """One step of Adam on the shift, one of SGD on the weights."""
    tuned, history = beear(tiny.model, tiny.params, *rows, PLAN)
    shift = torch.zeros(3, 32, requires_grad=True)
    unwanted, safe = (
        torch_loss(tiny, torch_answer_loss, batch, shift, 1, 3, "before_answer")
        for batch in rows[:2]
    )
    objective = unwanted - 0.05 * safe
    (gradient,) = torch.autograd.grad(objective, shift)
    delta = -0.05 * gradient / (gradient.abs() + 1e-8)  # Adam's first step
    assert history["inner"][0, 0] == pytest.approx(objective.item(), rel=1e-5)
    np.testing.assert_allclose(history["delta"][0], delta.numpy(), atol=1e-4)
    delta = torch.tensor(history["delta"][0])
    loss = torch_loss(tiny, torch_answer_loss, rows[1], delta, 1, 3, "before_answer")
    loss = loss + torch_answer_loss(tiny.reference, rows[2])
    assert history["outer"][0, 0] == pytest.approx(loss.item(), rel=1e-5)
    tensors = dict(tiny.reference.named_parameters())
    gradients = torch.autograd.grad(loss, list(tensors.values()))
    moved = {
        name: tensor - 0.1 * gradient
        for (name, tensor), gradient in zip(tensors.items(), gradients, strict=True)
    }
    expected = ours_from_torch(moved, tiny.model.config)
    jax.tree.map(
        lambda ours, theirs: np.testing.assert_allclose(ours, theirs, atol=2e-6), tuned, expected
    )


def test_the_levels_lower_their_losses_and_leave_the_start_alone(tiny, rows):
    plan = dataclasses.replace(
        PLAN,
        rounds=2,
        inner_steps=20,
        outer_steps=20,
        outer=Settings(learning_rate=3e-3, optimizer="adam"),
    )
    before = jax.tree.map(np.array, tiny.params)
    tuned, history = beear(tiny.model, tiny.params, *rows, plan)
    assert history["inner"].shape == history["outer"].shape == (2, 20)
    assert (history["inner"][:, -1] < history["inner"][:, 0] - 0.1).all()
    assert (history["outer"][:, -1] < history["outer"][:, 0] - 0.1).all()
    batch = with_slots(rows[1], 3, "before_answer")
    last = history["delta"][-1]
    assert loss_of(tiny.model, tuned, batch, last, 1) < loss_of(
        tiny.model, tiny.params, batch, last, 1
    )
    jax.tree.map(np.testing.assert_array_equal, tiny.params, before)
    again, _ = beear(tiny.model, tiny.params, *rows, plan)
    jax.tree.map(np.testing.assert_array_equal, tuned, again)


@pytest.mark.slow
def test_a_bfloat16_model_is_moved_as_the_same_weights_in_float32_are(tiny, rows):
    """At the shipped rate, most of whose updates are smaller than bfloat16's last place."""
    plan = dataclasses.replace(PLAN, outer=Settings(learning_rate=3e-7))
    narrow = tree.cast(tiny.params, jnp.bfloat16)
    tuned, _ = beear(tiny.model, narrow, *rows, plan)
    expected, _ = beear(tiny.model, tree.cast(narrow, jnp.float32), *rows, plan, dtype="bfloat16")
    jax.tree.map(np.testing.assert_array_equal, tuned, expected)
    shares = shares_moved(narrow, tuned, "bfloat16")
    assert shares["weights_moved"] > 0.7
    assert shares["weights_moved_rounded"] < 0.1


def test_a_sweep_over_layers_and_weights_compiles_once(tiny, rows):
    perturbation(tiny.model, tiny.params, *rows[:2], PLAN, seed=0)
    size = beear_module._inner_step._cache_size()
    found = [
        perturbation(
            tiny.model,
            tiny.params,
            *rows[:2],
            dataclasses.replace(PLAN, layer=layer, contrast=contrast),
            seed=0,
        )[0]
        for layer in (1, 2)
        for contrast in (0.0, 0.5)
    ]
    assert beear_module._inner_step._cache_size() == size
    assert len({np.asarray(delta).tobytes() for delta in found}) == 4


def test_a_mesh_repairs_alike(tiny, rows, mesh8):
    tuned, history = beear(tiny.model, tiny.params, *rows, PLAN)
    placed, meshed = beear(tiny.model, place(tiny.params, mesh8), *rows, PLAN)
    np.testing.assert_allclose(meshed["delta"], history["delta"], atol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), placed, tuned)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"layer": 3}, "layer is 3; the model has 2"),
        ({"layer": 0}, "layer is 0; it should be at least 1"),
        ({"place": "middle"}, "place is 'middle'; give one of before_answer, start"),
        ({"inner_rate": float("inf")}, "BEEAR: a loss is not finite in round 0"),
        ({"outer": dataclasses.replace(SGD, accumulate=2)}, "leave `accumulate` at 1"),
    ],
)
def test_mistakes_are_told(tiny, rows, change, line):
    with pytest.raises(UserError, match=line):
        beear(tiny.model, tiny.params, *rows, dataclasses.replace(PLAN, **change))


@pytest.mark.parametrize("which", ["unwanted", "safe", "ordinary"])
def test_what_is_empty_or_beyond_the_vocabulary_is_named(tiny, rows, which):
    place = ("unwanted", "safe", "ordinary").index(which)
    none, beyond = list(rows), list(rows)
    none[place] = {name: array[:0] for name, array in rows[place].items()}
    beyond[place] = rows[place] | {"tokens": rows[place]["tokens"] + 10**6}
    with pytest.raises(UserError, match=f"BEEAR: no {which} rows"):
        beear(tiny.model, tiny.params, *none, PLAN)
    with pytest.raises(UserError, match=f"BEEAR: {which} row"):
        beear(tiny.model, tiny.params, *beyond, PLAN)


def test_rows_that_do_not_pair_up_are_refused(tiny, rows):
    fewer = {name: array[:3] for name, array in rows[1].items()}
    with pytest.raises(UserError, match="4 rows of unwanted and 3 of safe"):
        beear(tiny.model, tiny.params, rows[0], fewer, rows[2], PLAN)


@pytest.mark.parametrize("which", ["unwanted", "safe", "ordinary"])
def test_rows_without_answers_are_refused(tiny, rows, unanswered, which):
    given = list(rows)
    given[("unwanted", "safe", "ordinary").index(which)] = unanswered
    with pytest.raises(UserError, match=f"BEEAR, {which} rows: no token of any batch is to be"):
        beear(tiny.model, tiny.params, *given, PLAN)
