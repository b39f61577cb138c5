"""Random masks and the algebra of masks against numpy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxattack.errors import UserError
from jaxattack.localize import masks as masks_module
from jaxattack.localize.masks import (
    block_density,
    complement,
    count,
    density,
    intersection,
    matched_random_mask,
    minus,
    profile,
    random_like,
    random_mask,
    random_within,
    sizes,
    union,
)
from jaxattack.localize.overlap import chance_jaccard, jaccard, null_jaccard
from jaxattack.localize.stitching import stitch
from jaxattack.sharding import make_mesh, place

SHAPES = {
    "embed": (6, 4),
    "final_norm": (4,),
    "layers": {"attention": {"q": (2, 4, 2, 2)}, "mlp": {"down": (2, 6, 4)}},
}
LIKE = jax.tree.map(
    lambda shape: np.zeros(shape, np.float32), SHAPES, is_leaf=lambda x: isinstance(x, tuple)
)
SIZE = 24 + 4 + 32 + 48


def flat(tree):
    return np.concatenate([np.asarray(leaf).reshape(-1) for leaf in jax.tree.leaves(tree)])


def mask_of(bits):
    """A mask like LIKE from the lowest bits of an integer."""
    leaves, structure = jax.tree.flatten(LIKE)
    chosen = np.array([bits >> i & 1 for i in range(SIZE)], bool)
    parts = np.split(chosen, np.cumsum([leaf.size for leaf in leaves])[:-1])
    return jax.tree.unflatten(
        structure, [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
    )


MASKS = st.one_of(st.sampled_from([0, 2**SIZE - 1]), st.integers(0, 2**SIZE - 1)).map(mask_of)


# --- Random masks -------------------------------------------------------------------------------


@given(st.integers(0, 1000), st.floats(0, 1))
def test_random_masks_have_the_exact_count(seed, fraction):
    mask = random_mask(LIKE, fraction, seed)
    assert flat(mask).sum() == int(np.floor(fraction * SIZE + 0.5))


def test_random_masks_are_decided_by_the_seed(assert_trees):
    assert_trees(random_mask(LIKE, 0.4, 3), random_mask(LIKE, 0.4, 3))
    assert not np.array_equal(flat(random_mask(LIKE, 0.4, 3)), flat(random_mask(LIKE, 0.4, 4)))


@pytest.mark.parametrize(("scope", "fraction"), [("global", 0.25), ("leaf", 0.25)])
def test_every_weight_is_as_likely_as_any_other(scope, fraction):
    draws = 300
    hits = sum(flat(random_mask(LIKE, fraction, seed, scope)).astype(int) for seed in range(draws))
    deviation = (hits - draws * fraction) / np.sqrt(draws * fraction * (1 - fraction))
    assert np.abs(deviation).max() < 5
    assert 0.7 < np.std(deviation) < 1.3  # neither fixed places nor clumps


def test_random_masks_of_a_leaf_scope_select_the_share_of_every_tensor():
    mask = random_mask(LIKE, 0.25, 0, scope="leaf")
    assert list(profile(mask).values()) == [6, 1, 4, 4, 6, 6]


def test_draws_of_one_seed_are_independent():
    """Of equal densities everywhere, so that random and matched masks could be the same."""
    like = {"embed": np.zeros((60, 50))}
    mask = random_mask(like, 0.2, 7)
    drawn = [
        mask,
        random_mask(like, 0.2, 7, draw="en"),
        random_mask(like, 0.2, 7, draw="th"),
        random_like(mask, 7),
        random_like(mask, 7, draw="en"),
        matched_random_mask(mask, 7),
        matched_random_mask(mask, 7, draw="en"),
    ]
    assert {count(one) for one in drawn} == {600}
    for a, b in itertools.combinations(drawn, 2):
        low, high = null_jaccard(a, b, z=4.5)
        assert low < jaccard(a, b) < high


@given(MASKS, st.integers(0, 100))
def test_as_many_weights_are_drawn_anywhere(mask, seed):
    assert count(random_like(mask, seed)) == count(mask)


@given(MASKS, st.integers(0, 100))
def test_matched_masks_have_the_counts_of_every_tensor(mask, seed):
    matched = matched_random_mask(mask, seed)
    assert profile(matched) == profile(mask)


def test_matched_masks_are_random():
    mask = mask_of((1 << SIZE // 2) - 1)
    first, again, other = (flat(matched_random_mask(mask, seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    draws = 200
    hits = sum(flat(matched_random_mask(mask, seed)).astype(int) for seed in range(draws))
    shares = [profile(mask)[key] / size for key, size in TENSORS]
    expected = np.concatenate(
        [np.full(size, share) for (_, size), share in zip(TENSORS, shares, strict=True)]
    )
    spread = np.sqrt(draws * expected * (1 - expected))
    np.testing.assert_array_equal(hits[spread == 0], draws * expected[spread == 0])
    deviation = (hits - draws * expected)[spread > 0] / spread[spread > 0]
    assert np.abs(deviation).max() < 5


TENSORS = [
    (("embed", None), 24),
    (("final_norm", None), 4),
    (("attention/q", 0), 16),
    (("attention/q", 1), 16),
    (("mlp/down", 0), 24),
    (("mlp/down", 1), 24),
]


def test_a_share_outside_0_and_1_is_refused():
    with pytest.raises(UserError, match="between 0 and 1, not 20"):
        random_mask(LIKE, 20, 0)


@pytest.mark.parametrize("seed", [-1, 1.5, "a", None, True, 2**31, np.int32(-3), np.True_])
def test_what_is_no_seed_is_refused(seed):
    for draw in (
        lambda: random_mask(LIKE, 0.2, seed),
        lambda: random_like(mask_of(0), seed),
        lambda: random_within(mask_of(0), 0.0, seed),
        lambda: matched_random_mask(mask_of(0), seed),
    ):
        with pytest.raises(
            UserError, match=r"seed is .*; give a whole number from 0 to 2147483647"
        ):
            draw()


@pytest.mark.parametrize("seed", [3, np.int64(3), np.uint8(3), jnp.int32(3)])
def test_whole_numbers_of_any_type_are_seeds(assert_trees, seed):
    assert_trees(random_mask(LIKE, 0.2, seed), random_mask(LIKE, 0.2, 3))


def test_an_unknown_scope_is_refused_of_random_masks_too():
    with pytest.raises(UserError, match="scope is 'tensor'; give one of global, leaf, row"):
        random_mask(LIKE, 0.2, 0, scope="tensor")


# --- Algebra ------------------------------------------------------------------------------------


@given(MASKS, MASKS)
def test_algebra_is_that_of_sets(a, b):
    x, y = flat(a), flat(b)
    np.testing.assert_array_equal(flat(union(a, b)), x | y)
    np.testing.assert_array_equal(flat(intersection(a, b)), x & y)
    np.testing.assert_array_equal(flat(minus(a, b)), x & ~y)
    np.testing.assert_array_equal(flat(complement(a)), ~x)
    assert count(union(a, b)) + count(intersection(a, b)) == count(a) + count(b)
    assert count(minus(a, b)) + count(intersection(a, b)) == count(a)


@given(MASKS, MASKS)
def test_overlap_equals_numpy(a, b):
    x, y = set(np.flatnonzero(flat(a))), set(np.flatnonzero(flat(b)))
    assert density(a) == len(x) / SIZE
    assert jaccard(a, b) == (len(x & y) / len(x | y) if x | y else 1.0)
    assert jaccard(a, b) == jaccard(b, a)
    assert jaccard(a, a) == 1.0
    if x:
        assert jaccard(a, complement(a)) == 0.0


@pytest.mark.parametrize(("p", "q"), [(0.1, 0.1), (0.2, 0.6), (1.0, 0.3), (0.0, 0.5)])
def test_chance_overlap_is_that_of_many_random_masks(p, q):
    pairs = [(random_mask(LIKE, p, seed), random_mask(LIKE, q, 1000 + seed)) for seed in range(40)]
    both = sum(count(intersection(a, b)) for a, b in pairs)
    either = sum(count(union(a, b)) for a, b in pairs)
    assert chance_jaccard(*pairs[0]) == pytest.approx(both / either, abs=0.03)


def test_chance_overlap_worked_by_hand():
    half, third = mask_of((1 << SIZE // 2) - 1), mask_of((1 << SIZE // 3) - 1)
    assert chance_jaccard(half, third) == pytest.approx((1 / 6) / (1 / 2 + 1 / 3 - 1 / 6))
    empty = mask_of(0)
    assert chance_jaccard(empty, empty) == 1.0


@given(MASKS)
def test_the_profile_counts_every_tensor(mask):
    names = ["embed", "final_norm"]
    expected = {(name, None): int(mask[name].sum()) for name in names}
    for layer in range(2):
        expected["attention/q", layer] = int(mask["layers"]["attention"]["q"][layer].sum())
        expected["mlp/down", layer] = int(mask["layers"]["mlp"]["down"][layer].sum())
    assert profile(mask) == expected
    assert count(mask) == flat(mask).sum()


def test_counts_on_a_mesh_are_the_same(mesh8):
    mask = jax.tree.map(jnp.asarray, mask_of(0x5A5A_F0F0_1234_5678_9ABC))
    placed = place(mask, mesh8)
    assert profile(placed) == profile(mask)
    assert jaccard(placed, place(complement(mask), mesh8)) == 0.0


def test_masks_of_different_models_have_no_overlap():
    a = mask_of(1)
    with pytest.raises(UserError, match=r"the first mask does not fit the second: embed"):
        jaccard(a, a | {"embed": a["embed"][:5]})
    for combine in (jaccard, union, intersection, minus):
        with pytest.raises(UserError, match=r"of the first mask lies on cpu:0, and .* on cpu:1; "):
            combine(*(jax.device_put(a, device) for device in jax.devices()[:2]))
        with pytest.raises(
            UserError, match=r"the first mask does not fit the second: embed: .*abs"
        ):
            combine({"final_norm": a["final_norm"]}, a)


def test_sizes_count_every_weight_tensor():
    assert sizes(LIKE) == {
        ("embed", None): 24,
        ("final_norm", None): 4,
        ("attention/q", 0): 16,
        ("attention/q", 1): 16,
        ("mlp/down", 0): 24,
        ("mlp/down", 1): 24,
    }


def test_the_share_of_the_blocks_leaves_embedding_and_head_out():
    mask = mask_of(0) | {"embed": np.ones((6, 4), bool)}
    assert block_density(mask) == 0.0
    assert block_density(complement(mask)) == 1.0
    mask["layers"] = {"attention": {"q": mask["layers"]["attention"]["q"] | True}}
    mask["layers"]["mlp"] = {"down": np.zeros((2, 6, 4), bool)}
    assert block_density(mask) == 32 / (32 + 48)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_what_is_no_mask_is_refused(dtype):
    leaves = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.3, dtype), LIKE)
    for use in (complement, count, lambda mask: stitch(LIKE, LIKE, mask)):
        with pytest.raises(
            UserError, match=rf"a mask is a tree of bools; embed is of .*{dtype.__name__}"
        ):
            use(leaves)


# --- On many devices ----------------------------------------------------------------------------


def test_what_is_drawn_does_not_depend_on_the_mesh(assert_trees):
    like = {"embed": np.zeros((64, 16)), "layers": {"mlp": {"up": np.zeros((2, 16, 32))}}}
    expected = random_mask(like, 0.3, 5)
    for shape in ((1, 1, 1), (1, 2, 1), (1, 8, 1), (2, 2, 2)):
        placed = place(like, make_mesh(shape))
        assert_trees(random_mask(placed, 0.3, 5), expected)


def test_keys_are_drawn_in_parts_where_they_lie():
    mesh = make_mesh((1, 8, 1))
    shapes = (("layers/mlp/up", (4, 256, 512)),)
    whole = 4 * 4 * 256 * 512
    compiled = masks_module._draw_keys.lower(mesh, shapes, 0, np.uint32(1)).compile()
    memory = compiled.memory_analysis()
    assert memory.output_size_in_bytes < whole / 7
    assert memory.temp_size_in_bytes < whole / 2
    assert "all-gather" not in compiled.as_text()


def test_counting_all_weights_makes_none_of_them():
    like = jax.ShapeDtypeStruct((80, 8192, 28672), np.float32)
    assert sizes({"layers": {"mlp": {"up": like}}})["mlp/up", 79] == 8192 * 28672


@pytest.mark.parametrize("scope", ["global", "leaf"])
def test_a_tensor_too_large_to_be_ranked_is_named(scope):
    """BLOOM's embedding of 176B weights; no such array is made."""
    keys = {"embed": jax.ShapeDtypeStruct((250880, 14336), np.int32)}
    with pytest.raises(UserError, match="embed has more than the 2,147,483,647 weights"):
        jax.eval_shape(lambda tree: masks_module._top(tree, 0.2, scope), keys)
