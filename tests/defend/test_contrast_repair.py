"""Contrast repair against naive float64 and on a model that learned two things."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxattack import tree
from jaxattack.data import batches
from jaxattack.data.dialogues import Example, encode_pairs
from jaxattack.defend import contrast
from jaxattack.errors import UserError
from jaxattack.localize.scores import attack_vector, mean_gradient
from jaxattack.train import loop, losses
from jaxattack.train.optimizer import Settings

HARM = [Example(f"h{i}", "en", f"open door {i}", "yes, number 7") for i in range(4)]
TASK = [Example(f"t{i}", "en", f"paint wall {i}", "in green [ok]") for i in range(4)]


def rows(tiny, pairs):
    return batches.in_order(encode_pairs(tiny.tokenizer, pairs, 64, "longest"), 2)


@pytest.fixture(scope="module")
def tuned(tiny):
    """The tiny model after it learned both sorts of pairs."""
    every = encode_pairs(tiny.tokenizer, HARM + TASK, 64, "longest")
    order = batches.epochs(every, 4, 20, seed=0)
    return loop.finetune(tiny.model, tiny.params, order, Settings(learning_rate=3e-3))[0]


def loss(tiny, params, pairs) -> float:
    (batch,) = batches.in_order(encode_pairs(tiny.tokenizer, pairs, 64, "longest"), len(pairs))
    return float(losses.answer_loss(tiny.model, params, batch))


numbers = st.lists(st.floats(-3, 3, width=32), min_size=24, max_size=24)


@given(numbers, st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_scores_are_those_of_the_definition(values, weight):
    aligned, after, harm, keep = np.array(values, np.float32).reshape(4, 2, 3)
    trees = [{"a": part[0], "b": {"c": part[1]}} for part in (aligned, after, harm, keep)]
    found = contrast.scores(*jax.tree.map(jax.numpy.asarray, trees), weight)
    tau = after.astype(np.float64) - aligned.astype(np.float64)
    parts = []
    for gradient in (harm, keep):
        part = -tau * gradient.astype(np.float64)
        parts.append(part / max(part[part > 0].sum(), 1e-30))
    wanted = np.maximum(parts[0] - weight * parts[1], 0)
    np.testing.assert_allclose(found["a"], wanted[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["b"]["c"], wanted[1], rtol=1e-4, atol=1e-6)


def test_the_parts_sum_up_to_how_far_the_loss_falls(tiny, tuned):
    """By many midpoints nearly exactly; a wrong sign or factor would be far off."""
    count, pairs, total = 16, HARM, 0.0
    tau = attack_vector(tuned, tiny.params)
    for i in range(count):
        place = (i + 0.5) / count
        here = jax.tree.map(lambda old, d, p=place: old + p * d, tiny.params, tau)
        slope = mean_gradient(tiny.model, here, rows(tiny, pairs), moment="sum")
        parts = contrast.falls(tiny.params, tuned, slope)
        total += sum(float(leaf.sum()) for leaf in jax.tree.leaves(parts)) / count
    # The mean over examples of their own means, as SIL's expectation is.
    fell = np.mean([loss(tiny, tiny.params, [p]) - loss(tiny, tuned, [p]) for p in pairs])
    assert total == pytest.approx(fell, rel=0.05)


def test_every_weight_is_of_one_of_the_two_models_and_no_more_than_asked_for_go_back(tiny, tuned):
    plan = contrast.Plan(0.1, rounds=3)
    found = contrast.repaired(
        tiny.model, tuned, tiny.params, rows(tiny, HARM), rows(tiny, TASK), plan
    )
    back = 0
    for name, leaf in tree.named_leaves(found).items():
        old = np.asarray(tree.named_leaves(tiny.params)[name])
        new = np.asarray(tree.named_leaves(tuned)[name])
        assert np.all((leaf == old) | (leaf == new))
        back += int(np.sum((np.asarray(leaf) == old) & (old != new)))
    assert 0 < back <= round(0.1 * tree.size(tuned)) + plan.rounds


def test_the_harm_goes_and_the_task_stays(tiny, tuned):
    found = contrast.repaired(
        tiny.model, tuned, tiny.params, rows(tiny, HARM), rows(tiny, TASK), contrast.Plan(0.1)
    )

    def undone(pairs) -> float:
        start, end = loss(tiny, tiny.params, pairs), loss(tiny, tuned, pairs)
        return (loss(tiny, found, pairs) - end) / (start - end)

    assert undone(HARM) > 0.5
    assert undone(TASK) < 0.1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"share": 0.0}, "share is 0.0"),
        ({"share": 1.5}, "share is 1.5"),
        ({"rounds": 0}, "rounds is 0"),
        ({"weight": -1.0}, "weight is -1.0"),
        ({"weight": float("nan")}, "weight is nan"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        contrast.Plan(**values)


def test_models_of_two_shapes_are_refused(tiny, tuned):
    other = {**tuned, "embed": tuned["embed"][:-1]}
    with pytest.raises(UserError, match="the aligned model"):
        contrast.repaired(tiny.model, tuned, other, [], [], contrast.Plan())
