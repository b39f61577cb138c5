"""Overlap of masks by chance, against masks drawn at random."""

import jax
import numpy as np
import pytest

from jaxattack.localize.masks import complement, matched_random_mask, top_fraction
from jaxattack.localize.overlap import chance_jaccard, jaccard, null_jaccard


def test_the_null_of_an_overlap_covers_random_masks_of_these_densities():
    rng = np.random.default_rng(0)
    like = {"embed": np.zeros((40, 30)), "layers": {"mlp": {"down": np.zeros((2, 30, 20))}}}
    # Densities that differ between tensors, so that the uniform chance level is another.
    shares = {"embed": 0.05, "layers": {"mlp": {"down": 0.5}}}

    def draw():
        return jax.tree.map(lambda leaf, share: rng.random(leaf.shape) < share, like, shares)

    a, b = draw(), draw()
    low, high = null_jaccard(a, b)
    drawn = np.array(
        [
            jaccard(matched_random_mask(a, seed), matched_random_mask(b, 999 - seed))
            for seed in range(200)
        ]
    )
    inside = np.mean((low <= drawn) & (drawn <= high))
    assert 0.90 <= inside <= 0.99
    assert low < drawn.mean() < high
    assert high < 0.5 * (1 + chance_jaccard(a, b))
    assert low > chance_jaccard(a, b)


def test_the_null_of_masks_from_few_weights_is_drawn_from_those():
    """Both attacks moved much the same 30 % of the weights."""
    rng = np.random.default_rng(0)
    like = {"embed": np.zeros((40, 30)), "layers": {"mlp": {"down": np.zeros((2, 30, 20))}}}
    ours = jax.tree.map(lambda leaf: rng.random(leaf.shape) < 0.3, like)
    theirs = jax.tree.map(
        lambda m: (m & (rng.random(m.shape) < 0.8)) | (rng.random(m.shape) < 0.05), ours
    )

    def draw(movable, fraction):
        scores = jax.tree.map(lambda m: (rng.random(m.shape) * m).astype(np.float32), movable)
        return top_fraction(scores, fraction, "leaf")

    drawn = np.array([jaccard(draw(ours, 0.1), draw(theirs, 0.2)) for _ in range(200)])
    a, b = draw(ours, 0.1), draw(theirs, 0.2)
    low, high = null_jaccard(a, b, movable=(ours, theirs))
    assert 0.90 <= np.mean((low <= drawn) & (drawn <= high)) <= 0.99
    assert low < drawn.mean() < high
    assert null_jaccard(a, b)[1] < low  # of all weights: every pair would seem to share
    everything = jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), like)
    whole = null_jaccard(a, b, movable=(everything, everything))
    assert whole == pytest.approx(null_jaccard(a, b))


def test_the_null_is_exact_where_there_is_nothing_to_choose():
    like = {"embed": np.zeros((6, 4)), "layers": {"mlp": {"down": np.zeros((2, 6, 4))}}}
    everything = jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), like)
    nothing = complement(everything)
    assert null_jaccard(everything, everything) == (1.0, 1.0)
    assert null_jaccard(everything, nothing) == (0.0, 0.0)
    assert null_jaccard(nothing, nothing) == (1.0, 1.0)
