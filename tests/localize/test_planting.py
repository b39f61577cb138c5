"""Where weights are planted: counts, places, draws."""

import jax
import numpy as np
import pytest

from jaxattack import sharding
from jaxattack.errors import UserError
from jaxattack.localize import masks, overlap, planting

SHAPES = {
    "embed": (30, 8),
    "final_norm": (8,),
    "layers": {
        "attention": {"q": (4, 8, 2, 4)},
        "mlp": {"down": (4, 16, 8), "up": (4, 8, 16)},
        "norm": (4, 8),
    },
}
LIKE = jax.tree.map(
    lambda shape: np.zeros(shape, np.float32), SHAPES, is_leaf=lambda x: isinstance(x, tuple)
)
BLOCKS = 4 * (64 + 128 + 128 + 8)


@pytest.mark.parametrize("place", planting.PLACES)
@pytest.mark.parametrize("share", [0.02, 0.1])
def test_as_many_as_asked_and_all_in_their_place(place, share):
    mask = planting.planted(LIKE, place, share, seed=0)
    assert masks.count(mask) == int(share * BLOCKS + 0.5)
    there = {key for key, count in masks.profile(mask).items() if count}
    assert all(layer is not None for _, layer in there)
    if place == "layer":
        assert {layer for _, layer in there} == {2}
    if place == "module":
        assert {name for name, _ in there} == {"mlp/down"}
    if place == "random" and share == 0.1:
        assert len(there) > 10


@pytest.mark.parametrize("place", ["layer", "module"])
def test_a_place_can_be_taken_whole_and_no_more(place):
    most = {"layer": 0.25, "module": 4 * 128 / BLOCKS}[place]
    pool = planting.PLACES[place](LIKE)
    assert overlap.jaccard(planting.planted(LIKE, place, most, 0), pool) == 1.0
    with pytest.raises(UserError, match=f"do not fit into '{place}', which holds"):
        planting.planted(LIKE, place, most + 0.01, 0)


def test_each_weight_of_a_pool_is_as_likely():
    pool = {"final_norm": np.arange(10) < 6}
    drawn = sum(
        masks.random_within(pool, 0.3, seed)["final_norm"].astype(int) for seed in range(400)
    )
    assert drawn[6:].sum() == 0
    assert drawn.sum() == 400 * 3
    # 200 times each on average, with a standard deviation of 10.
    assert np.all(np.abs(drawn[:6] - 200) < 45)


def test_draws_differ_by_seed_and_place_alone():
    one, again, other = (planting.planted(LIKE, "random", 0.1, seed) for seed in (0, 0, 1))
    assert overlap.jaccard(one, again) == 1.0
    assert overlap.jaccard(one, other) < 0.3
    mesh = sharding.make_mesh((2, 2, 2))
    there = planting.planted(sharding.place(LIKE, mesh), "random", 0.1, 0)
    assert sharding.mesh_of(there) == mesh
    assert all(
        np.array_equal(sharding.to_host(a), sharding.to_host(b))
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(there), strict=True)
    )


def test_the_top_of_the_blocks_is_as_large_and_nowhere_else():
    rng = np.random.default_rng(0)
    scores = jax.tree.map(lambda leaf: rng.random(leaf.shape, np.float32), LIKE)
    scores["embed"] += 10
    mask = planting.top_of_blocks(scores, 0.1)
    assert masks.count(mask) == masks.count(planting.planted(LIKE, "random", 0.1, 0))
    inside = planting.of_blocks(scores)
    expected = masks.top_fraction(inside, 0.1)
    assert overlap.jaccard(planting.of_blocks(mask), expected) == 1.0


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UserError, match="place is 'head'; give one of random, layer, module"):
        planting.planted(LIKE, "head", 0.1, 0)
    with pytest.raises(UserError, match="6 weights are to be drawn, from a pool of 5"):
        masks.random_within({"final_norm": np.arange(10) < 5}, 0.6, 0)


@pytest.mark.parametrize("place", planting.PLACES)
def test_a_place_lies_where_the_parameters_do(place, assert_trees):
    like = sharding.place(LIKE, sharding.make_mesh((1, 8, 1)))
    found = planting.PLACES[place](like)
    assert_trees(found, planting.PLACES[place](LIKE))
    for leaf, own in zip(jax.tree.leaves(found), jax.tree.leaves(like), strict=True):
        assert leaf.sharding.is_equivalent_to(own.sharding, leaf.ndim)
