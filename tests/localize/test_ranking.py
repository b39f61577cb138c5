"""Rankings against their definitions: every threshold, every pair, and a case by hand."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxattack import sharding
from jaxattack.errors import UserError
from jaxattack.localize.ranking import ranked


def average_precision(scores, wanted):
    """The sum over distinct scores, from the highest, of what recall gains times precision."""
    total, before = 0.0, 0.0
    for bound in sorted(set(scores.tolist()), reverse=True):
        chosen = scores >= bound
        recall = (chosen & wanted).sum() / wanted.sum()
        total += (recall - before) * (chosen & wanted).sum() / chosen.sum()
        before = recall
    return total


def auroc(scores, wanted):
    """Over all pairs of a wanted weight and another: 1 if it is above, half if they are equal."""
    one, other = scores[wanted][:, None], scores[~wanted][None]
    return float(((one > other) + 0.5 * (one == other)).mean())


def in_two(values):
    """An array as a tree of two leaves of different ranks."""
    half = len(values) // 2 // 2 * 2
    return {"a": values[:half].reshape(2, -1), "b": values[half:]}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(6, 40), st.sampled_from([2, 5, 10**6]))
def test_against_naive_float64(seed, size, levels):
    rng = np.random.default_rng(seed)
    scores = (rng.integers(0, levels, size) / 7).astype(np.float32)
    wanted = rng.random(size) < 0.4
    wanted[:2] = True, False
    found = ranked(in_two(scores), in_two(wanted))
    assert found.average_precision == pytest.approx(average_precision(scores, wanted), rel=1e-12)
    assert found.auroc == pytest.approx(auroc(scores, wanted), rel=1e-12)
    assert (found.hits[-1], found.seen[-1]) == (wanted.sum(), size)


def test_by_hand():
    # Falling: wanted, not, wanted, not. Precision 1 at half of recall, 2/3 at all; 3 of 4 pairs.
    found = ranked({"w": np.float32([4, 3, 2, 1])}, {"w": np.array([True, False, True, False])})
    assert found.average_precision == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert found.auroc == 0.75


def test_scores_that_say_nothing_are_chance():
    wanted = {"w": np.arange(100) < 30}
    found = ranked({"w": np.zeros(100, np.float32)}, wanted)
    assert (found.average_precision, found.auroc) == (pytest.approx(0.3), 0.5)
    best = ranked({"w": np.float32(wanted["w"])}, wanted)
    assert (best.average_precision, best.auroc) == (1.0, 1.0)


def test_counts_are_exact_where_float32_has_no_more_whole_numbers():
    size = 3 * 10**5  # 2.25e10 pairs
    scores = np.arange(size, dtype=np.float32)
    wanted = np.arange(size) % 2 == 0  # each is below its neighbour: n(n-1)/2 of n^2 pairs
    half = size // 2
    assert ranked({"w": scores}, {"w": wanted}).auroc == (half - 1) / (2 * half)


def test_subnormal_scores_are_no_ties():
    scores = {"w": np.float32([3e-45, 1e-45, 2e-42, 0])}
    assert ranked(scores, {"w": np.array([True, False, True, False])}).auroc == 1.0


def test_the_mesh_has_no_say():
    rng = np.random.default_rng(0)
    scores = {"layers": {"mlp": {"down": rng.random((4, 16, 8), np.float32)}}}
    wanted = {"layers": {"mlp": {"down": rng.random((4, 16, 8)) < 0.2}}}
    here = ranked(scores, wanted)
    mesh = sharding.make_mesh((2, 2, 2))
    there = ranked(*(sharding.place(each, mesh) for each in (scores, wanted)))
    assert (here.average_precision, here.auroc) == (there.average_precision, there.auroc)


@pytest.mark.parametrize("value", [False, True])
def test_nothing_to_tell_apart_is_refused(value):
    with pytest.raises(UserError, match="some of the weights have to be wanted"):
        ranked({"w": np.ones(3, np.float32)}, {"w": np.full(3, value)})


def test_other_shapes_are_refused():
    with pytest.raises(UserError, match="what is wanted does not fit the scores"):
        ranked({"w": np.ones(3, np.float32)}, jax.tree.map(np.asarray, {"w": [True, False]}))


def test_more_scores_than_can_be_counted_are_refused():
    large = {"a": jax.ShapeDtypeStruct((2**16, 2**15), np.float32)}
    with pytest.raises(UserError, match="2,147,483,648 scores"):
        jax.eval_shape(lambda tree: ranked(tree, tree), large)


def test_trees_that_lie_apart_are_refused():
    scores, wanted = {"w": np.ones(3, np.float32)}, {"w": np.array([True, False, True])}
    with pytest.raises(
        UserError, match=r"w of what is wanted lies on cpu:1, and w of the scores on"
    ):
        ranked(*map(jax.device_put, (scores, wanted), jax.devices()))
