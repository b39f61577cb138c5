"""Antidote against a loop over matrices with torch's inputs in place of ours, and its two ends."""

import jax
import jax.numpy as jnp
import numpy as np
import papers
import pytest

from jaxattack.defend import antidote
from jaxattack.errors import UserError
from jaxattack.localize import importance


@pytest.fixture(scope="module")
def three(layout, tuned, make_batch):
    """Aligned, attacked, and the norms of what the attacked model's matrices multiply."""
    attacked = tuned(layout.params, 1)
    norms = importance.input_norms(layout.model, attacked, [make_batch(rows=3)])
    return layout.params, attacked, norms


def top(scores, fraction):
    """The share of the largest, counts half up."""
    count = int(np.floor(fraction * scores.size + 0.5))
    chosen = np.zeros(scores.size, bool)
    chosen[np.argsort(-scores.ravel(), kind="stable")[:count]] = True
    return chosen.reshape(scores.shape)


@pytest.mark.parametrize("fraction", [0.1, 0.337])
def test_against_the_definition(fraction, three):
    attacked = three[1]
    before, after, felt = (papers.written(tree) for tree in three)
    update, weights = {}, {}
    for key, new in after.items():
        old, x = before[key], felt[key]
        np.testing.assert_array_equal(x, np.broadcast_to(x[:1], x.shape))  # one for each input
        change = np.float32(new) - np.float32(old)  # as the weights' type has it
        update[key] = np.where(top(np.abs(change) * np.float32(x), fraction), old, new)
        weights[key] = np.where(top(np.abs(np.float32(new)) * np.float32(x), fraction), 0, new)
    papers.check(antidote.removed(*three, fraction), update, attacked, rtol=0, atol=1e-12)
    found = antidote.removed(*three, fraction, of="weights")
    papers.check(found, weights, attacked, rtol=0, atol=1e-12)


def test_none_and_all(three):
    aligned, attacked, _ = three
    papers.same(antidote.removed(*three, fraction=0.0), attacked)
    papers.same(antidote.removed(*three, fraction=0.0, of="weights"), attacked)
    # Whatever the norms are, all that moved and is felt is taken back.
    papers.check(antidote.removed(*three, fraction=1.0), papers.written(aligned), attacked)
    nothing = {key: 0 * matrix for key, matrix in papers.written(aligned).items()}
    papers.check(antidote.removed(*three, fraction=1.0, of="weights"), nothing, attacked)


def test_an_input_that_no_row_has_is_left(three):
    aligned, attacked, norms = three
    unfelt = jax.tree.map(jnp.zeros_like, norms)
    papers.same(antidote.removed(aligned, attacked, unfelt, 1.0), attacked)


def test_types_are_those_of_the_attacked_model(three, tuned):
    aligned, _, norms = three
    half = tuned(aligned, 1, dtype=jnp.bfloat16)
    found = antidote.removed(aligned, half, norms, 1.0)
    rounded = jax.tree.map(lambda w: w.astype(jnp.bfloat16), aligned)
    papers.check(found, papers.written(rounded), half)


def test_what_makes_no_sense_is_refused(three):
    aligned, attacked, norms = three
    with pytest.raises(UserError, match="of is 'both'; give one of update, weights"):
        antidote.removed(*three, of="both")
    with pytest.raises(UserError, match="between 0 and 1"):
        antidote.removed(*three, fraction=1.5)
    other = {**aligned, "embed": aligned["embed"][1:]}
    with pytest.raises(UserError, match="the attacked model does not fit"):
        antidote.removed(aligned, other, norms)
    with pytest.raises(UserError, match="the norms"):
        antidote.removed(aligned, attacked, other)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_trees_that_lie_apart_are_refused(three, elsewhere, which):
    trees = [jax.device_put(each, jax.devices()[0]) for each in three]
    trees[which] = elsewhere(three[which])
    with pytest.raises(UserError, match=r"lies on cpu:0.*; load all onto one mesh"):
        antidote.removed(*trees)
